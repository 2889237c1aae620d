"""The reduce side for passages: from the keys of all parts to the units of each document that go.

Passages are sorted by key, on disk where they do not fit into memory: equal ones stand next to each other, and all but
the first go. Keys are taken in buckets of about BUCKET passages; a bucket is one task, and a killed run goes on after
the last finished one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from llmdata.dedup.resolve import Parts, Rows, fingerprint_of, sweep, tidy
from llmdata.dedup.sort import Sorter, sorter
from llmdata.dedup.steps import PROCESS, EdgeTask, cost, first_and_others, read_edges, run_steps
from llmdata.engine.session import Session
from llmdata.storage import manifest
from llmdata.storage.manifest import Manifest
from llmdata.storage.parquet import open_parquet, write_table
from llmdata.storage.place import Place

if TYPE_CHECKING:
    import pyarrow as pa

    from llmdata.dedup.passages import PassageDedup
    from llmdata.dedup.steps import Edges, Numbers

BUCKET = 50_000_000
"""Passages of a step: 24 bytes each while it sorts."""
SEEN_BITS = 27
"""Of a key: 128 MB say which keys new documents have, so that few others of earlier runs are sorted again."""


def resolve(shuffle: PassageDedup, keys: Place, out: Place, session: Session) -> None:
    """From the key tables in `keys` to `out/drops/part-*.parquet`, one beside each; see `Shuffle.resolve`.

    The result depends on the keys and the settings alone: not on workers, memory, or how documents lie in parts.
    """
    began = time.monotonic()
    parts = Parts.of(keys, shuffle)
    inputs = parts.inputs()
    fingerprint = fingerprint_of(shuffle, inputs)
    units = _count_units(parts)
    buckets = 1 + units // BUCKET
    names = {place.name for place in parts.own}
    if manifest.finished(out, "drops", fingerprint):
        tidy(out, names, buckets)  # a run killed here left that undone
        return
    if session.share is None:  # who shares a run would see others' work in hand
        sweep(out)
    memory = shuffle.config.memory - (1 << SEEN_BITS if parts.earlier else 0)
    tasks = [
        EdgeTask(f"band-{bucket:03}", fingerprint, out, partial(_repeats, parts, shuffle.length, bucket, buckets))
        for bucket in range(buckets)
    ]
    edges = run_steps(tasks, units, memory, session, f"{shuffle.name} keys")
    stage = f"{shuffle.name} passages"
    session.progress.start(stage, 1, "steps")
    with sorter(out, shuffle.config.memory - PROCESS, session.workers) as sort:
        outputs, touched = _write_drops(shuffle, parts, edges, sort, out)
    Manifest("drops", fingerprint, inputs, outputs, cost=cost(began)).save(out)
    session.progress.advance(stage, 1)
    session.progress.finish(stage, documents=parts.offsets[-1] - parts.first, changed=touched)
    tidy(out, names, buckets)


def drops_schema() -> pa.Schema:
    """Of a table of drops: by row, which units of a document stand elsewhere too, and the id of the document that has
    the first of those that stand in another one."""
    import pyarrow as pa

    return pa.schema([("row", pa.int64()), ("units", pa.list_(pa.int32())), ("first_in", pa.string())])


def _count_units(parts: Parts) -> int:
    """Units of all parts, from the footers; a document without any counts as one."""
    count = 0
    for place in parts.places:
        with place.open() as stream:
            file = open_parquet(stream, str(place))
            column = file.schema_arrow.get_field_index("passages")
            footer = file.metadata
            count += sum(footer.row_group(n).column(column).num_values for n in range(footer.num_row_groups))
    return count


def _repeats(parts: Parts, length: int, bucket: int, buckets: int, sort: Sorter) -> Edges:
    """(place of a passage that stays, place of one that goes) for all keys of a bucket."""
    import pyarrow as pa

    schema = pa.schema([("key", pa.uint64()), ("rank", pa.int64()), ("doc", pa.int64())])
    share = (1 << 64) // buckets + 1
    seen = _seen(parts) if parts.earlier else None

    def keyed() -> Iterator[pa.RecordBatch]:
        begin = 0
        for number, batch in parts.read(["rank", "units", "passages"]):
            keys = batch.column("passages").flatten().to_numpy()
            chosen = keys != 0
            if buckets > 1:
                chosen &= keys // np.uint64(share) == bucket
            if seen is not None and number < parts.first:
                chosen &= seen[_short(keys)]
            ranks = np.repeat(batch.column("rank").to_numpy(), batch.column("units").to_numpy())[chosen]
            places = np.flatnonzero(chosen) + begin
            begin += len(keys)
            yield pa.RecordBatch.from_arrays([pa.array(keys[chosen]), pa.array(ranks), pa.array(places)], schema=schema)

    for heads, others in first_and_others(sort.sort(keyed(), schema, ["key", "-rank", "doc"]), ["key"]):
        # A run that overlaps the one that stays (the same sentence over and over) shares units with it.
        apart = np.abs(others - heads) >= length
        yield heads[apart], others[apart]


def _seen(parts: Parts) -> Numbers:
    """For each first SEEN_BITS of a key, whether a document of this run has one."""
    seen = np.zeros(1 << SEEN_BITS, bool)
    for _, batch in parts.read(["passages"], own=True):
        seen[_short(batch.column(0).flatten().to_numpy())] = True
    return seen


def _short(keys: Numbers) -> Numbers:
    # Not the first bits, which are the same all over a bucket.
    return keys & np.uint64((1 << SEEN_BITS) - 1)


@dataclass(frozen=True, slots=True)
class _Gone:
    """The passages of one part that go. All places are counted over all parts."""

    others: Numbers
    heads: Numbers
    """Where each stands that stays."""
    bounds: Numbers
    """Where the units of each document begin, and behind the last one of the part."""

    @property
    def rows(self) -> Numbers:
        """The document of each, by its row in the part."""
        return np.searchsorted(self.bounds, self.others, side="right") - 1


def _by_part(parts: Parts, repeated: Rows) -> Iterator[tuple[int, _Gone]]:
    """What goes of each part of this run, with the part's number."""
    begin = 0
    for part, place in enumerate(parts.places):
        with place.open() as stream:
            lengths = open_parquet(stream, str(place)).read(columns=["units"]).column(0).to_numpy()
        bounds = begin + np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        begin = int(bounds[-1])
        batches = list(repeated.below(begin))
        if part >= parts.earlier:
            columns = [[batch.column(name).to_numpy() for batch in batches] for name in ("doc", "head")]
            others, heads = (np.concatenate([np.zeros(0, np.int64), *column]) for column in columns)
            yield part, _Gone(others, heads, bounds)


