"""One task of a clean pass, as a worker runs it: one piece of input through the chain, into parts on storage."""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmdata.audit import contamination
from llmdata.dedup.shuffle import Shuffle, Verdicts
from llmdata.document import Document, Rejection, document_schema, rejection_schema, rejections_to_batch, to_batch
from llmdata.engine import guard
from llmdata.pipeline.chain import Chain, Stopwatch, make_filter, make_shuffle
from llmdata.pipeline.clean_config import CleanConfig
from llmdata.storage.inputs import Piece, read_piece
from llmdata.storage.journal import Journal
from llmdata.storage.manifest import Manifest, Output, output_of
from llmdata.storage.parquet import read_documents, write_table
from llmdata.storage.place import Place

if TYPE_CHECKING:
    import pyarrow as pa

FLUSH_ITEMS = 100
FLUSH_CHARACTERS = 4_000_000
"""A journal entry is written after so many items, or so much text: what a crash makes the worker do again."""

START, WRITE = "start", "write"
"""What CPU time goes to beside the stages: making them (models, lists), and journal, Parquet and digests."""

_LANGUAGE_CODE = re.compile(r"[a-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PassTask:
    """All that one task needs, as JSON-able values. It reads `piece`, or in later passes `parts` of the pass before."""

    id: str
    number: int
    fingerprint: str
    out: str
    folder: str
    journal: str
    config: str
    filters: tuple[str, ...]
    drop: str | None
    shuffle: str | None
    pass_number: int
    piece: dict[str, Any] | None = None
    parts: list[tuple[str, str]] = field(default_factory=list)
    """(documents, drops) of the pass before, relative to `out`."""
    limit: int | None = None
    by_language: bool = False
    """Its documents go to a folder a language below `folder`."""
    base: str = ""
    """What is cut off the front of `file_path`, so that a run folder can be moved and compared."""

    @property
    def part(self) -> str:
        return f"part-{self.number:05}.parquet"

    @property
    def rejected(self) -> str:
        return f"rejected/part-{self.pass_number:02}-{self.number:05}.parquet"


class _Drop:
    """The drop stage: knows which row of which part the chain is at, because the source tells it."""

    def __init__(self) -> None:
        self.drops: Verdicts | None = None
        self.row = 0

    def __call__(self, doc: Document) -> Document | Rejection:
        assert self.drops is not None
        return self.drops.apply(doc, self.row)


def run_pass_task(task: PassTask) -> dict[str, Any]:
    """Run `task` and leave its parts and its manifest; returns the counts.

    Goes on from the journal if an earlier worker died on it.
    """
    began, cpu = time.monotonic(), time.process_time()
    out, hand = Place.of(task.out), guard.current()
    config = _config(task.config)
    drop = _Drop()
    stages = [(name, _filter(name, task.config)) for name in task.filters]
    chain = Chain([(task.drop, drop), *stages] if task.drop else stages)
    chain.watch.seconds[START] = time.process_time() - cpu
    journal = Journal(Path(task.journal) / task.id)
    done = _restore(journal, chain)
    pending = _Pending(make_shuffle(task.shuffle, config) if task.shuffle else None, config.rejected)
    source = _source(task, out, drop)
    index = 0
    while True:
        casualty = hand.casualties.get(index)
        with hand.item(index):
            if casualty and casualty.step == 0:
                # Reading on would kill this worker too, and where the next record begins is not known without it.
                item: Document | Rejection | None = _unreadable(task, index, casualty.reason)
            else:
                item = next(source, None)
            if item is not None and index >= done:
                pending.add(chain(item, hand, casualty))
        index += item is not None
        if pending.full:
            _save(pending, journal, chain, index)
        if item is None or (casualty and casualty.step == 0):
            break
    if pending.items or not journal.notes:
        _save(pending, journal, chain, index)
    counts = journal.notes[-1]["counts"]
    outputs = _write(task, out, journal, pending.shuffle)
    chain.watch.lap(WRITE)
    Manifest(
        task=task.id,
        fingerprint=task.fingerprint,
        inputs=[task.piece] if task.piece else [{"path": documents} for documents, _ in task.parts],
        outputs=outputs,
        counts=counts,
        cost={
            "seconds": round(time.monotonic() - began, 3),
            "cpu_seconds": round(time.process_time() - cpu, 3),
            "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "stages": {name: round(seconds, 4) for name, seconds in chain.watch.seconds.items()},
        },
    ).save(out)
    journal.remove()
    return {"counts": counts}


class _Pending:
    """Finished items that wait for the next journal entry."""

    def __init__(self, shuffle: Shuffle | None, rejected: str) -> None:
        self.shuffle, self._mode = shuffle, rejected
        self._kept: list[Document] = []
        self._rejected: list[Rejection] = []
        self._characters = 0
        self.items = 0

    def add(self, outcome: Document | Rejection) -> None:
        self.items += 1
        if isinstance(outcome, Document):
            self._kept.append(outcome)
            self._characters += len(outcome.text)
        elif self._mode != "none" or contamination.STAGE in outcome.document.metadata:  # its report needs those
            outcome.document.payload = None
            if self._mode != "full":
                outcome.document.text = ""
            self._rejected.append(outcome)
            self._characters += len(outcome.document.text)

    @property
    def full(self) -> bool:
        return self.items >= FLUSH_ITEMS or self._characters >= FLUSH_CHARACTERS

    def take(self, watch: Stopwatch) -> dict[str, pa.RecordBatch]:
        batches = {"kept": to_batch(self._kept), "rejected": rejections_to_batch(self._rejected)}
        watch.lap(WRITE)
        if self.shuffle:
            batches["keys"] = self.shuffle.keys(self._kept)
            watch.lap(f"{self.shuffle.name} keys")
        self._kept, self._rejected, self._characters, self.items = [], [], 0, 0
        return batches


def _source(task: PassTask, out: Place, drop: _Drop) -> Iterator[Document | Rejection]:
    if task.piece is not None:
        return islice(_from_piece(Piece(**task.piece), task.base), task.limit)
    return _from_parts(task, out, drop)


def _from_piece(piece: Piece, base: str) -> Iterator[Document | Rejection]:
    for item in read_piece(piece):
        doc = item.document if isinstance(item, Rejection) else item
        doc.file_path = doc.file_path.removeprefix(base)
        yield item


def _from_parts(task: PassTask, out: Place, drop: _Drop) -> Iterator[Document]:
    shuffle = make_shuffle(task.drop, _config(task.config)) if task.drop else None
    for documents, drops in task.parts:
        drop.drops = shuffle.load(out / drops) if shuffle else None
        for drop.row, doc in enumerate(read_documents(out / documents)):
            yield doc


def _unreadable(task: PassTask, index: int, reason: str) -> Rejection:
    where = task.piece or {"path": ", ".join(documents for documents, _ in task.parts)}
    doc = Document(id=f"{task.id}-{index}", file_path=str(where["path"]))
    return Rejection(doc, "read", reason, f"the reader died at record {index} of {task.id}; the rest of it is not read")


def _restore(journal: Journal, chain: Chain) -> int:
    """Take counts and position from the journal; returns how many items are done."""
    if not journal.notes:
        return 0
    note = journal.notes[-1]
    for name, record in note["counts"].items():
        count = chain.counts[name]
        count.entered, count.kept, count.changed = record["in"], record["kept"], record["changed"]
        count.rejected = dict(record["rejected"])
    for name, seconds in note["seconds"].items():
        chain.watch.seconds[name] = chain.watch.seconds.get(name, 0.0) + seconds
    return int(note["done"])


def _save(pending: _Pending, journal: Journal, chain: Chain, done: int) -> None:
    batches = pending.take(chain.watch)
    journal.append(batches, {"done": done, "counts": _records(chain), "seconds": chain.watch.seconds})
    chain.watch.lap(WRITE)


def _records(chain: Chain) -> dict[str, Any]:
    return {name: count.record() for name, count in chain.counts.items()}


def _write(task: PassTask, out: Place, journal: Journal, shuffle: Shuffle | None) -> list[Output]:
    outputs = []
    for path, batches in _by_language(task, out, journal) if task.by_language else _whole(task, journal):
        rows = write_table(out / path, batches, document_schema())
        outputs.append(output_of(out, path, rows))
    rows = write_table(out / task.rejected, journal.batches("rejected"), rejection_schema())
    if rows:
        outputs.append(output_of(out, task.rejected, rows))
    else:
        (out / task.rejected).remove()
    if shuffle:
        path = f"dedup/{shuffle.name}/keys/{task.part}"
        rows = write_table(out / path, journal.batches("keys"), shuffle.schema)
        outputs.append(output_of(out, path, rows))
    return outputs


def _whole(task: PassTask, journal: Journal) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
    yield f"{task.folder}/{task.part}", journal.batches("kept")


def _by_language(task: PassTask, out: Place, journal: Journal) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
    """A part a language, each from one reading of the journal, so that memory does not grow with the languages.

    A task that keeps nothing leaves an empty part in `lang=unknown`: every task has documents that can be read.
    """
    found = {language for batch in journal.batches("kept") for language in batch["language"].to_pylist()}
    folders: dict[str, list[str]] = {}
    for language in sorted(found) or [""]:
        folders.setdefault(language_folder(language), []).append(language)
    for place in (out / task.folder).children("lang=*"):
        if place.name not in folders:  # of an earlier run with other settings
            (place / task.part).remove()
    for folder, languages in sorted(folders.items()):
        yield f"{task.folder}/{folder}/{task.part}", _only(journal.batches("kept"), languages)


def language_folder(language: str) -> str:
    """The folder of a language, named as Hive and what reads its tables expect. Input may bring any `language`."""
    return f"lang={language if _LANGUAGE_CODE.fullmatch(language) else 'unknown'}"


def _only(batches: Iterator[pa.RecordBatch], languages: list[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(languages)
    for batch in batches:
        yield batch.filter(pc.is_in(batch["language"], wanted))


@lru_cache(maxsize=2)
def _config(text: str) -> CleanConfig:
    return CleanConfig.model_validate_json(text)


@lru_cache(maxsize=32)
def _filter(name: str, config: str) -> Any:
    # Once a process: a filter may hold a model or a list.
    return make_filter(name, _config(config))
