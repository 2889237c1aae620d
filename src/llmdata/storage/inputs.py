"""Whatever a user names as input, as pieces of work: record-aligned parts of files, and the documents in each."""

from __future__ import annotations

import glob
import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from llmdata.document import Document, Rejection
from llmdata.errors import InputError
from llmdata.storage import jsonl, layouts, parquet, warc
from llmdata.storage.compressed import beginning, codec_of, find_member
from llmdata.storage.lock import PRIVATE
from llmdata.storage.place import PARTIAL, Place
from llmdata.storage.source import STAGE

LAYOUTS = ("auto", "warc", "wet", *layouts.LAYOUTS)

_HEAD = 1 << 16
_TABLES = frozenset({"parquet", "jsonl"})
_NAMES = {
    "wat": re.compile(r"\.wat\b", re.IGNORECASE),
    "wet": re.compile(r"\.wet\b", re.IGNORECASE),
    "warc": re.compile(r"\.w?arc\b", re.IGNORECASE),
    "parquet": re.compile(r"\.(parquet|pq)$", re.IGNORECASE),
    "jsonl": re.compile(r"\.(jsonl|ndjson|jsonlines)\b", re.IGNORECASE),
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A record-aligned part of one file: the records that begin in [start, end).

    `start` and `end` are bytes of the file, for Parquet row groups. `size` and `stamp` (see `Place.stamp`) are the
    file's, and tell whether it has changed since.
    """

    path: str
    format: str
    codec: str
    layout: str
    text_column: str
    start: int
    end: int
    size: int
    stamp: str


def plan_pieces(
    inputs: Sequence[str | Place],
    *,
    layout: str = "auto",
    text_column: str | None = None,
    task_bytes: int = 64_000_000,
) -> list[Piece]:
    """The pieces of all `inputs`: files, folders, globs, at any fsspec address.

    `layout` says what the files hold: "warc", "wet", or the columns of a dataset (see `layouts.LAYOUTS`); "auto" finds
    out. Where a file is cut depends only on the file and `task_bytes`. Raises InputError for what is missing, empty,
    mixed or unknown, and for tables without a column of text.
    """
    if layout not in LAYOUTS:
        raise InputError(f"there is no layout {layout!r}; there are: {', '.join(LAYOUTS)}")
    pieces: dict[str, list[Piece]] = {}
    for address in inputs:
        for place, kind in _expand(Place.of(address), layout):
            if str(place) not in pieces:
                pieces[str(place)] = _pieces(place, kind, layout, text_column, max(1, task_bytes))
    if not inputs:
        raise InputError("no input is given; name files, folders or globs")
    return [piece for file in pieces.values() for piece in file]


def refuse_pages(pieces: Sequence[Piece], layout: str, advice: str) -> None:
    """Raise InputError for WARC among `pieces`: pages have no text before it is extracted, and would all be empty."""
    page = next((piece for piece in pieces if piece.format == "warc" and layout != "wet"), None)
    if page is not None:
        raise InputError(f"{page.path}: WARC holds pages, whose text is not extracted yet; {advice}")


def read_piece(piece: Piece) -> Iterator[Document | Rejection]:
    """Every document candidate of `piece`, or why it cannot be one (stage "read")."""
    with Place.of(piece.path).open() as stream:
        if piece.size == 0:
            yield Rejection(Document(file_path=piece.path), STAGE, "empty_file")
        elif piece.format == "parquet":
            yield from parquet.read_rows(stream, piece.start, piece.end, piece.layout, piece.text_column, piece.path)
        elif piece.format == "jsonl":
            yield from jsonl.read_documents(
                stream, piece.codec, piece.start, piece.end, piece.layout, piece.text_column, piece.path
            )
        else:
            yield from warc.read_documents(stream, piece.codec, piece.start, piece.end, piece.path)


def _expand(place: Place, layout: str) -> list[tuple[Place, str]]:
    """The files that an input names, with the kind of each."""
    if place.is_dir():
        # A finished `clean` folder also holds what was rejected and what its passes wrote on the way.
        finished = (place / PRIVATE).exists() and (place / "final").is_dir()
        files = list((place / "final" if finished else place).walk())
    elif place.exists():
        kind = _kind(place)
        if not kind:
            raise InputError(f"{place}: neither WARC, WET, Parquet nor JSON lines")
        return [(place, kind)] if _fits(kind, layout, alone=True) else _refuse(place, kind, layout)
    else:
        files = _glob(place)
        if not files:
            raise InputError(f"{place}: there is no such file or folder, and nothing fits it as a glob")
    kinds = [(file, _kind(file)) for file in files if not file.name.endswith(PARTIAL)]
    found = [(file, kind) for file, kind in kinds if kind and _fits(kind, layout)]
    if not found:
        there = sorted({kind for _, kind in kinds if kind})
        hint = f"; it holds {', '.join(there)}" if there else ""
        wanted = "WARC, WET, Parquet or JSON lines" if layout == "auto" else f"the layout {layout!r}"
        raise InputError(f"{place}: no file of {wanted}{hint}")
    if len(several := sorted({kind for _, kind in found})) > 1:
        example = ", ".join(f"{kind} ({next(file.name for file, its in found if its == kind)})" for kind in several)
        raise InputError(
            f"{place}: several kinds of file: {example}. Pick one with layout (--layout), or name files by a glob."
        )
    return found


def _refuse(place: Place, kind: str, layout: str) -> list[tuple[Place, str]]:
    raise InputError(f"{place}: this is {kind}, which layout {layout!r} is not for")


def _fits(kind: str, layout: str, alone: bool = False) -> bool:
    if layout == "auto" or kind == layout:
        return True
    # WARC and WET are the same format: a file of either that was named by itself is what its owner says it is.
    return layout in layouts.LAYOUTS if kind in _TABLES else alone and layout in ("warc", "wet")


def _glob(place: Place) -> list[Place]:
    if place.fs is None:
        found = [Place(path) for path in sorted(glob.glob(place.path, recursive=True))]
    else:
        found = [Place(str(path), place.fs) for path in sorted(place.fs.glob(place.path))]
    return [file for entry in found for file in (entry.walk() if entry.is_dir() else [entry])]


def _kind(place: Place) -> str:
    """What a file holds, judged by its beginning, or where that says nothing by its name; "" if unknown."""
    if place.fs is None and os.path.exists(place.path) and not os.path.isfile(place.path):
        return ""  # a pipe or device: it cannot be read twice, and may block for ever
    with place.open() as stream:
        head = stream.read(_HEAD)
    named = next((kind for kind, pattern in _NAMES.items() if pattern.search(place.name)), "")
    if head.startswith(b"PAR1"):
        return "parquet"
    text = beginning(head, _HEAD) if codec_of(head) else head
    if text[:5].upper() == b"WARC/" or text.startswith(b"filedesc:"):
        return named if named in ("wat", "wet") else "warc"
    if not named and text.lstrip().startswith(b"{") and ".json" in place.name.lower():
        return "jsonl" if _is_line(text) else ""
    return named


def _is_line(text: bytes) -> bool:
    """Whether JSON begins with one object on a line, as JSON lines do and indented JSON does not."""
    line, newline, _ = text.lstrip().partition(b"\n")
    if not newline:
        return True
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _pieces(place: Place, kind: str, layout: str, text_column: str | None, task_bytes: int) -> list[Piece]:
    size, stamp, path = place.size(), place.stamp(), str(place)
    if not size:
        return [Piece(path, kind, "", "", "", 0, 0, size, stamp)]
    with place.open() as stream:
        codec = codec_of(stream.read(4))
        table = ("", "")
        if kind == "parquet":
            file = parquet.open_parquet(stream, path)
            table = layouts.recognise(file.schema_arrow.names, layout, text_column, path)
            groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
            sizes = [
                sum(group.column(column).total_compressed_size for column in range(group.num_columns))
                for group in groups
            ]
            bounds = _bounds_of_groups(sizes, task_bytes)
        elif kind == "jsonl":
            table = layouts.recognise(_keys(stream, codec, path), layout, text_column, path)
            bounds = [0, size] if codec else [0, *_line_starts(stream, size, task_bytes), size]
        else:
            bounds = [0, *_record_starts(stream, codec, size, task_bytes), size]
    return [Piece(path, kind, codec, *table, start, end, size, stamp) for start, end in itertools.pairwise(bounds)]


def _bounds_of_groups(sizes: list[int], task_bytes: int) -> list[int]:
    bounds, pending = [0], 0
    for group, size in enumerate(sizes, 1):
        pending += size
        if pending >= task_bytes or group == len(sizes):
            bounds.append(group)
            pending = 0
    return bounds


def _keys(stream: IO[bytes], codec: str, path: str) -> list[str]:
    """The keys of the first object in a file of JSON lines."""
    first = jsonl.first_object(stream, codec)
    if first is None:
        raise InputError(f"{path}: no line holds a JSON object")
    return list(first)


def _line_starts(stream: IO[bytes], size: int, task_bytes: int) -> Iterator[int]:
    """Starts of the lines at which a plain file is cut: the first after every `task_bytes`."""
    at = task_bytes
    while at < size:
        stream.seek(at - 1)
        start = at - 1
        while block := stream.read(_HEAD):
            if (newline := block.find(b"\n")) >= 0:
                start += newline + 1
                break
            start += len(block)
        if start >= size:
            return
        yield start
        at = start + task_bytes


def _record_starts(stream: IO[bytes], codec: str, size: int, task_bytes: int) -> Iterator[int]:
    """Starts of the records at which an archive is cut: the first after every `task_bytes`."""
    if size <= task_bytes:
        return
    at = task_bytes
    if not codec:
        # Only the chain of lengths from the beginning tells records from a WARC file captured inside one.
        for record in warc.read_records(stream, "", 0, size, lambda record: False):
            if record.offset >= at:
                yield record.offset
                at = record.offset + task_bytes
        return
    while at < size:
        start = find_member(stream, codec, at, size, chain=True)
        if start is None:
            return
        yield start
        at = start + task_bytes
