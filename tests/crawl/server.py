"""A web server for the tests: pages given as a table, and answers as rude as a raw socket allows."""

from __future__ import annotations

import socketserver
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO

Rude = Callable[[IO[bytes]], None]
"""Writes a whole answer, status line and all, and returns when the connection is to be closed."""
Page = str | tuple[int, dict[str, str], str | bytes] | Rude


class Site:
    """What a test server saw."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked: Counter[str] = Counter()
        self.agents: set[str] = set()
        self.most_at_once = 0
        self.on_request: Callable[[int], None] = lambda number: None
        """Called before request n is answered with 2n, and afterwards with 2n + 1."""
        self.over = threading.Event()
        """Set when the test is over: rude answers that never end wait on it."""
        self._now = 0
        self._lock = threading.Lock()

    def url(self, path: str) -> str:
        return self.address + path

    @contextmanager
    def answering(self, path: str) -> Iterator[None]:
        with self._lock:
            self.asked[path] += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            number = self.asked.total()
        try:
            self.on_request(2 * number)
            yield
            self.on_request(2 * number + 1)
        finally:
            with self._lock:
                self._now -= 1


@contextmanager
def serving(pages: Mapping[str, Page], site: Site | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    """Serve `pages` (path → HTML, or status, headers and body, or a function) on a loopback port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16

        def do_GET(self) -> None:
            with seen.answering(self.path):
                seen.agents.add(self.headers["User-Agent"])
                page = pages.get(self.path, (404, {}, "not here"))
                if callable(page):
                    self.close_connection = True
                    try:
                        page(self.wfile)
                        self.wfile.flush()
                    except OSError:
                        self.wfile = open("/dev/null", "wb")  # noqa: SIM115  the crawler hung up, as it should
                    return
                status, headers, body = (200, {}, page) if isinstance(page, str) else page
                data = body.encode() if isinstance(body, str) else body
                self.send_response(status)
                for name, value in ({"Content-Type": "text/html; charset=utf-8"} | headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # the crawler cuts connections: that is what is tested

    assert issubclass(Server, socketserver.TCPServer)
    with Server(("127.0.0.1", 0), Handler) as server:
        seen = site or Site("")
        seen.address = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield seen
        finally:
            seen.over.set()
            server.shutdown()
            thread.join()


def page(*links: str, text: str = "", head: str = "") -> str:
    """An HTML page with these links."""
    anchors = "".join(f'<p><a href="{link}">{link}</a></p>' for link in links)
    return f"<!doctype html><html><head><title>t</title>{head}</head><body>{text}{anchors}</body></html>"
