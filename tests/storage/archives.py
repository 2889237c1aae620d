"""Archives made by hand, sound and odd."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable
from pathlib import Path

import lz4.frame
import zstandard

from llmdata.document import Document, Rejection
from llmdata.storage.inputs import plan_pieces, read_piece

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gz": lambda data: gzip.compress(data, mtime=0),
    "zst": zstandard.compress,
    "lz4": lambda data: lz4.frame.compress(data, content_checksum=True),
}

PAGE = b"<html><body><p>Hello.</p></body></html>"


def http(body: bytes = PAGE, status: str = "200 OK", **headers: str) -> bytes:
    fields = {"content_type": "text/html; charset=utf-8", **headers}
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def record(block: bytes, kind: str = "response", number: int = 1, newline: bytes = b"\r\n", **headers: str) -> bytes:
    fields = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:00000000-0000-0000-0000-{number:012d}>",
        "WARC-Target-URI": f"http://example.com/{number}",
        "WARC-Date": "2024-05-18T01:58:10Z",
        "Content-Type": "application/http; msgtype=response",
        "Content-Length": str(len(block)),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [b"WARC/1.0", *(f"{name}: {value}".encode() for name, value in fields.items() if value)]
    return newline.join(lines) + 2 * newline + block + 2 * newline


def archive(records: Iterable[bytes], codec: str = "gz") -> bytes:
    return b"".join(map(COMPRESS[codec], records))


def read(
    path: Path | str, *, task_bytes: int = 64_000_000, layout: str = "auto", text_column: str | None = None
) -> list[Document | Rejection]:
    pieces = plan_pieces([str(path)], task_bytes=task_bytes, layout=layout, text_column=text_column)
    return [item for piece in pieces for item in read_piece(piece)]


def read_warc(
    folder: Path, data: bytes, task_bytes: int = 64_000_000, name: str = "a.warc"
) -> list[Document | Rejection]:
    (folder / name).write_bytes(data)
    return read(folder / name, task_bytes=task_bytes)


def reasons(items: Iterable[Document | Rejection]) -> list[str]:
    """What became of each: "kept", or the reason."""
    return [item.reason if isinstance(item, Rejection) else "kept" for item in items]


def ids(items: Iterable[Document | Rejection]) -> list[str]:
    return [(item.document if isinstance(item, Rejection) else item).id[-4:] for item in items]
