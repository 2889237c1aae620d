"""Getting one address by HTTP, within limits that hold whatever the server does.

A redirect is an answer like any other: where it leads is a new URL for the frontier, which is checked for scope,
robots.txt and address like every URL.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from llmdata import __version__, urls
from llmdata.crawl import consent, robots
from llmdata.crawl.address import AddressPolicy, ForbiddenAddressError
from llmdata.crawl.config import CrawlConfig
from llmdata.crawl.watchdog import Exchange, Watchdog

CHUNK = 1 << 16
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_ROBOTS_REDIRECTS = 5
SITEMAP_TYPES = frozenset(
    "application/xml text/xml application/rss+xml application/atom+xml application/gzip application/x-gzip".split()
)
MAX_SITEMAP_BYTES = 50_000_000
"""Limit of the sitemap protocol."""


@dataclass(frozen=True, slots=True)
class Job:
    """A URL from the frontier that is to be fetched."""

    id: int
    url: str
    host: int
    depth: int = 0
    redirects: int = 0
    tries: int = 0
    is_seed: bool = False
    """A seed, or a sitemap that a seed, a sitemap or robots.txt names."""
    via: str = ""


@dataclass(slots=True)
class Answer:
    """What came of a job. `kind` is page, redirect, left_out (with the reason) or error (with the kind of error)."""

    job: Job
    kind: str
    reason: str = ""
    status: int = 0
    location: str = ""
    retry_after: float | None = None
    latency: float = 0.0
    date: str = ""
    request: bytes = b""
    status_line: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    sha1: bytes = b""
    truncated: str = ""
    ip: str = ""
    signals: set[str] = field(default_factory=set)

    @property
    def media_type(self) -> str:
        """Of the (first) Content-Type, in lower case and without parameters; empty if none was sent."""
        declared = next((value for name, value in self.headers if name.lower() == "content-type"), "")
        return declared.partition(";")[0].partition(",")[0].strip().lower()

    @property
    def is_sitemap(self) -> bool:
        """Whether a seed turned out to be a sitemap or feed."""
        return self.job.is_seed and self.media_type in SITEMAP_TYPES


@dataclass(frozen=True, slots=True)
class HostRules:
    """What a host says of crawling. `error` is set if robots.txt could not be had: the host is to be left alone."""

    host: int
    robots: str = ""
    reserved: str = ""
    error: str = ""


class Fetcher:
    """Fetches pages and host rules; any number of threads may use one. Connections are kept and used again."""

    def __init__(self, config: CrawlConfig, policy: AddressPolicy) -> None:
        self._config = config
        self.watchdog = Watchdog()
        self._transport = Transport(policy, self.watchdog, config.max_connections, use_proxies=config.use_proxies)
        self._headers = {
            "User-Agent": user_agent(config),
            "Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.5",
            "Accept-Encoding": "gzip",
        }

    def page(self, job: Job) -> Answer:
        """Fetch `job.url`. Never raises: what goes wrong is in the answer."""
        answer = Answer(job, "error", date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        began = time.monotonic()
        with self.watchdog.exchange(self._config.page_timeout) as exchange:
            try:
                with self._send(job.url) as response:
                    answer.latency = time.monotonic() - began
                    self._read_page(response, answer, exchange)
            except Exception as error:
                answer.kind, answer.reason = "error", "page_timeout" if exchange.expired else kind_of(error)
            answer.ip = "" if self._config.use_proxies else exchange.peer
        answer.latency = answer.latency or time.monotonic() - began
        return answer

    def host_rules(self, host: int, root: str) -> HostRules:
        """robots.txt and tdmrep.json of the host whose address is `root` (`https://example.org`). Never raises."""
        text = ""
        if self._config.robots:
            status, text = self._text(f"{root}/robots.txt")
            # RFC 9309, section 2.3.1: no file allows all, a server in trouble forbids all. 429 is trouble, not absence.
            if status == 0 or status >= 500 or status == 429:
                return HostRules(host, error=f"robots_http_{status}" if status else f"robots_{text}")
            if not 200 <= status < 300:
                text = ""
        reserved = ""
        if "tdm" in self._config.honour:
            status, body = self._text(f"{root}/.well-known/tdmrep.json")
            reserved = body if status == 200 and body.lstrip().startswith("[") else ""
        return HostRules(host, text, reserved)

    def _text(self, url: str) -> tuple[int, str]:
        """Status and text, following redirects; (0, kind of error) if there is no answer."""
        with self.watchdog.exchange(self._config.page_timeout) as exchange:
            try:
                for _ in range(MAX_ROBOTS_REDIRECTS + 1):
                    with self._send(url) as response:
                        target = redirect_target(url, response)
                        if response.status_code not in REDIRECTS or not target:
                            return response.status_code, self._read_text(response)
                    url = target
                return 404, ""  # RFC 9309, section 2.3.1.2: more redirects than five count as no file
            except Exception as error:
                return 0, "page_timeout" if exchange.expired else kind_of(error)

    def _read_text(self, response: requests.Response) -> str:
        data = b""
        while len(data) < robots.MAX_BYTES and (chunk := response.raw.read1(CHUNK, decode_content=True)):
            data += chunk
        return data[: robots.MAX_BYTES].decode("utf-8", "replace")

    def _send(self, url: str) -> requests.Response:
        return self._transport.get(url, self._headers, self._config.timeout)

    def _read_page(self, response: requests.Response, answer: Answer, exchange: Exchange) -> None:
        answer.status = response.status_code
        answer.headers = [(name, value) for name, value in response.raw.headers.items()]
        answer.status_line = f"{response.status_code} {response.reason or ''}".strip()
        answer.request = self._request_bytes(answer.job.url)
        answer.signals = consent.in_headers(answer.headers, self._config.user_agent.lower())
        if response.status_code in REDIRECTS:
            answer.kind, answer.location = "redirect", redirect_target(answer.job.url, response)
            _read_start(response, answer, exchange)
            return
        if response.status_code != 200:
            answer.kind, answer.reason = "error", f"http_{response.status_code}"
            answer.retry_after = retry_after(response.headers.get("Retry-After"))
            _read_start(response, answer, exchange)
            return
        reason = consent.refusal(answer.signals, self._config.honour) or self._wrong_type(answer)
        if reason:
            answer.kind, answer.reason = "left_out", reason
            return
        body = bytearray()
        limit = MAX_SITEMAP_BYTES if answer.is_sitemap else self._config.max_page_bytes
        try:
            while chunk := response.raw.read1(CHUNK, decode_content=False):
                body += chunk
                if len(body) > limit:
                    answer.truncated = "length"
                    del body[limit:]
                    break
        except (urllib3.exceptions.HTTPError, OSError):
            if not exchange.expired or not body:
                raise
        if exchange.expired:  # a shut socket may look like the end of the headers, or of an answer without a length
            if not body:
                raise TimeoutError
            answer.truncated = "time"
        if answer.truncated:
            response.raw.close()
        _keep(answer, body)
        answer.kind = "page"

    def _wrong_type(self, answer: Answer) -> str | None:
        kind = answer.media_type
        if not kind or kind in self._config.content_types or answer.is_sitemap:
            return None
        return "content_type"

    def _request_bytes(self, url: str) -> bytes:
        parsed = urls.parse(url)
        assert parsed is not None
        target = parsed.path + ("" if parsed.query is None else f"?{parsed.query}")
        lines = [f"GET {target} HTTP/1.1", f"Host: {parsed.authority}"]
        lines += [f"{name}: {value}" for name, value in self._headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()


def user_agent(config: CrawlConfig) -> str:
    """As sent: `llmdata/VERSION (+CONTACT)`."""
    agent = f"{config.user_agent}/{__version__}"
    return f"{agent} (+{config.contact})" if config.contact else agent


class Transport(HTTPAdapter):
    """Sends requests; every connection goes to a checked address and is known to the watchdog.

    With `use_proxies`, requests go where HTTP_PROXY, HTTPS_PROXY and NO_PROXY say. It is then the proxy that resolves
    names: addresses behind it cannot be checked here.
    """

    def __init__(
        self, policy: AddressPolicy, watchdog: Watchdog, connections: int, *, use_proxies: bool = False
    ) -> None:
        self._policy, self._watchdog, self._use_proxies = policy, watchdog, use_proxies
        super().__init__(pool_connections=2 * connections, pool_maxsize=16, max_retries=0)

    def get(self, url: str, headers: Mapping[str, str], timeout: float) -> requests.Response:
        """The answer to a GET request, its body unread. Raises what requests and urllib3 raise."""
        request = requests.PreparedRequest()
        request.method, request.url = "GET", url
        request.headers = CaseInsensitiveDict(headers)
        request.hooks = {}
        proxies = requests.utils.get_environ_proxies(url) if self._use_proxies else {}
        # Certificates as for any program that uses requests; no less is checked, unlike with proxies.
        verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        # The adapter alone: a requests.Session would add proxies and passwords from the environment, and cookies.
        return self.send(request, stream=True, timeout=(timeout, timeout), verify=verify, proxies=proxies)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools(self._policy)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        # The user named the proxy, so it may well be on the inner network.
        manager.pool_classes_by_scheme = self._pools(AddressPolicy(allow_private=True))
        return manager

    def _pools(self, policy: AddressPolicy) -> dict[str, type]:
        shared = {"policy": policy, "watchdog": self._watchdog}
        http_connection = type("Connection", (_Checked, HTTPConnection), shared)
        https_connection = type("TLSConnection", (_Checked, HTTPSConnection), shared)
        return {
            "http": type("Pool", (HTTPConnectionPool,), {"ConnectionCls": http_connection}),
            "https": type("TLSPool", (HTTPSConnectionPool,), {"ConnectionCls": https_connection}),
        }


class _Response(http.client.HTTPResponse):
    """Passes over all interim answers (103 Early Hints), as RFC 9110, section 15.2 asks, and not over 100 alone."""

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        return version, http.client.CONTINUE if 101 < status < 200 else status, reason


class _Checked:
    """Mixed into urllib3's connections."""

    response_class = _Response

    policy: AddressPolicy
    watchdog: Watchdog
    host: str
    port: int
    timeout: Any
    socket_options: Any
    sock: Any = None
    _peer = ""

    def _new_conn(self) -> socket.socket:
        self._peer = self.policy.resolve(self.host, self.port)
        timeout = None if self.timeout is urllib3.util.Timeout.DEFAULT_TIMEOUT else self.timeout
        connection = urllib3.util.connection.create_connection(
            (self._peer, self.port), timeout, socket_options=self.socket_options
        )
        self.watchdog.uses(connection, self._peer)
        return connection

    def request(self, *args: Any, **kwargs: Any) -> Any:
        if self.sock is not None:
            self.watchdog.uses(self.sock, self._peer)
        return super().request(*args, **kwargs)  # type: ignore[misc]


