"""First half of tokenizing, as a worker runs it: one piece of input to ids, in one file, with a table of its documents.

Which shard a document goes to depends on all that come before it, so the ids rest in `.llmdata/encoded` until all are
there.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xxhash

from llmdata.document import Rejection, rejection_schema, rejections_to_batch
from llmdata.storage.encoding import load_encoding
from llmdata.storage.encoding_kinds import Encoding
from llmdata.storage.inputs import Piece
from llmdata.storage.lock import PRIVATE
from llmdata.storage.manifest import Manifest, Output, output_of
from llmdata.storage.parquet import write_table
from llmdata.storage.place import Place
from llmdata.storage.token_shards import dtype_for
from llmdata.tokenizer.counts import COUNTED, write_counts
from llmdata.tokenizer.pieces import batches_of, cut_long
from llmdata.tokenizer.source import read_texts

if TYPE_CHECKING:
    import pyarrow as pa

ENCODED = f"{PRIVATE}/encoded"

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE = 1_000_000
"""Bytes from which memory goes back to the system as soon as it is free. By default the C library keeps up to 32 MB of
the kind once it has been used, with holes that the next text does not fit into."""


@dataclass(frozen=True, slots=True)
class EncodeTask:
    """One piece of input. `val_share` of its documents, by hash, are for validation."""

    id: str
    number: int
    fingerprint: str
    out: str
    tokenizer: str
    piece: dict[str, Any]
    val_share: float
    eot_after: bool
    counted: bool = False
    """Whether to copy the piece with the tokens of each document counted."""

    @property
    def tokens(self) -> str:
        """The ids of its documents, one after the other."""
        return f"{ENCODED}/{self.number:05}.tokens"

    @property
    def table(self) -> str:
        """Its documents: id, url, tokens, bytes of text, and whether they are for validation."""
        return f"{ENCODED}/{self.number:05}.parquet"

    @property
    def rejected(self) -> str:
        return f"rejected/part-{self.number:05}.parquet"


def run_encode_task(task: EncodeTask) -> dict[str, int]:
    """Run `task` and leave its files and its manifest; returns how many documents and tokens it made."""
    import pyarrow as pa

    began, cpu = time.monotonic(), time.process_time()
    out = Place.of(task.out)
    encoding = _encoding(task.tokenizer)
    rejections: list[Rejection] = []
    batches: list[pa.RecordBatch] = []
    numbers: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    piece = Piece(**task.piece)
    hasher, size = hashlib.sha256(), 0
    with (out / task.tokens).writer() as stream:
        for texts in read_texts(piece, rejections):
            lengths = np.zeros(len(texts.texts), np.int64)
            for ids in _encode(texts.texts, encoding, task.eot_after, lengths):
                hasher.update(ids.data)
                size += stream.write(ids.data)
            columns = [texts.ids, texts.urls, pa.array(lengths), *_sizes_and_sides(texts.texts, task.val_share)]
            batches.append(pa.RecordBatch.from_arrays(columns, schema=_schema()))
            numbers.append(np.asarray(texts.rows, np.int64))
    rows = write_table(out / task.table, batches, _schema())
    outputs = [Output(task.tokens, hasher.hexdigest(), size, 0), output_of(out, task.table, rows)]
    if task.counted:
        lengths = np.concatenate([np.zeros(0, np.int64), *(batch.column("tokens").to_numpy() for batch in batches)])
        path = f"{COUNTED}/part-{task.number:05}.parquet"
        outputs.append(output_of(out, path, write_counts(piece, np.concatenate(numbers), lengths - 1, out / path)))
    if rejections:
        write_table(out / task.rejected, [rejections_to_batch(rejections)], rejection_schema())
        outputs.append(output_of(out, task.rejected, len(rejections)))
    reasons: dict[str, int] = {}
    for item in rejections:
        reasons[item.reason] = reasons.get(item.reason, 0) + 1
    counts = {"in": rows + len(rejections), "kept": rows, "rejected": dict(sorted(reasons.items()))}
    cost = {
        "seconds": round(time.monotonic() - began, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    Manifest(task.id, task.fingerprint, [task.piece], outputs, {"tokenize": counts}, cost).save(out)
    width = dtype_for(encoding.n_vocab).itemsize
    return {"documents": rows, "tokens": outputs[0].bytes // width, "rejected": len(rejections)}


@lru_cache(maxsize=1)
def _encoding(folder: str) -> Encoding:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc's
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
    return load_encoding(Place.of(folder))


def _encode(
    texts: pa.LargeStringArray, encoding: Encoding, eot_after: bool, lengths: npt.NDArray[np.int64]
) -> Iterator[npt.NDArray[Any]]:
    """The ids of `texts`, an end-of-text token before or after each; adds to `lengths` how many each text has."""
    pieces, owners = cut_long(texts) if encoding.by_words else (texts, np.arange(len(texts)))
    edges = np.diff(owners, append=-1) if eot_after else np.diff(owners, prepend=-1)
    for part in batches_of(pieces):
        ids, offsets = encoding.encode_arrow(pieces[part])
        np.add.at(lengths, owners[part], np.diff(offsets) + (edges[part] != 0))
        bounds = offsets[1:] if eot_after else offsets[:-1]
        yield np.insert(ids.astype(dtype_for(encoding.n_vocab)), bounds[edges[part] != 0], encoding.eot)


def _sizes_and_sides(texts: pa.LargeStringArray, val_share: float) -> tuple[pa.Array, pa.Array]:
    """Bytes of each text, and whether it is for validation."""
    import pyarrow as pa

    _, bounds, data = texts.buffers()
    starts = np.frombuffer(bounds, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    if not 0 < val_share < 1:
        return pa.array(np.diff(starts)), pa.array(np.full(len(texts), val_share >= 1))
    raw, bound = memoryview(data or b""), int(val_share * (1 << 64))
    marks = starts.tolist()
    sides = [xxhash.xxh3_64_intdigest(raw[start:end]) < bound for start, end in itertools.pairwise(marks)]
    return pa.array(np.diff(starts)), pa.array(sides)


def _schema() -> pa.Schema:
    import pyarrow as pa

    fields: list[tuple[str, Any]] = [
        ("id", pa.string()),
        ("url", pa.string()),
        ("tokens", pa.int64()),
        ("bytes", pa.int64()),
        ("val", pa.bool_()),
    ]
    return pa.schema(fields)
