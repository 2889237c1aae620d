"""Second half of tokenizing, as a worker runs it: copy documents from the encoded pieces into a shard; list them.

A shard of llm.c's has a header, those of nanoGPT and Megatron-LM are the tokens alone, the latter with an index beside
it, and Parquet has a row for each document.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from llmdata.storage.manifest import Manifest, Output, output_of
from llmdata.storage.parquet import read_batches, write_table
from llmdata.storage.place import Place
from llmdata.storage.token_shards import header, megatron_index
from llmdata.tokenizer.encode import ENCODED
from llmdata.tokenizer.placement import ENTRY, SPLITS, Entries

if TYPE_CHECKING:
    import pyarrow as pa

BY_SHARD, BY_PART = f"{ENCODED}/by-shard.entries", f"{ENCODED}/by-part.entries"
_BLOCK = 8_000_000
_GROUP_TOKENS = 4_000_000
"""Tokens in a row group of Parquet, about."""
_OPEN_FILES = 128


@dataclass(frozen=True, slots=True)
class ShardTask:
    """Write the shard `path` of the entries [start, end) of `BY_SHARD`, in `format`."""

    id: str
    fingerprint: str
    out: str
    path: str
    start: int
    end: int
    tokens: int
    dtype: str
    format: str

    @property
    def beside(self) -> str:
        """The index of a shard of Megatron-LM's."""
        return self.path.removesuffix(".bin") + ".idx"


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
    """Run either kind of task and leave its files and its manifest."""
    out = Place.of(task.out)
    outputs = _write_shard(task, out) if isinstance(task, ShardTask) else [_write_list(task, out)]
    Manifest(task.id, task.fingerprint, outputs=outputs).save(out)
    return {"bytes": sum(output.bytes for output in outputs)}


def _read_entries(place: Place, start: int, end: int) -> Entries:
    with place.open() as stream:
        stream.seek(start * ENTRY.itemsize)
        return np.frombuffer(stream.read((end - start) * ENTRY.itemsize), dtype=ENTRY)


def _write_shard(task: ShardTask, out: Place) -> list[Output]:
    entries = _read_entries(out / BY_SHARD, task.start, task.end)
    dtype = np.dtype(task.dtype).newbyteorder("<")
    if task.format == "parquet":
        return [_write_rows(task, out, entries, dtype)]
    hasher, size = hashlib.sha256(), 0
    with (out / task.path).writer() as stream:
        for block in itertools.chain(_head(task, dtype), _blocks(out, entries, dtype)):
            hasher.update(block)
            size += stream.write(block)
    outputs = [Output(task.path, hasher.hexdigest(), size, task.tokens)]
    if task.format == "megatron":
        (out / task.beside).write_bytes(megatron_index(dtype, entries["length"]))
        outputs.append(output_of(out, task.beside, len(entries)))
    return outputs


def _head(task: ShardTask, dtype: np.dtype[Any]) -> list[bytes]:
    return [header(dtype, task.tokens)] if task.format == "llmc" else []


def _blocks(out: Place, entries: Entries, dtype: np.dtype[Any]) -> Iterator[bytes]:
    """The tokens of `entries`, one after the other."""
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


def _write_rows(task: ShardTask, out: Place, entries: Entries, dtype: np.dtype[Any]) -> Output:
    """A row for each document: id, url and tokens."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = _names(out, entries)
    kind = pa.list_(pa.from_numpy_dtype(dtype))
    schema = pa.schema([*names.schema, pa.field("tokens", kind)])
    groups = np.cumsum(entries["length"]) // _GROUP_TOKENS
    starts = np.flatnonzero(np.diff(groups, prepend=-1)).tolist()
    with (
        (out / task.path).writer() as stream,
        # A dictionary of token ids would save nothing that zstd does not.
        pq.ParquetWriter(stream, schema, compression="zstd", use_dictionary=False) as writer,
    ):
        for start, end in itertools.pairwise([*starts, len(entries)]):
            ids = np.frombuffer(b"".join(_blocks(out, entries[start:end], dtype)), dtype)
            bounds = np.concatenate([[0], np.cumsum(entries["length"][start:end])])
            tokens = pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), pa.array(ids), type=kind)
            rows = names.slice(start, end - start).append_column("tokens", tokens)
            writer.write_table(rows.combine_chunks(), row_group_size=end - start)
    return replace(output_of(out, task.path, 0), rows=task.tokens)


def _names(out: Place, entries: Entries) -> pa.Table:
    """Id and url of each of `entries`: of every encoded piece in turn, then put in their order."""
    import pyarrow as pa

    found, places = [], []
    for part in np.unique(entries["part"]).tolist():
        mine = np.flatnonzero(entries["part"] == part)
        table = pa.Table.from_batches(list(read_batches(out / ENCODED / f"{part:05}.parquet", ["id", "url"])))
        found.append(table.take(pa.array(entries["row"][mine])))
        places.append(mine)
    return pa.concat_tables(found).take(pa.array(np.argsort(np.concatenate(places)))).combine_chunks()


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
