"""First half of tokenizing, as a worker runs it: one piece of input to ids, in one file, with a table of its documents.

Which shard a document goes to depends on all that come before it, so the ids rest in `.llmdata/encoded` until all are
there.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from llmdata.document import Document, Rejection, rejection_schema, rejections_to_batch
from llmdata.storage.encoding import load_encoding
from llmdata.storage.encoding_kinds import Encoding
from llmdata.storage.inputs import Piece, read_piece
from llmdata.storage.lock import PRIVATE
from llmdata.storage.manifest import Manifest, output_of
from llmdata.storage.parquet import write_table
from llmdata.storage.place import Place
from llmdata.storage.token_shards import dtype_for

if TYPE_CHECKING:
    import pyarrow as pa

ENCODED = f"{PRIVATE}/encoded"
_BATCH_DOCUMENTS, _BATCH_BYTES = 1024, 4_000_000


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
    began, cpu = time.monotonic(), time.process_time()
    out = Place.of(task.out)
    encoding = _encoding(task.tokenizer)
    rejections: list[Rejection] = []
    batches: list[pa.RecordBatch] = []
    with (out / task.tokens).writer() as stream:
        for documents in _batches(task, rejections):
            batch, ids = _encode(documents, encoding, task)
            batches.append(batch)
            stream.write(ids)
    rows = write_table(out / task.table, batches, _schema())
    outputs = [output_of(out, task.tokens, 0), output_of(out, task.table, rows)]
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
    return load_encoding(Place.of(folder))


def _batches(task: EncodeTask, rejections: list[Rejection]) -> Iterator[list[tuple[Document, bytes]]]:
    batch: list[tuple[Document, bytes]] = []
    size = 0
    for item in read_piece(Piece(**task.piece)):
        if isinstance(item, Rejection):
            rejections.append(item)
            continue
        data = item.text.encode("utf-8", "replace")
        batch.append((item, data))
        size += len(data)
        if len(batch) >= _BATCH_DOCUMENTS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encode(documents: list[tuple[Document, bytes]], encoding: Encoding, task: EncodeTask) -> tuple[Any, bytes]:
    import pyarrow as pa

    texts = [data for _, data in documents]
    ids, offsets = encoding.encode_batch(texts)
    places = offsets[1:] if task.eot_after else offsets[:-1]
    flat = np.insert(ids, places, encoding.eot).astype(dtype_for(encoding.n_vocab))
    bound = int(task.val_share * (1 << 64))
    columns = [
        pa.array([doc.id for doc, _ in documents], pa.string()),
        pa.array([doc.url for doc, _ in documents], pa.string()),
        pa.array(np.diff(offsets) + 1),
        pa.array([len(data) for data in texts], pa.int64()),
        pa.array([xxhash.xxh3_64_intdigest(data) < bound for data in texts], pa.bool_()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_schema()), flat.tobytes()


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
