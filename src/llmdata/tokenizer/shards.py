"""Second half of tokenizing, as a worker runs it: copy documents from the encoded pieces into a shard; list them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from llmdata.storage.manifest import Manifest, Output, output_of
from llmdata.storage.parquet import read_batches, write_table
from llmdata.storage.place import Place
from llmdata.storage.token_shards import header
from llmdata.tokenizer.encode import ENCODED
from llmdata.tokenizer.placement import ENTRY, SPLITS, Entries

BY_SHARD, BY_PART = f"{ENCODED}/by-shard.entries", f"{ENCODED}/by-part.entries"
_BLOCK = 8_000_000
_OPEN_FILES = 128


@dataclass(frozen=True, slots=True)
class ShardTask:
    """Write the shard `path` of the entries [start, end) of `BY_SHARD`."""

    id: str
    fingerprint: str
    out: str
    path: str
    start: int
    end: int
    tokens: int
    dtype: str
    with_header: bool


@dataclass(frozen=True, slots=True)
class ListTask:
    """Write `path`, the documents of the encoded piece `table`, from the entries [start, end) of `BY_PART`."""

    id: str
    fingerprint: str
    out: str
    path: str
    table: str
    start: int
    end: int
    names: dict[str, list[str]]
    """The paths of each split's shards."""


def run_shard_task(task: ShardTask | ListTask) -> dict[str, int]:
    """Run either kind of task and leave its file and its manifest."""
    out = Place.of(task.out)
    output = _write_shard(task, out) if isinstance(task, ShardTask) else _write_list(task, out)
    Manifest(task.id, task.fingerprint, outputs=[output]).save(out)
    return {"bytes": output.bytes}


def _read_entries(place: Place, start: int, end: int) -> Entries:
    with place.open() as stream:
        stream.seek(start * ENTRY.itemsize)
        return np.frombuffer(stream.read((end - start) * ENTRY.itemsize), dtype=ENTRY)


def _write_shard(task: ShardTask, out: Place) -> Output:
    entries = _read_entries(out / BY_SHARD, task.start, task.end)
    dtype = np.dtype(task.dtype).newbyteorder("<")
    hasher, size = hashlib.sha256(), 0
    with (out / task.path).writer() as stream:
        for block in _blocks(task, out, entries, dtype):
            hasher.update(block)
            size += stream.write(block)
    return Output(task.path, hasher.hexdigest(), size, task.tokens)


def _blocks(task: ShardTask, out: Place, entries: Entries, dtype: np.dtype[Any]) -> Iterator[bytes]:
    if task.with_header:
        yield header(dtype, task.tokens)
    with ExitStack() as stack:
        files = _Files(stack, out)
        for part, offset, length in _runs(entries):
            stream = files.get(f"{ENCODED}/{part:05}.tokens")
            stream.seek(offset * dtype.itemsize)
            left = length * dtype.itemsize
            while left:
                block = stream.read(min(left, _BLOCK))
                if not block:
                    raise OSError(f"{out / ENCODED}/{part:05}.tokens ends too early")
                left -= len(block)
                yield block


def _runs(entries: Entries) -> Iterator[tuple[int, int, int]]:
    """Neighbours that also lie side by side where they come from, as one (part, offset, length)."""
    if not len(entries):
        return
    ends = entries["offset"] + entries["length"]
    breaks = (entries["part"][1:] != entries["part"][:-1]) | (entries["offset"][1:] != ends[:-1])
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    lasts = np.concatenate([starts[1:], [len(entries)]]) - 1
    for start, last in zip(starts.tolist(), lasts.tolist(), strict=True):
        offset = int(entries["offset"][start])
        yield int(entries["part"][start]), offset, int(ends[last]) - offset


class _Files:
    """The encoded pieces in use, the least recently used closed first: a shuffled shard draws from all of them."""

    def __init__(self, stack: ExitStack, out: Place) -> None:
        self._stack, self._out = stack, out
        self._open: OrderedDict[str, tuple[IO[bytes], ExitStack]] = OrderedDict()

    def get(self, path: str) -> IO[bytes]:
        if path in self._open:
            self._open.move_to_end(path)
        else:
            if len(self._open) >= _OPEN_FILES:
                self._open.popitem(last=False)[1][1].close()
            own = self._stack.enter_context(ExitStack())
            self._open[path] = own.enter_context((self._out / path).open()), own
        return self._open[path][0]


def _write_list(task: ListTask, out: Place) -> Output:
    import pyarrow as pa

    entries = _read_entries(out / BY_PART, task.start, task.end)
    names = pa.array([name for split in SPLITS for name in task.names[split]], pa.string())
    first_name = np.array([0, len(task.names[SPLITS[0]])])
    table = pa.Table.from_batches(list(read_batches(out / task.table, ["id", "url"])))
    chosen = table.take(pa.array(entries["row"]))
    columns: dict[str, Any] = {
        "id": chosen.column("id"),
        "url": chosen.column("url"),
        "split": pa.array(list(SPLITS)).take(pa.array(entries["split"])),
        "shard": names.take(pa.array(first_name[entries["split"]] + entries["shard"])),
        "first_token": pa.array(np.ascontiguousarray(entries["first"])),
        "length": pa.array(np.ascontiguousarray(entries["length"])),
    }
    listed = pa.table(columns).combine_chunks()
    rows = write_table(out / task.path, listed.to_batches(), listed.schema)
    return output_of(out, task.path, rows)
