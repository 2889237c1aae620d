"""The reduce side for passages: from the keys of all parts to the units of each document that go.

Passages are sorted by key, on disk where they do not fit into memory: equal ones stand next to each other, and all but
the first go. Keys are taken in buckets of about BUCKET passages; a bucket is one step with a manifest, and a killed run
goes on after the last.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from llmdata.dedup.resolve import (
    PROCESS,
    Parts,
    Rows,
    cost,
    fingerprint_of,
    first_and_others,
    read_edges,
    tidy,
    write_edges,
)
from llmdata.dedup.sort import Sorter, sorter
from llmdata.engine.session import Session
from llmdata.storage import manifest
from llmdata.storage.lock import PRIVATE
from llmdata.storage.manifest import Manifest
from llmdata.storage.parquet import open_parquet, write_table
from llmdata.storage.place import Place, remove_partials

if TYPE_CHECKING:
    import pyarrow as pa

    from llmdata.dedup.passages import PassageDedup
    from llmdata.dedup.resolve import Numbers

BUCKET = 200_000_000
"""Passages of a step: 24 bytes each while it sorts."""


def resolve(shuffle: PassageDedup, keys: Place, out: Place, session: Session) -> None:
    """From the key tables in `keys` to `out/drops/part-*.parquet`, one beside each; see `Shuffle.resolve`.

    The result depends on the keys and the settings alone: not on workers, memory, or how documents lie in parts.
    """
    began = time.monotonic()
    parts = Parts.of(keys, shuffle)
    inputs = parts.inputs()
    fingerprint = fingerprint_of(shuffle, inputs)
    buckets = 1 + _count_units(parts) // BUCKET
    names = {place.name for place in parts.own}
    if manifest.finished(out, "drops", fingerprint):
        tidy(out, names, buckets)  # a run killed here left that undone
        return
    for folder in ("drops", "edges", f"{PRIVATE}/tasks"):
        remove_partials(out / folder)
    stage = f"{shuffle.name} passages"
    session.progress.start(stage, buckets + 1, "steps")
    with sorter(out, shuffle.config.memory - PROCESS, session.workers) as sort:
        edges = []
        for bucket in range(buckets):
            session.stop.check()
            task, path = f"band-{bucket:03}", f"edges/band-{bucket:03}.parquet"
            if not manifest.finished(out, task, fingerprint):
                rows = write_edges(out / path, _repeats(parts, shuffle.length, bucket, buckets, sort))
                Manifest(task, fingerprint, outputs=[manifest.output_of(out, path, rows)], cost=cost(began)).save(out)
            edges.append(out / path)
            session.progress.advance(stage, 1)
        session.stop.check()
        outputs, touched = _write_drops(shuffle, parts, edges, sort, out)
    Manifest("drops", fingerprint, inputs, outputs, cost=cost(began)).save(out)
    session.progress.advance(stage, 1)
    session.progress.finish(stage, documents=parts.offsets[-1] - parts.first, changed=touched)
    tidy(out, names, buckets)


def drops_schema() -> pa.Schema:
    """Of a table of drops: by row, which units of a document stand elsewhere too."""
    import pyarrow as pa

    return pa.schema([("row", pa.int64()), ("units", pa.list_(pa.int32()))])


def _count_units(parts: Parts) -> int:
    """Units of all parts, from the footers; a document without any counts as one."""
    count = 0
    for place in parts.places:
        with place.open() as stream:
            footer = open_parquet(stream, str(place)).metadata
            count += sum(footer.row_group(n).column(1).num_values for n in range(footer.num_row_groups))
    return count


def _repeats(parts: Parts, length: int, bucket: int, buckets: int, sort: Sorter) -> Iterator[tuple[Numbers, Numbers]]:
    """(place of a passage that stays, place of one that goes) for all keys of a bucket."""
    import pyarrow as pa

    schema = pa.schema([("key", pa.uint64()), ("rank", pa.int64()), ("doc", pa.int64())])
    share = (1 << 64) // buckets + 1

    def keyed() -> Iterator[pa.RecordBatch]:
        begin = 0
        for _, batch in parts.read(["rank", "passages"]):
            lists = batch.column("passages")
            keys, lengths = lists.flatten().to_numpy(), _lengths(lists)
            chosen = keys != 0
            if buckets > 1:
                chosen &= keys // np.uint64(share) == bucket
            ranks = np.repeat(batch.column("rank").to_numpy(), lengths)[chosen]
            places = np.flatnonzero(chosen) + begin
            begin += len(keys)
            yield pa.RecordBatch.from_arrays([pa.array(keys[chosen]), pa.array(ranks), pa.array(places)], schema=schema)

    for heads, others in first_and_others(sort.sort(keyed(), schema, ["key", "-rank", "doc"]), ["key"]):
        # A run that overlaps the one that stays (the same sentence over and over) shares units with it.
        apart = np.abs(others - heads) >= length
        yield heads[apart], others[apart]


def _lengths(lists: Any) -> Numbers:
    import pyarrow.compute as pc

    lengths: Numbers = pc.list_value_length(lists).to_numpy()
    return lengths


def _write_drops(
    shuffle: PassageDedup, parts: Parts, edges: list[Place], sort: Sorter, out: Place
) -> tuple[list[manifest.Output], int]:
    """One table a part; also how many documents lose something."""
    import pyarrow as pa

    schema = pa.schema([("doc", pa.int64())])

    def repeated() -> Iterator[pa.RecordBatch]:
        for place in edges:
            for _, others in read_edges(place):
                yield pa.RecordBatch.from_arrays([pa.array(others)], schema=schema)

    outputs: list[manifest.Output] = []
    rows = Rows(sort.sort(repeated(), schema, ["doc"]))
    begin = touched = 0
    for number, place in enumerate(parts.places):
        with place.open() as stream:
            table = open_parquet(stream, str(place)).read(columns=["passages"])
        lengths = _lengths(table.column(0).combine_chunks()) if table.num_rows else np.zeros(0, np.int64)
        end = begin + int(lengths.sum())
        found = [batch.column(0).to_numpy() - begin for batch in rows.below(end)]
        if number >= parts.earlier:
            batch = _drops(np.concatenate(found) if found else np.zeros(0, np.int64), lengths, shuffle.length)
            touched += batch.num_rows
            path = f"drops/{place.name}"
            outputs.append(manifest.output_of(out, path, write_table(out / path, [batch], drops_schema())))
        begin = end
    return outputs, touched


def _drops(passages: Numbers, lengths: Numbers, length: int) -> pa.RecordBatch:
    """From the places of passages that go, counted over a part, to the units by row."""
    import pyarrow as pa

    units = np.unique((passages[:, None] + np.arange(length)).ravel())
    ends = np.cumsum(lengths)
    rows = np.searchsorted(ends, units, side="right")
    within = units - (ends - lengths)[rows] if len(units) else units
    distinct, first = np.unique(rows, return_index=True)
    offsets = np.append(first, len(units)).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(within.astype(np.int32)))
    return pa.RecordBatch.from_arrays([pa.array(distinct.astype(np.int64)), lists], schema=drops_schema())
