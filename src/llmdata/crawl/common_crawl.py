"""Files and single captures of Common Crawl, or of any archive laid out and served like it.

Whole files (WARC, WAT, WET, index) come by HTTP with resume: what has arrived is not fetched again, not after a cut
connection and not after `kill -9`. Captures of one domain are looked up in a CDX server, and only their bytes are
fetched, each a gzip member of its own in the archive that holds it.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlencode

from llmdata import urls
from llmdata.crawl import records
from llmdata.crawl.config import CrawlConfig
from llmdata.crawl.download import Client, FailedError, settle
from llmdata.engine.session import Session
from llmdata.errors import ConfigError, InputError
from llmdata.storage import manifest
from llmdata.storage.place import Place

DATA = "https://data.commoncrawl.org/"
INDEX = "https://index.commoncrawl.org/"
CAPTURES_A_FILE = 200
"""A look-up that is killed fetches at most so many captures anew."""

_CRAWL = re.compile(r"CC-MAIN-\d{4}-\d{2}")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_NAME = "common crawl"


@dataclass(slots=True)
class Fetched:
    """What there is now. `captures` is 0 for whole files; `left_out` and `errors` count captures by reason.

    `fetched` of the files are new.
    """

    files: int = 0
    captures: int = 0
    bytes: int = 0
    fetched: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)


def fetch_files(
    config: CrawlConfig, source: str, out: Place, session: Session, *, limit: int | None = None, rerun: bool = False
) -> Fetched:
    """Fetch the files that `source` lists into the local folder `out`, at most `limit` of them.

    `source` is a list of paths (`warc.paths.gz`, `wet.paths`: a local file or an address), a crawl's name
    (`CC-MAIN-2024-10`, which stands for its WARC files), or the address of one file. Files that are there are not
    fetched again. Raises ConfigError, and InputError if some cannot be had, after all others have been fetched.
    """
    _prepare(out, rerun)
    source = f"{DATA}crawl-data/{source}/warc.paths.gz" if _CRAWL.fullmatch(source) else source
    is_address = source.startswith(("http://", "https://"))
    client = Client(config, session, [source] if is_address else [])
    addresses = _addresses(client, source, is_address)[:limit]
    if not is_address:  # the user's own list may name servers on this machine; one from the network may not
        client = Client(config, session, addresses)
    client.check_contact(addresses)
    done, failed = Fetched(files=len(addresses)), []
    session.progress.start(_NAME, len(addresses), "files")
    for address, name in zip(addresses, _names(addresses), strict=True):
        session.stop.check()
        fingerprint = manifest.digest({"address": address})
        known = manifest.finished(out, name, fingerprint)
        if known is None:
            try:
                client.download(address, out.local() / name)
            except FailedError as error:
                failed.append(f"{address}: {error.reason}")
                session.progress.note(failed[-1])
                continue
            known = manifest.Manifest(name, fingerprint, [{"address": address}], [manifest.output_of(out, name, 0)])
            known.save(out)
            settle(out.local() / name)
            done.fetched += 1
        done.bytes += known.outputs[0].bytes
        session.progress.advance(_NAME, 1, MB=round(done.bytes / 1e6, 1))
    if failed:
        raise InputError(
            f"{len(failed)} of {len(addresses)} files could not be had; the same command tries them again. "
            f"The first: {failed[0]}"
        )
    return _finish(done, out, session)


def fetch_domain(
    config: CrawlConfig,
    index: str,
    domain: str,
    out: Place,
    session: Session,
    *,
    limit: int | None = None,
    rerun: bool = False,
) -> Fetched:
    """Fetch captures of `domain` and the names below it, at most `limit`, as archives in the local folder `out`.

    `index` is a crawl's name (`CC-MAIN-2024-10`) or the address of a CDX server (pywb's API). The paths that it
    answers lie below Common Crawl's address for data; for another server, below the folder of `index`. Pages alone are
    taken (status 200, `config.content_types`), and of captures with the same URL and digest the first. Captures that
    cannot be had are counted by reason. Raises ConfigError, and InputError if the index has nothing or no answer.
    """
    if not _DOMAIN.fullmatch(domain):
        raise ConfigError(f"--domain {domain!r}: this has to be a domain, such as example.org")
    label, data = manifest.digest(index)[:8], f"{index.split('?')[0].rpartition('/')[0]}/"
    if _CRAWL.fullmatch(index):
        label, data, index = index, DATA, f"{INDEX}{index}-index"
    elif not index.startswith(("http://", "https://")):
        raise ConfigError(f"{index}: --domain needs a crawl such as CC-MAIN-2024-10, or the address of a CDX server")
    elif index.startswith(INDEX):
        data = DATA
    _prepare(out, rerun)
    client = Client(config, session, [index, data])
    listed = out / f"{domain}-{label}.cdxj"
    if not listed.exists():
        with listed.writer() as stream:
            for line in _look_up(client, index, domain):
                stream.write(line + b"\n")
    done = Fetched()
    left_out: Counter[str] = Counter()
    wanted = list(_wanted(listed, config, left_out))[:limit]
    done.left_out = dict(left_out)
    session.progress.start(_NAME, len(wanted), "captures")
    for first in range(0, len(wanted), CAPTURES_A_FILE):
        session.stop.check()
        batch = wanted[first : first + CAPTURES_A_FILE]
        name = f"{domain}-{label}-{first // CAPTURES_A_FILE:05d}.warc.gz"
        fingerprint = manifest.digest({"data": data, "captures": batch})
        known = manifest.finished(out, name, fingerprint)
        if known is None:
            errors = _fetch_captures(client, data, batch, out / name, f"captures of {domain} in {index}")
            output = manifest.output_of(out, name, len(batch) - sum(errors.values()))
            known = manifest.Manifest(name, fingerprint, [{"index": index}], [output], {"errors": dict(errors)})
            known.save(out)
            done.fetched += 1
        done.errors = dict(Counter(done.errors) + Counter(known.counts["errors"]))
        done.files += 1
        done.captures += known.outputs[0].rows
        done.bytes += known.outputs[0].bytes
        session.progress.advance(_NAME, len(batch), MB=round(done.bytes / 1e6, 1), errors=sum(done.errors.values()))
    return _finish(done, out, session)


def _prepare(out: Place, rerun: bool) -> None:
    """Refuse a folder that holds a crawl of websites; forget what is there for `rerun`."""
    if (out / "frontier.sqlite").exists():
        raise ConfigError(f"{out} holds a crawl of websites: choose another folder for files of Common Crawl")
    if rerun:
        for known in list(manifest.manifests(out)):
            manifest.forget(out, known.task)
            for output in known.outputs:
                (out / output.path).remove()
        for listed in out.children("*.cdxj"):
            listed.remove()


def _finish(done: Fetched, out: Place, session: Session) -> Fetched:
    (out / "crawl.json").write_json(asdict(done))
    manifest.save_stamp(out, "crawl", {"finished": True})
    session.progress.finish(_NAME, MB=round(done.bytes / 1e6, 1), errors=sum(done.errors.values()))
    return done


def _addresses(client: Client, source: str, is_address: bool) -> list[str]:
    """Addresses of the files that `source` lists, or is."""
    base = DATA
    if is_address:
        path = source.split("?")[0]
        if not path.endswith(("paths", "paths.gz")):
            return [source]
        base = source.split("crawl-data/")[0] if "crawl-data/" in path else f"{path.rpartition('/')[0]}/"
        try:
            data = client.get(source)
        except FailedError as error:
            raise InputError(f"{source}: {error.reason}") from None
    else:
        data = Place.of(source).read_bytes()
    try:
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{source}: not a list of paths: {error}") from None
    found = [urls.join(base, line) for line in text.split()]
    addresses = [address for address in found if address is not None]
    if not addresses or len(addresses) < len(found) or "<" in text:
        raise InputError(f"{source}: not a list of paths, one a line, such as Common Crawl's warc.paths.gz")
    return addresses


def _names(addresses: list[str]) -> list[str]:
    """A file name for each address: its last part, with those before it where two would be the same."""
    paths = [address.split("?")[0].split("://", 1)[-1].strip("/").split("/") for address in addresses]
    last = Counter(path[-1] for path in paths)
    return [path[-1] if last[path[-1]] == 1 else "-".join(path) for path in paths]


def _look_up(client: Client, index: str, domain: str) -> Iterator[bytes]:
    """All lines of the index on `domain` and the names below it, page by page."""
    query = {"url": domain, "matchType": "domain", "output": "json"}
    try:
        counted = _page_count(client.get(f"{index}?{urlencode({**query, 'showNumPages': 'true'})}"))
    except FailedError as error:
        if not error.reason.startswith("http_4"):  # a server without pages says that the question is wrong
            raise InputError(f"{index}: {error.reason}") from None
        counted = None
    found = 0
    for page in [{}] if counted is None else [{"page": str(page)} for page in range(counted)]:
        try:
            body = client.get(f"{index}?{urlencode({**query, **page})}")
        except FailedError as error:
            if error.reason == "http_404":  # no captures
                continue
            raise InputError(f"{index}: {error.reason}") from None
        for line in filter(None, map(bytes.strip, body.splitlines())):
            _entry(line, index)
            found += 1
            yield line
    if not found:
        raise InputError(f"{index} has no captures of {domain}")


def _page_count(body: bytes) -> int | None:
    """Of the answer to `showNumPages`: a number, or {"pages": 3, …}."""
    try:
        answer = json.loads(body)
    except ValueError:
        return None
    pages = answer.get("pages") if isinstance(answer, dict) else answer
    return pages if isinstance(pages, int) else None


def _entry(line: bytes, index: object) -> dict[str, Any]:
    """One capture; the line is JSON alone, or CDXJ, which ends in it."""
    try:
        entry = json.loads(line[line.index(b"{") :])
    except ValueError:
        raise InputError(f"{index}: not the answer of a CDX server: {line[:80]!r}") from None
    return {str(key): str(value) for key, value in entry.items()}


def _wanted(listed: Place, config: CrawlConfig, left_out: Counter[str]) -> Iterator[dict[str, str]]:
    seen: set[tuple[str, str]] = set()
    with listed.open() as stream:
        for line in stream:
            entry = _entry(line, listed)
            types = {entry.get("mime"), entry.get("mime-detected")}
            key = (entry.get("url", ""), entry.get("digest", ""))
            if not entry.get("filename") or not all(entry.get(name, "").isdigit() for name in ("offset", "length")):
                left_out["bad_index_line"] += 1
            elif entry.get("status") != "200":
                left_out["status"] += 1
            elif types.isdisjoint(config.content_types):
                left_out["content_type"] += 1
            elif key in seen:
                left_out["duplicate"] += 1
            else:
                seen.add(key)
                yield {name: entry[name] for name in ("filename", "offset", "length")} | {"url": key[0]}


def _fetch_captures(
    client: Client, data: str, batch: list[dict[str, str]], place: Place, description: str
) -> Counter[str]:
    """Write one archive of captures; returns how many could not be had, by reason."""
    errors: Counter[str] = Counter()
    with place.writer() as stream:
        stream.write(records.warcinfo(place.name, {"description": description}))
        for entry in batch:
            try:
                stream.write(client.record(data + entry["filename"], int(entry["offset"]), int(entry["length"])))
            except FailedError as error:
                errors[error.reason] += 1
                client.session.progress.note(f"{entry['url']}: {error.reason}")
    return errors
