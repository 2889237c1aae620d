"""A real server that speaks S3, and fails as often as a test wants it to."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

BUCKET = "corpus"
SECRET = "wJalrXUtnFEMIthisIsTheSecretKey"

Start = Any


@dataclass
class S3:
    """moto's server behind a gate that, at the rate `faults`, answers otherwise than it should.

    The faults: `500`, `503` (SlowDown), `cut` (half of the body, then the connection ends), `reset` (no answer at
    all), `hang` (an answer that does not come until `patience` is over). Seeded, so that a test sees the same again.
    """

    app: Any
    faults: float = 0.0
    kinds: tuple[str, ...] = ("500", "503", "cut", "reset")
    only: str = ""
    """Fail requests of this method alone."""
    patience: threading.Event = field(default_factory=threading.Event)
    seen: Counter[str] = field(default_factory=Counter)
    endpoint: str = ""
    _rng: random.Random = field(default_factory=lambda: random.Random(0))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        with self._lock:
            self.seen[environ["REQUEST_METHOD"]] += 1
            kind = self._rng.choice(self.kinds) if self._rng.random() < self.faults else ""
        if kind and self.only in ("", environ["REQUEST_METHOD"]):
            with self._lock:
                self.seen[kind] += 1
            return self._fail(kind, environ, start)
        answer: Iterable[bytes] = self.app(environ, start)
        return answer

    def _fail(self, kind: str, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if kind in _ERRORS:
            return _error(start, *_ERRORS[kind], head=environ["REQUEST_METHOD"] == "HEAD")
        if kind == "cut" and environ["REQUEST_METHOD"] == "GET":
            environ["wsgi.input"] = None
            body = b"".join(self.app(environ, start))
            return [body[: len(body) // 2]]  # Content-Length promises all of it
        if kind == "hang":
            self.patience.wait(3)
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return []

    def objects(self) -> dict[str, bytes]:
        """What lies in the bucket, key by key."""
        from moto.s3.models import s3_backends

        bucket = s3_backends["123456789012"]["aws"].buckets[BUCKET]
        return {name: key.value for name, key in bucket.keys.items()}

    def uploads(self) -> list[str]:
        """Keys of multipart uploads that nobody has completed or aborted."""
        from moto.s3.models import s3_backends

        bucket = s3_backends["123456789012"]["aws"].buckets[BUCKET]
        return [upload.key_name for upload in bucket.multiparts.values()]

    def environment(self) -> dict[str, str]:
        """What a command needs to find the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


_ERRORS = {"500": ("500 Internal Server Error", "InternalError"), "503": ("503 Slow Down", "SlowDown")}


def _error(start: Start, status: str, code: str, head: bool) -> Iterable[bytes]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
    start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [] if head else [body]


@contextmanager
def s3_server() -> Iterator[S3]:
    """A server on a free port with an empty bucket."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from moto.s3.models import s3_backends
    from werkzeug.serving import WSGIRequestHandler, make_server

    s3_backends.reset()
    gate = S3(DomainDispatcherApplication(create_backend_app))
    server = make_server(
        "127.0.0.1",
        0,
        gate,
        threaded=True,
        request_handler=type("Quiet", (WSGIRequestHandler,), {"log": lambda *_: None}),
    )
    server.log = lambda *_: None  # type: ignore[method-assign]
    gate.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    s3_backends["123456789012"]["aws"].create_bucket(BUCKET, "us-east-1")
    try:
        yield gate
    finally:
        gate.patience.set()
        server.shutdown()
        thread.join()
