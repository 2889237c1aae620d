"""JSON lines, plain or compressed: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

from llmdata.document import Document, Rejection
from llmdata.errors import InputError
from llmdata.storage.compressed import Damage, Reader, codec_of
from llmdata.storage.layouts import to_document
from llmdata.storage.place import Place
from llmdata.storage.source import STAGE, digest_id

MAX_LINE = 256_000_000
"""No line may be longer; FineWeb's longest is some 10 MB."""


def read_documents(
    raw: IO[bytes], codec: str, start: int, end: int, layout: str, text_column: str, path: str
) -> Iterator[Document | Rejection]:
    """One item for each line that is not blank and begins in [start, end); offsets count decompressed bytes."""
    for offset, line, problem in _lines(raw, codec, start):
        if not codec and offset >= end:
            return
        item_id = digest_id(path, offset)
        if problem:
            yield Rejection(
                Document(id=item_id, file_path=path),
                STAGE,
                problem,
                f"offset {offset}: {line.decode('utf-8', 'replace')}",
            )
        elif line.strip():
            yield _document(line, layout, text_column, path, item_id, offset)


def first_object(raw: IO[bytes], codec: str) -> dict[str, Any] | None:
    """The first line that holds a JSON object."""
    for _, line, problem in _lines(raw, codec, 0):
        if not problem:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                return row
    return None


def _document(line: bytes, layout: str, text_column: str, path: str, item_id: str, offset: int) -> Document | Rejection:
    try:
        row: Any = json.loads(line)
        if isinstance(row, dict):
            return to_document(row, layout, text_column, path, item_id)
        problem = f"a JSON {type(row).__name__}, not an object"
    except (ValueError, RecursionError) as error:
        problem = str(error)
    return Rejection(Document(id=item_id, file_path=path), STAGE, "bad_record", f"offset {offset}: {problem}")


def _lines(raw: IO[bytes], codec: str, start: int) -> Iterator[tuple[int, bytes, str]]:
    """Offset and content of every line, or of what cannot be read and why."""
    reader = Reader(raw, codec, start)
    offset, length = start, 0
    lines: list[bytes] = []
    try:
        while reader.next_member():
            while chunk := reader.take(1 << 20):
                *whole, rest = chunk.split(b"\n")
                for part in whole:
                    length += len(part) + 1
                    yield _finish(offset, [*lines, part], length)
                    offset += length
                    lines, length = [], 0
                length += len(rest)
                lines = [*lines, rest] if length <= MAX_LINE else []
    except Damage as damage:
        yield offset, f"{damage.detail} (member at {damage.offset})".encode(), damage.reason
        return
    if length:
        yield _finish(offset, lines, length)


def _finish(offset: int, parts: list[bytes], length: int) -> tuple[int, bytes, str]:
    if length > MAX_LINE:
        return offset, f"a line of {length} bytes".encode(), "too_large"
    return offset, b"".join(parts), ""


def read_lines(place: Place) -> Iterator[bytes]:
    """The lines of a file of text, plain or compressed; raises InputError where it is damaged."""
    with place.open() as stream:
        codec = codec_of(stream.read(4))
        stream.seek(0)
        for offset, line, problem in _lines(stream, codec, 0):
            if problem:
                raise InputError(f"{place}: offset {offset}: {problem}: {line.decode('utf-8', 'replace')}")
            yield line
