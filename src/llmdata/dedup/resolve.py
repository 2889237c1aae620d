"""The reduce side for whole documents: from the keys of all parts to the rows of each part that go.

Every band is a task that sorts it, on disk where it does not fit into memory: documents that agree in a band stand next
to each other and become edges. Union–find joins the edges of all bands into clusters, and of each cluster the document
that the keep rule ranks highest stays, of equals the first. A killed run goes on after the last finished band.

Union–find is one process: 16 bytes a document, two random reads an edge. A cluster of machines does not make it faster
before 10 billion documents (docs/scale-dedup.md).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from llmdata.dedup.clusters import UnionFind
from llmdata.dedup.shuffle import DocumentShuffle, Shuffle, clean_folder, drops_schema, shuffle_folder
from llmdata.dedup.sort import THREAD, Sorter, remove_spills, sorter
from llmdata.dedup.steps import PROCESS, READ_ROWS, EdgeTask, cost, first_and_others, read_edges, run_steps
from llmdata.dedup.verify import Verifier
from llmdata.engine.session import Session
from llmdata.errors import ConfigError
from llmdata.storage import manifest
from llmdata.storage.lock import PRIVATE
from llmdata.storage.manifest import Manifest
from llmdata.storage.parquet import open_parquet, write_table
from llmdata.storage.place import Place, remove_partials

if TYPE_CHECKING:
    import pyarrow as pa

    Numbers = np.ndarray[Any, Any]

WIDE_ROWS = 1 << 12
"""Rows at a time where each carries the shingles of a text."""
BYTES_A_DOCUMENT = 16


@dataclass(frozen=True, slots=True)
class Parts:
    """The key tables in order. A document's number is its place in all of them together."""

    places: list[Place]
    offsets: list[int]
    """First number of each part, then the number of all documents."""
    earlier: int
    """Parts of earlier runs, which come first: what they kept stays."""

    @classmethod
    def of(cls, folder: Place, shuffle: Shuffle) -> Parts:
        earlier = [place for run in shuffle.config.against for place in _in_order(earlier_keys(Place.of(run), shuffle))]
        places = earlier + _in_order(folder)
        offsets = [0]
        for place in places:
            with place.open() as stream:
                offsets.append(offsets[-1] + open_parquet(stream, str(place)).metadata.num_rows)
        return cls(places, offsets, len(earlier))

    @property
    def own(self) -> list[Place]:
        """The parts of this run."""
        return self.places[self.earlier :]

    @property
    def first(self) -> int:
        """Number of the first document of this run."""
        return self.offsets[self.earlier]

    def inputs(self) -> list[dict[str, Any]]:
        """What a manifest says of them."""
        return [
            {
                "path": place.name if number >= self.earlier else str(place),
                "bytes": place.size(),
                "stamp": place.stamp(),
            }
            for number, place in enumerate(self.places)
        ]

    def read(
        self, columns: Sequence[str], rows: int = READ_ROWS, own: bool = False
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The rows of all parts, or of this run's `own`, each batch with the number of its first document.

        A document of an earlier run has a rank above all of this run's, and the id of the one that stayed there.
        """
        for part in range(self.earlier if own else 0, len(self.places)):
            place, number = self.places[part], self.offsets[part]
            with place.open() as stream:
                kept = _Kept(place) if part < self.earlier else None
                for batch in open_parquet(stream, str(place)).iter_batches(rows, columns=list(columns)):
                    yield number, kept.mark(batch, number - self.offsets[part]) if kept else batch
                    number += batch.num_rows


def _in_order(folder: Place) -> list[Place]:
    # By number: names have five digits, or more where there are more parts.
    return sorted(folder.children("part-*.parquet"), key=lambda place: (len(place.name), place.name))


def earlier_keys(run: Place, shuffle: Shuffle) -> Place:
    """The folder of keys that an earlier run of this stage left; raises ConfigError if they cannot be compared."""
    keys = shuffle_folder(run, shuffle.name) / "keys"
    stamp = manifest.stamp_of(clean_folder(run))
    assert stamp is not None  # shuffle_folder has looked
    found = next(stage for stage in stamp["state"]["stages"] if stage["stage"] == shuffle.name)
    ours = shuffle.config.model_dump(mode="json")
    changed = [key for key, value in ours.items() if key not in _OWN and found["config"].get(key) != value]
    if found["version"] != shuffle.version:
        changed.append("the version of this stage")
    if changed:
        raise ConfigError(f"{shuffle.name}.against: {run} was made with another {', '.join(changed)}: not comparable")
    return keys


_OWN = ("keep", "score", "memory", "against", "min_characters", "min_sentences")
"""Settings that may differ between runs that are compared."""


class _Kept:
    """What became of the documents of a part of an earlier run."""

    def __init__(self, keys: Place) -> None:
        self._names: dict[int, str] = {}
        drops = keys.parent.parent / "drops" / keys.name
        with drops.open() as stream:
            file = open_parquet(stream, str(drops))
            if "duplicate_of" in file.schema_arrow.names:
                table = file.read(columns=["row", "duplicate_of"]).to_pydict()
                self._names = dict(zip(table["row"], table["duplicate_of"], strict=True))

    def mark(self, batch: pa.RecordBatch, row: int) -> pa.RecordBatch:
        import pyarrow as pa

        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        if "rank" in columns:
            columns["rank"] = pa.array(np.full(batch.num_rows, np.iinfo(np.int64).max))
        if "id" in columns and self._names:
            ids = columns["id"].to_pylist()
            columns["id"] = pa.array([self._names.get(at, name) for at, name in enumerate(ids, row)], pa.string())
        return pa.RecordBatch.from_arrays(list(columns.values()), schema=batch.schema)


def resolve(shuffle: DocumentShuffle, keys: Place, out: Place, session: Session) -> None:
    """From the key tables in `keys` to `out/drops/part-*.parquet`, one beside each; see `DocumentShuffle.resolve`.

    The result depends on the keys and the settings alone: not on workers, memory, or how documents lie in parts.
    """
    began = time.monotonic()
    parts = Parts.of(keys, shuffle)
    inputs = parts.inputs()
    fingerprint = fingerprint_of(shuffle, inputs)
    if manifest.finished(out, "drops", fingerprint):
        tidy(out, {place.name for place in parts.own}, len(shuffle.bands))  # a run killed here left that undone
        return
    if session.share is None:  # who shares a run would see others' work in hand
        sweep(out)
    documents = parts.offsets[-1]
    memory = shuffle.config.memory - PROCESS - BYTES_A_DOCUMENT * documents
    if memory < 2 * THREAD:
        need = (PROCESS + BYTES_A_DOCUMENT * documents + 2 * THREAD) // 1_000_000 + 1
        given = shuffle.config.memory // 1_000_000
        raise ConfigError(
            f"{shuffle.name}: to compare {documents:,} documents takes {need:,} MB of memory, {given:,} MB are given: "
            f"raise {shuffle.name}.memory (--memory)"
        )
    tasks = [
        EdgeTask(f"band-{number:03}", fingerprint, out, partial(_edges, parts, band))
        for number, band in enumerate(shuffle.bands)
    ]
    edges = run_steps(tasks, documents * len(tasks), shuffle.config.memory, session, f"{shuffle.name} keys")
    stage = f"{shuffle.name} clusters"
    session.progress.start(stage, 1, "steps")
    sets = UnionFind(documents)
    for place in edges:
        for left, right in read_edges(place):
            sets.union(left, right)
    with sorter(out, memory, session.workers) as sort:
        outputs, dropped = _write_drops(shuffle, parts, sets, sort, out)
    Manifest("drops", fingerprint, inputs, outputs, cost=cost(began)).save(out)
    session.progress.advance(stage, 1)
    session.progress.finish(stage, documents=documents - parts.first, duplicates=dropped)
    tidy(out, {place.name for place in parts.own}, len(shuffle.bands))


def fingerprint_of(shuffle: Shuffle, inputs: list[dict[str, Any]]) -> str:
    """Covers the keys and all settings: equal means nothing to do."""
    state = {"stage": shuffle.name, "version": shuffle.version, "config": shuffle.config.model_dump(mode="json")}
    return manifest.digest([state, inputs])


def _edges(parts: Parts, band: Sequence[str], sort: Sorter) -> Iterator[tuple[Numbers, Numbers]]:
    """(first document, other document) for all that agree in `band` with the first one that has its key."""
    import pyarrow as pa

    schema = pa.schema([*((name, pa.uint64()) for name in band), ("doc", pa.int64())])

    asked = _asked(parts, band[0]) if parts.earlier else None

    def keyed() -> Iterator[pa.RecordBatch]:
        for number, batch in parts.read(band):
            docs = pa.array(np.arange(number, number + batch.num_rows))
            rows = pa.RecordBatch.from_arrays([*batch.columns, docs], schema=schema)
            rows = rows.filter(batch.column(0).is_valid())
            if asked is not None and number < parts.first:
                keys = rows.column(0).to_numpy()
                rows = rows.filter(pa.array(asked.take(np.searchsorted(asked, keys), mode="clip") == keys))
            yield rows

    yield from first_and_others(sort.sort(keyed(), schema, [*band, "doc"]), band)


def _asked(parts: Parts, column: str) -> Numbers | None:
    """The distinct keys of this run's documents: an earlier document that has none of them need not be sorted."""
    keys = [batch.column(0).drop_null().to_numpy() for _, batch in parts.read([column], own=True)]
    found: Numbers = np.unique(np.concatenate(keys)) if keys else np.zeros(0, np.uint64)
    return found if len(found) else np.zeros(1, np.uint64)


def _write_drops(
    shuffle: DocumentShuffle, parts: Parts, sets: UnionFind, sort: Sorter, out: Place
) -> tuple[list[manifest.Output], int]:
    """Choose who stays, and write the rows of all clusters into one table a part; also how many documents go."""
    import pyarrow as pa

    shared = sets.flatten()
    dropped = 0
    sizes = np.zeros(len(sets.parents), np.uint32)
    chosen_schema = pa.schema([("doc", pa.int64()), ("kept", pa.int64()), ("duplicate_of", pa.string())])

    def chosen() -> Iterator[pa.RecordBatch]:
        nonlocal dropped
        for docs, kept, ids in _choose(shuffle, parts, sets.parents, shared, sort):
            np.add.at(sizes, kept, 1)
            dropped += int(np.count_nonzero((docs != kept) & (docs >= parts.first)))
            yield pa.RecordBatch.from_arrays([pa.array(docs), pa.array(kept), ids], schema=chosen_schema)

    outputs: list[manifest.Output] = []
    rows = Rows(sort.sort(chosen(), chosen_schema, ["doc"]))
    for _ in rows.below(parts.first):
        pass  # documents of earlier runs stay as they are
    own = parts.offsets[parts.earlier :]
    for place, begin, end in zip(parts.own, own, own[1:], strict=False):
        path = f"drops/{place.name}"
        tables = (_drops(batch, begin, sizes) for batch in rows.below(end))
        written = write_table(out / path, tables, drops_schema())
        outputs.append(manifest.output_of(out, path, written))
    return outputs, dropped


def _drops(batch: pa.RecordBatch, begin: int, sizes: Numbers) -> pa.RecordBatch:
    import pyarrow as pa

    docs, kept = batch.column("doc").to_numpy(), batch.column("kept").to_numpy()
    size = sizes[kept].astype(np.int64)
    table = pa.RecordBatch.from_arrays(
        [pa.array(docs - begin), pa.array(docs != kept), batch.column("duplicate_of"), pa.array(size)],
        schema=drops_schema(),
    )
    return table.filter(pa.array(size > 1))  # verification may leave a document alone


class Rows:
    """Rows sorted by `doc`, taken in ranges."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._left: pa.RecordBatch | None = None

    def below(self, end: int) -> Iterator[pa.RecordBatch]:
        """What is left of the documents before number `end`."""
        while (batch := self._left or next(self._batches, None)) is not None:
            cut = int(np.searchsorted(batch.column("doc").to_numpy(), end))
            self._left = batch.slice(cut) if cut < batch.num_rows else None
            yield batch.slice(0, cut)
            if self._left is not None:
                return


def _choose(
    shuffle: DocumentShuffle, parts: Parts, roots: Numbers, shared: Numbers, sort: Sorter
) -> Iterator[tuple[Numbers, Numbers, pa.Array]]:
    """For the documents of all clusters: their numbers, and number and id of the one that stays."""
    import pyarrow as pa

    fields = [("label", pa.int64()), ("rank", pa.int64()), ("doc", pa.int64()), ("id", pa.string())]
    columns, rows = ["rank", "id"], READ_ROWS
    if shuffle.verify:
        rows = WIDE_ROWS
        fields.append(("shingles", pa.list_(pa.uint32())))
        columns.append("shingles")
    schema = pa.schema(fields)

    def members() -> Iterator[pa.RecordBatch]:
        for number, batch in parts.read(columns, rows):
            labels = roots[number : number + batch.num_rows]
            docs = np.arange(number, number + batch.num_rows)
            rank, *others = (batch.column(name) for name in columns)
            arrays = [pa.array(labels.astype(np.int64)), rank, pa.array(docs), *others]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema).filter(pa.array(shared[labels]))

    verifier = Verifier(shuffle.verify) if shuffle.verify else None
    last_label, last_doc, last_id = -1, -1, ""
    for batch in sort.sort(members(), schema, ["label", "-rank", "doc"], rows):
        labels, docs = batch.column("label").to_numpy(), batch.column("doc").to_numpy()
        if verifier:
            kept, ids = verifier.assign(labels, docs, batch.column("id").to_pylist(), batch.column("shingles"))
            yield docs, kept, pa.array(ids, pa.string())
            continue
        new = np.diff(labels, prepend=last_label) != 0
        heads = np.append(last_doc, docs[new])[np.cumsum(new)]
        head_ids = pa.concat_arrays([pa.array([last_id], pa.string()), batch.column("id").filter(pa.array(new))])
        yield docs, heads, head_ids.take(pa.array(np.cumsum(new)))
        last_label, last_doc, last_id = int(labels[-1]), int(heads[-1]), head_ids[-1].as_py()


def sweep(out: Place) -> None:
    """Remove what a killed run left half written."""
    for folder in ("drops", "edges", f"{PRIVATE}/tasks"):
        remove_partials(out / folder)
    remove_spills(out)


def tidy(out: Place, names: set[str], bands: int) -> None:
    """Remove the edges, which nobody needs any more, and the drops of parts that are gone."""
    (out / "edges").remove()
    sweep(out)
    for number in range(bands):
        manifest.forget(out, f"band-{number:03}")
    for place in (out / "drops").children("part-*.parquet"):
        if place.name not in names:
            place.remove()
