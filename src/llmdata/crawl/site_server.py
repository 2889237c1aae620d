"""Serve one folder over HTTP: `site.serve` runs this file as a process of its own.

Standard library alone, and no import of the package, so that it is up in some 50 ms. It answers on a listening socket
that the parent has bound, so there is no moment at which the port is promised but not yet open.
"""

from __future__ import annotations

import ctypes
import functools
import http.server
import mimetypes
import os
import signal
import socket
import sys

PR_SET_PDEATHSIG = 1


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files with their content types and modification times, over kept-alive connections, without a log."""

    protocol_version = "HTTP/1.1"
    server_version = "llmdata"
    sys_version = ""
    # One write for headers and body: two small ones meet Nagle and delayed acknowledgement, 40 ms a page.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".rst": "text/x-rst"}

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class Server(http.server.ThreadingHTTPServer):
    """A crawler that drops a connection is nothing to report."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def main(listener: int, parent: int, folder: str) -> None:
    """Serve `folder` on the socket `listener` until the process `parent` is gone or a signal comes."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before prctl could tell the kernel to tell us
        return
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the parent ends us when it has stopped
    mimetypes.init(files=[])  # Python's own table alone: the same types on every machine
    handler = functools.partial(Handler, directory=folder)
    with socket.socket(fileno=listener) as bound:
        server = Server(bound.getsockname()[:2], handler, bind_and_activate=False)
        server.socket.close()
        server.socket = bound
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