def _first_in(parts: Parts, repeated: Rows, sort: Sorter) -> Iterator[pa.RecordBatch]:
    """(`doc`, `id`): which document has the first of the passages of `doc` that stand in another one; by `doc`."""
    import pyarrow as pa

    asked = pa.schema([("doc", pa.int64()), ("for", pa.int64())])
    named = pa.schema([("doc", pa.int64()), ("id", pa.string())])

    def heads() -> Iterator[pa.RecordBatch]:
        for part, gone in _by_part(parts, repeated):
            rows = gone.rows
            elsewhere = np.flatnonzero((gone.heads < gone.bounds[rows]) | (gone.heads >= gone.bounds[rows + 1]))
            docs, first = np.unique(rows[elsewhere], return_index=True)
            places = gone.heads[elsewhere[first]]
            yield pa.RecordBatch.from_arrays([pa.array(places), pa.array(docs + parts.offsets[part])], schema=asked)

    def names() -> Iterator[pa.RecordBatch]:
        places, begin = Rows(sort.sort(heads(), asked, ["doc", "for"])), 0
        for _, batch in parts.read(["id", "units"]):
            ends = begin + np.cumsum(batch.column("units").to_numpy(), dtype=np.int64)
            begin = int(ends[-1])
            for found in places.below(begin):
                rows = np.searchsorted(ends, found.column(0).to_numpy(), side="right")
                ids = batch.column("id").take(pa.array(rows))
                yield pa.RecordBatch.from_arrays([found.column(1), ids], schema=named)

    return sort.sort(names(), named, ["doc"])


def _write_drops(
    shuffle: PassageDedup, parts: Parts, edges: list[Place], sort: Sorter, out: Place
) -> tuple[list[manifest.Output], int]:
    """One table a part; also how many documents lose something."""
    import pyarrow as pa

    schema = pa.schema([("doc", pa.int64()), ("head", pa.int64())])

    def repeated() -> Rows:
        pairs = (
            pa.RecordBatch.from_arrays([pa.array(others), pa.array(heads)], schema=schema)
            for place in edges
            for heads, others in read_edges(place)
        )
        return Rows(sort.sort(pairs, schema, ["doc"]))

    outputs: list[manifest.Output] = []
    touched = 0
    names = Rows(_first_in(parts, repeated(), sort))
    for part, gone in _by_part(parts, repeated()):
        first, end = parts.offsets[part : part + 2]
        named = {
            doc - first: name
            for batch in names.below(end)
            for doc, name in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)
        }
        batch = _drops(gone, named, shuffle.length)
        touched += batch.num_rows
        path = f"drops/{parts.places[part].name}"
        outputs.append(manifest.output_of(out, path, write_table(out / path, [batch], drops_schema())))
    return outputs, touched


def _drops(gone: _Gone, first_in: dict[int, str], length: int) -> pa.RecordBatch:
    """From the passages that go to the units by row."""
    import pyarrow as pa

    units = np.unique((gone.others[:, None] + np.arange(length)).ravel())
    rows = np.searchsorted(gone.bounds, units, side="right") - 1
    within = units - gone.bounds[rows]
    distinct, first = np.unique(rows, return_index=True)
    offsets = np.append(first, len(units)).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(within.astype(np.int32)))
    names = pa.array([first_in.get(row) for row in distinct.tolist()], pa.string())
    return pa.RecordBatch.from_arrays([pa.array(distinct.astype(np.int64)), lists, names], schema=drops_schema())
