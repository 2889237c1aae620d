"""The part of the reduce side that is a list of tasks: each sorts some of the keys, and writes the edges among them.

A task is a pure function of key tables on storage and of settings; it writes one table of edges and a manifest. The
same list runs in the process that asks, in worker processes or on a cluster, and the tables have the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from llmdata.dedup.sort import THREAD, Sorter, sorter
from llmdata.engine.pool import Needs, Task, run_tasks
from llmdata.engine.session import Session
from llmdata.engine.share import run_list
from llmdata.storage import manifest
from llmdata.storage.manifest import Manifest
from llmdata.storage.parquet import open_parquet
from llmdata.storage.place import Place

if TYPE_CHECKING:
    import pyarrow as pa

    Numbers = np.ndarray[Any, Any]
    Edges = Iterator[tuple[Numbers, Numbers]]

READ_ROWS = 1 << 16
PROCESS = 300_000_000
"""Memory of Python and its libraries, which the user's bound covers too (bytes)."""
FEW = 1 << 22
"""Keys that one process sorts in the time in which workers start (2 s)."""
PRELOAD = ("llmdata.dedup.repeats", "duckdb", "pyarrow.parquet")


@dataclass(frozen=True, slots=True)
class EdgeTask:
    """One step. `find` is a function that can be pickled: it sorts its keys, and yields places that agree."""

    id: str
    fingerprint: str
    out: Place
    find: Callable[[Sorter], Edges]
    memory: int = 0
    """Of the sort (bytes)."""
    threads: int = 1

    @property
    def path(self) -> str:
        """Its table, relative to `out`."""
        return f"edges/{self.id}.parquet"


def find_edges(task: EdgeTask) -> None:
    """Write the edges of one step, and its manifest."""
    began = time.monotonic()
    with sorter(task.out, task.memory, task.threads) as sort:
        rows = write_edges(task.out / task.path, task.find(sort))
    output = manifest.output_of(task.out, task.path, rows)
    Manifest(task.id, task.fingerprint, outputs=[output], cost=cost(began)).save(task.out)


def run_steps(tasks: Sequence[EdgeTask], keys: int, memory: int, session: Session, stage: str) -> list[Place]:
    """Do what is not done of `tasks`, which have `keys` keys in all, within `memory` bytes; returns all their tables.

    On a cluster each task has that memory for itself. On one machine this process and its workers have it together.
    Ranks that share a run share these tasks, too.
    """

    def work(left: Sequence[EdgeTask], done: int) -> None:
        _work(left, keys, memory, session, stage)

    run_list(tasks, lambda task: manifest.finished(task.out, task.id, task.fingerprint), work, session, stage)
    session.stop.check()
    return [task.out / task.path for task in tasks]


def _work(left: Sequence[EdgeTask], keys: int, memory: int, session: Session, stage: str) -> None:
    together = min(session.workers, len(left), (memory - PROCESS) // (PROCESS + 2 * THREAD))
    if session.cluster:
        ready = [replace(task, memory=memory - PROCESS) for task in left]
        _run(ready, session, stage, Needs(memory=memory))
    elif together > 1 and keys > FEW:
        each = (memory - PROCESS) // together - PROCESS
        ready = [replace(task, memory=each, threads=max(1, session.workers // together)) for task in left]
        _run(ready, replace(session, workers=together), stage)
    else:
        session.progress.start(stage, len(left), "steps")
        for task in left:
            session.stop.check()
            find_edges(replace(task, memory=memory - PROCESS, threads=session.workers))
            session.progress.advance(stage, 1)
        session.progress.finish(stage)


def _run(tasks: list[EdgeTask], session: Session, stage: str, needs: Needs | None = None) -> None:
    units = [Task(task.id, task) for task in tasks]
    run_tasks(units, find_edges, session, stage=stage, unit="steps", needs=needs, state=tasks[0].out, preload=PRELOAD)


def cost(began: float) -> dict[str, float]:
    return {"seconds": round(time.monotonic() - began, 3)}


def first_and_others(batches: Iterable[pa.RecordBatch], keys: Sequence[str]) -> Edges:
    """(first, other) of the column `doc` for rows sorted by `keys`: the first row of each key with every other one."""
    carried: list[Numbers] = []
    for batch in batches:
        columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in (*keys, "doc")]
        if carried:
            columns = [np.concatenate([before, now]) for before, now in zip(carried, columns, strict=True)]
        if not len(columns[0]):
            continue
        *values, docs = columns
        new = np.ones(len(docs), bool)
        new[1:] = np.logical_or.reduce([value[1:] != value[:-1] for value in values])
        firsts = np.flatnonzero(new)
        heads = docs[firsts][np.cumsum(new) - 1]
        yield heads[~new], docs[~new]
        # The last key may go on in the next batch: its first document waits there for the others.
        carried = [column[firsts[-1] : firsts[-1] + 1] for column in columns]


def write_edges(place: Place, edges: Iterable[tuple[Numbers, Numbers]]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("first", pa.int64()), ("other", pa.int64())])
    rows = 0
    with place.writer() as stream, pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for heads, docs in edges:
            rows += len(docs)
            writer.write_batch(pa.RecordBatch.from_arrays([pa.array(heads), pa.array(docs)], schema=schema))
    return rows


def read_edges(place: Place) -> Edges:
    with place.open() as stream:
        for batch in open_parquet(stream, str(place)).iter_batches(READ_ROWS):
            yield batch.column(0).to_numpy(), batch.column(1).to_numpy()