def _read_start(response: requests.Response, answer: Answer, exchange: Exchange) -> None:
    """The body of a redirect or error: all if it is short, so that the connection can be used again.

    Whatever is wrong with it, the status has said what counts.
    """
    body = bytearray()
    try:
        while len(body) <= CHUNK and (chunk := response.raw.read1(CHUNK, decode_content=False)):
            body += chunk
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError):
        answer.truncated = "disconnect"
    if len(body) > CHUNK:
        answer.truncated = "length"
        del body[CHUNK:]
    if exchange.expired:
        answer.truncated = "time"
    if answer.truncated:
        response.raw.close()
    _keep(answer, body)


def _keep(answer: Answer, body: bytearray) -> None:
    answer.body = bytes(body)
    answer.sha1 = hashlib.sha1(answer.body, usedforsecurity=False).digest()


def redirect_target(url: str, response: requests.Response) -> str:
    """Where a redirect leads; empty if nowhere."""
    location = response.headers.get("Location", "").strip()
    with contextlib.suppress(UnicodeError):  # http.client reads Latin-1, servers send UTF-8
        location = location.encode("latin-1").decode("utf-8")
    return (urls.join(url, location) or "") if location else ""


def retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value.strip()[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (ForbiddenAddressError, "private_address"),
    (urllib3.exceptions.ProxyError, "proxy"),
    (socket.gaierror, "dns"),
    (ssl.SSLError, "tls"),
    (requests.exceptions.SSLError, "tls"),
    (urllib3.exceptions.SSLError, "tls"),
    (requests.exceptions.InvalidURL, "invalid_url"),
    (urllib3.exceptions.ReadTimeoutError, "timeout"),
    (urllib3.exceptions.ConnectTimeoutError, "timeout"),
    (TimeoutError, "timeout"),
    (requests.exceptions.Timeout, "timeout"),
    (ConnectionRefusedError, "refused"),
    (urllib3.exceptions.IncompleteRead, "incomplete"),
    (http.client.IncompleteRead, "incomplete"),
    (urllib3.exceptions.InvalidChunkLength, "bad_chunks"),
    (ConnectionError, "reset"),
    (http.client.HTTPException, "bad_response"),
    (urllib3.exceptions.HTTPError, "bad_response"),
    (requests.exceptions.RequestException, "bad_response"),
    (OSError, "network"),
    (ValueError, "bad_response"),
)


def kind_of(error: BaseException) -> str:
    """A stable name for what went wrong: the cause that says most, however deep requests and urllib3 wrap it."""
    chain: list[BaseException] = [error]
    for known in chain:  # grows while it is walked
        inner = (known.__cause__, known.__context__, getattr(known, "reason", None), *known.args)
        chain += [one for one in inner if isinstance(one, BaseException) and one not in chain]
    for kind, name in _KINDS:
        if any(isinstance(known, kind) for known in chain):
            return name
    raise error
