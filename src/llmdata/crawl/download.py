"""Getting files and parts of files by HTTP from one server at a time, with resume and retries."""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import requests
import urllib3

from llmdata import urls
from llmdata.crawl import politeness
from llmdata.crawl.address import AddressPolicy, is_loopback_name
from llmdata.crawl.config import CrawlConfig
from llmdata.crawl.fetch import CHUNK, REDIRECTS, Transport, kind_of, redirect_target, retry_after, user_agent
from llmdata.crawl.watchdog import Watchdog
from llmdata.engine.session import Session
from llmdata.errors import ConfigError
from llmdata.storage.place import Place, disk_full_is_resumable

PART = ".part"
"""Suffix of a file that is still arriving; `.part.json` beside it says which version of which file it is."""
MAX_RECORD = 100_000_000
"""Bytes of one packed capture: a hundred times Common Crawl's largest."""
MAX_BODY = 1_000_000_000
MAX_REDIRECTS = 5

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_TEMPORARY = politeness.TRY_AGAIN | {403}  # Common Crawl answers 403 to who asks too fast
_FINAL = frozenset({"private_address", "tls", "invalid_url"})


class FailedError(Exception):
    """Not to be had; `reason` is a kind of error as a crawl counts them."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Client:
    """One connection at a time, waiting and trying again where the server is in trouble.

    Raises ConfigError if `addresses` are beyond this machine and there is no contact; loopback is allowed for the
    hosts and ports that the user named.
    """

    def __init__(self, config: CrawlConfig, session: Session, named: Iterable[str]) -> None:
        self.session = session
        self._config = config
        self._headers = {"User-Agent": user_agent(config), "Accept-Encoding": "identity"}
        named = list(named)
        self.check_contact(named)
        loopback = {
            (url.host.strip("[]"), int(url.port or urls.DEFAULT_PORTS[url.scheme]))
            for url in map(urls.parse, named)
            if url is not None and is_loopback_name(url.host)
        }
        policy = AddressPolicy(config.allow_private, frozenset(loopback))
        self._transport = Transport(policy, Watchdog(), 1, use_proxies=config.use_proxies)

    def check_contact(self, addresses: Iterable[str]) -> None:
        """Raise ConfigError if any of the addresses is beyond this machine and there is no contact."""
        hosts = filter(None, map(urls.host, addresses))
        beyond = next((host for host in hosts if not is_loopback_name(host)), None)
        if self._config.contact is None and beyond:
            raise ConfigError(
                f"fetching from {beyond} needs a contact, so that its operators can reach you: "
                "--contact you@example.org"
            )

    def get(self, url: str) -> bytes:
        """The whole body of an answer with status 200. Raises FailedError."""
        bodies: list[bytes] = []
        self._try(url, dict, lambda response: bodies.append(_body(response, MAX_BODY)))
        return bodies[-1]

    def record(self, url: str, offset: int, length: int) -> bytes:
        """The `length` bytes at `offset` of a file. Raises FailedError, also if they are not one whole gzip record."""
        if not 0 < length <= MAX_RECORD:
            raise FailedError("bad_index_line")
        wanted = f"{offset}-{offset + length - 1}"
        members: list[bytes] = []

        def take(response: requests.Response) -> None:
            answered = response.headers.get("Content-Range", "")
            if response.status_code != 206 or not answered.startswith(f"bytes {wanted}/"):
                raise FailedError("no_byte_ranges")
            members.append(_body(response, length))

        self._try(url, lambda: {"Range": f"bytes={wanted}"}, take)
        if not _is_record(members[-1]):
            raise FailedError("bad_record")
        return members[-1]

    def download(self, url: str, path: Path) -> None:
        """Fetch a whole file. What an earlier attempt left in `PATH.part` is kept if the server still has the same.

        Call `settle` when it is on record that the file is there. Raises FailedError.
        """
        part, mark = Path(f"{path}{PART}"), _mark(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and mark.exists() and Place.of(mark).read_json()["url"] == url:
            return  # killed before it was on record

        def there() -> int:
            return part.stat().st_size if part.exists() else 0

        def resume() -> dict[str, str]:
            if not there() or not mark.exists():
                return {}
            known = Place.of(mark).read_json()
            if known["url"] != url or not known["validator"]:
                return {}
            return {"Range": f"bytes={there()}-", "If-Range": known["validator"]}

        def take(response: requests.Response) -> None:
            start, total = 0, _number(response.headers.get("Content-Length"))
            if response.status_code == 416:  # the part is as long as the file already, or the file is another now
                if _number(response.headers.get("Content-Range", "").rpartition("/")[2]) != there():
                    mark.unlink(missing_ok=True)
                    raise ConnectionError("the file has changed")
                return
            if response.status_code == 206:
                match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
                if match is None or int(match[1]) != there():
                    raise FailedError("no_byte_ranges")
                start, total = int(match[1]), _number(match[3])
            else:
                mark.unlink(missing_ok=True)  # before the old part is overwritten: it must not vouch for the new one
            with disk_full_is_resumable(str(part)), part.open("r+b" if start else "wb") as stream:
                if not start:
                    Place.of(mark).write_json({"url": url, "validator": _validator(response)})
                stream.seek(start)
                while chunk := response.raw.read1(CHUNK, decode_content=False):
                    start += stream.write(chunk)
                    self.session.stop.check()
                stream.flush()
                os.fsync(stream.fileno())
            if total is not None and start != total:
                raise urllib3.exceptions.IncompleteRead(start, total - start)

        self._try(url, resume, take, there)
        part.rename(path)

    def _try(
        self,
        url: str,
        headers: Callable[[], Mapping[str, str]],
        take: Callable[[requests.Response], None],
        there: Callable[[], int] = int,
    ) -> None:
        """Have `take` take the answer; again as often as the settings allow attempts after which no more is `there`."""
        failures, before, hops = 0, there(), 0
        while True:
            self.session.stop.check()
            wait = 0.0
            try:
                with self._transport.get(url, {**self._headers, **headers()}, self._config.timeout) as response:
                    if response.status_code in REDIRECTS and hops < MAX_REDIRECTS:
                        target = redirect_target(url, response)
                        if not target:
                            raise FailedError("redirect_no_location")
                        self.check_contact([target])
                        url, hops = target, hops + 1
                        continue
                    if response.status_code in (200, 206, 416):
                        take(response)
                        return
                    reason = f"http_{response.status_code}"
                    if response.status_code not in _TEMPORARY:
                        raise FailedError(reason)
                    wait = retry_after(response.headers.get("Retry-After")) or 0.0
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                reason = kind_of(error)
                if reason in _FINAL:
                    raise FailedError(reason) from None
            failures, before = 0 if there() > before else failures, there()
            if failures >= self._config.retries or wait > self._config.max_backoff:
                raise FailedError(reason)
            self._pause(max(wait, politeness.pause(self._config, failures)))
            failures += 1

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.session.stop.check()
            time.sleep(min(left, 0.2))


def settle(path: Path) -> None:
    """Forget how `path` came, now that it is on record."""
    _mark(path).unlink(missing_ok=True)


def _mark(path: Path) -> Path:
    return Path(f"{path}{PART}.json")


def _body(response: requests.Response, limit: int) -> bytes:
    """A body that fits in memory, whole."""
    data = bytearray()
    while chunk := response.raw.read1(CHUNK, decode_content=False):
        data += chunk
        if len(data) > limit:
            raise FailedError("too_long")
    expected = _number(response.headers.get("Content-Length"))
    if expected is not None and expected != len(data):
        raise urllib3.exceptions.IncompleteRead(len(data), expected - len(data))
    return bytes(data)


def _is_record(member: bytes) -> bool:
    """Whether these bytes are one whole gzip member that holds a WARC record."""
    unpacker = zlib.decompressobj(31)
    try:
        start = unpacker.decompress(member, CHUNK)
        while not unpacker.eof and unpacker.unconsumed_tail:
            unpacker.decompress(unpacker.unconsumed_tail, CHUNK)
    except zlib.error:
        return False
    return unpacker.eof and not unpacker.unused_data and start.startswith(b"WARC/")


def _validator(response: requests.Response) -> str:
    """What tells that the file is still the same, for If-Range; a weak ETag does not."""
    etag: str = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
