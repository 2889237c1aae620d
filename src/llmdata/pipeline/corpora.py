"""What an ablation trains on: documents of several corpora, text held out that favours none, tokens of one tokenizer.

Where no held-out text is given, as many bytes of each corpus are held out: the documents whose addresses have the
lowest hashes. What is held out of one is left out of all, by address and by text. Of the rest, documents with the next
hashes are drawn until there is text enough, so that a filtered copy of a corpus gives its share of the same ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import xxhash
from pydantic import Field

from llmdata.config import Count, Section, Size
from llmdata.document import Rejection
from llmdata.engine.pool import Task, run_tasks
from llmdata.engine.session import Session
from llmdata.errors import ChangedError, InputError
from llmdata.storage import manifest
from llmdata.storage.inputs import Piece, plan_pieces, refuse_pages
from llmdata.storage.manifest import Manifest
from llmdata.storage.parquet import read_batches, write_table
from llmdata.storage.place import Place
from llmdata.tokenizer import TokenizeConfig, TokenizerConfig, tokenize, train_tokenizer
from llmdata.tokenizer.inputs import describe_changes, describe_inputs
from llmdata.tokenizer.source import read_texts

if TYPE_CHECKING:
    import pyarrow as pa

STAGE = "ablate"
HELD_OUT, DOCUMENTS, SAMPLES, TOKENIZER, TOKENS = "held-out", "documents", "samples", "tokenizer", "tokenized"
SPACE = 1 << 64
BYTES_A_TOKEN = 8
"""Text drawn for each token asked for: more than any tokenizer needs."""
SAMPLE_BYTES = 20_000_000
"""Text of each corpus that the tokenizer is trained on at most."""
ALL = 1 << 62
GIVEN = "+val"  # no name of a corpus
PRELOAD = ("llmdata.pipeline.corpora", "pyarrow.parquet")
_BATCH_ROWS = 1000


class AblationConfig(Section):
    """Settings of `llmdata ablate`, but for those of training."""

    tokens: Count = Field(ge=1)
    """Training tokens of each model."""
    seeds: int = Field(3, ge=1)
    """Models of each corpus."""
    val: str | None = None
    """Held-out documents. None: drawn from the corpora, as much of each."""
    val_bytes: Size = Field(1_000_000, ge=1)
    """Text to hold out, where it is drawn."""
    tokenizer: str | None = None
    """A name or path. None: trained on as much text of each corpus."""
    vocab_size: Count = Field(4096, ge=257)
    """Vocabulary of a tokenizer that is trained."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents, and the name that the results give them."""

    name: str
    pieces: list[Piece]


@dataclass(frozen=True, slots=True)
class HoldOutTask:
    """Write the documents with the lowest hashes of one corpus, `held` bytes of them, and count its text."""

    id: str
    fingerprint: str
    out: str
    name: str
    pieces: list[dict[str, Any]]
    held: int


@dataclass(frozen=True, slots=True)
class DrawTask:
    """Write the documents of one corpus whose hash is in [above, below); those below `sample` for the tokenizer too."""

    id: str
    fingerprint: str
    out: str
    name: str
    pieces: list[dict[str, Any]]
    above: int
    below: int
    sample: int


def corpus_of(name: str, address: Place) -> Corpus:
    """The documents at `address`: Parquet or JSON lines, a folder of `llmdata clean`, or a run with one."""
    inside = address / "clean"
    pieces = plan_pieces([inside if (inside / "final").is_dir() else address])
    refuse_pages(pieces, "auto", "`llmdata clean` makes documents of them")
    return Corpus(name, pieces)


def prepared(
    corpora: Sequence[Corpus], out: Place, config: AblationConfig, session: Session, rerun: bool = False
) -> list[Place]:
    """A folder of tokens for each of `corpora`, all of one tokenizer and with one validation split.

    Raises ChangedError if `out` was made of others and `rerun` is not set, InputError for a corpus that has no text
    left beside what is held out.
    """
    given = corpus_of(GIVEN, Place.of(config.val)) if config.val else None
    state = {
        "corpora": {corpus.name: describe_inputs(corpus.pieces, out) for corpus in corpora},
        "val": describe_inputs(given.pieces, out) if given else {},
        "config": config.model_dump(mode="json", exclude={"seeds"}),
    }
    manifest.check_stage(out, STAGE)
    before = manifest.stamp_of(out)
    if before and before.get("state") != state:
        if not rerun:
            changes = describe_changes(STAGE, before.get("state", {}), state)
            raise ChangedError(f"{out}: {changes}. Give --rerun to make it anew, or choose another folder.")
        for name in (HELD_OUT, DOCUMENTS, SAMPLES):
            (out / name).remove()
    manifest.save_stamp(out, STAGE, {"state": state})
    shares = [(corpus, 0 if given else -(-config.val_bytes // len(corpora))) for corpus in corpora]
    counted = _held_out(shares + ([(given, ALL)] if given else []), out, session)
    if not sum(made["held"] for made in counted):
        raise InputError("no text to hold out: give --val with documents that have some")
    counted = counted[: len(corpora)]
    left = [made["bytes"] - made["held"] for made in counted]
    for corpus, size in zip(corpora, left, strict=True):
        if size <= 0:
            raise InputError(
                f"corpus {corpus.name}: no text to train on beside what is held out; give less --val-bytes, or --val"
            )
    above = max(made["above"] for made in counted)
    _draw(corpora, left, above, out, BYTES_A_TOKEN * config.tokens, config.tokenizer is None, session)
    if config.tokenizer is None:
        settings = TokenizerConfig(vocab_size=config.vocab_size)
        train_tokenizer([out / SAMPLES], out / TOKENIZER, settings, session, rerun=rerun)
    folders = []
    for corpus in corpora:
        folder, documents = out / TOKENS / corpus.name, out / DOCUMENTS / f"{corpus.name}.parquet"
        chosen = config.tokenizer or str(out / TOKENIZER)
        tokenize([documents], chosen, folder, TokenizeConfig(val=str(out / HELD_OUT)), session, rerun=rerun)
        folders.append(folder)
    return folders


def _held_out(shares: Sequence[tuple[Corpus, int]], out: Place, session: Session) -> list[dict[str, int]]:
    tasks = []
    for corpus, held in shares:
        pieces = [asdict(piece) for piece in corpus.pieces]
        fingerprint = manifest.digest([describe_inputs(corpus.pieces, out), held])
        tasks.append(HoldOutTask(f"held-out-{corpus.name}", fingerprint, str(out), corpus.name, pieces, held))
    made = _run(tasks, run_hold_out_task, out, session, "held out")
    return [task.counts["held-out"] for task in made]


def _draw(
    corpora: Sequence[Corpus], left: Sequence[int], above: int, out: Place, wanted: int, sample: bool, session: Session
) -> None:
    """Draw `wanted` bytes of each corpus; where `sample`, as much of each for the tokenizer."""
    equal = min(SAMPLE_BYTES, *left)
    held = [manifest.sha256_of(path) for path in (out / HELD_OUT).children("*.parquet")]
    tasks = []
    for corpus, size in zip(corpora, left, strict=True):
        below, sampled = (above + int((SPACE - above) * min(1.0, bytes_ / size)) for bytes_ in (wanted, equal))
        sampled = sampled if sample else 0
        fingerprint = manifest.digest([describe_inputs(corpus.pieces, out), held, above, below, sampled])
        pieces = [asdict(piece) for piece in corpus.pieces]
        task = DrawTask(f"documents-{corpus.name}", fingerprint, str(out), corpus.name, pieces, above, below, sampled)
        tasks.append(task)
    _run(tasks, run_draw_task, out, session, "documents")


def _run(tasks: Sequence[Any], function: Any, out: Place, session: Session, stage: str) -> list[Manifest]:
    """Run the tasks that are not done; the manifests of all."""
    todo = [task for task in tasks if manifest.finished(out, task.id, task.fingerprint) is None]
    run_tasks([Task(task.id, task) for task in todo], function, session, stage=stage, state=out, preload=PRELOAD)
    made = [manifest.finished(out, task.id, task.fingerprint) for task in tasks]
    return [task for task in made if task is not None]


def run_hold_out_task(task: HoldOutTask) -> None:
    """Run `task` and leave its file and its manifest."""
    out = Place.of(task.out)
    held: list[tuple[int, str, str, str]] = []
    size = total = 0
    bound = SPACE if task.held else 0
    for key, identity, url, text in _documents(task.pieces):
        length = len(text.encode())
        total += length
        if key < bound:
            held.append((key, identity, url, text))
            size += length
            if size > 4 * task.held + 1_000_000:  # only the lowest can be taken, whatever follows
                held, size = _lowest(held, task.held)
                bound = held[-1][0] + 1
    held, size = _lowest(held, task.held)
    path = f"{HELD_OUT}/{task.name}.parquet"
    rows = write_table(out / path, _batches(row[1:] for row in held), _schema()) if held else 0
    outputs = [manifest.output_of(out, path, rows)] if held else []
    counts = {"bytes": total, "held": size, "above": held[-1][0] + 1 if held else 0}
    Manifest(task.id, task.fingerprint, task.pieces, outputs, {"held-out": counts}).save(out)


def _lowest(rows: list[tuple[int, str, str, str]], wanted: int) -> tuple[list[tuple[int, str, str, str]], int]:
    """The rows with the lowest hashes that together have `wanted` bytes of text, and the bytes that they have."""
    rows = sorted(rows)
    size = 0
    for number, row in enumerate(rows):
        if size >= wanted:
            return rows[:number], size
        size += len(row[3].encode())
    return rows, size


def run_draw_task(task: DrawTask) -> None:
    """Run `task` and leave its files and its manifest."""
    out = Place.of(task.out)
    keys: set[int] = set()
    texts: set[int] = set()
    for path in (out / HELD_OUT).children("*.parquet"):
        for batch in read_batches(path):
            for row in batch.to_pylist():
                keys.add(_hash(row["url"] or row["id"]))
                texts.add(_hash(row["text"]))

    def drawn(below: int) -> Iterator[tuple[str, str, str]]:
        for key, identity, url, text in _documents(task.pieces):
            if task.above <= key < below and key not in keys and _hash(text) not in texts:
                yield identity, url, text

    outputs = []
    for folder, below in ((DOCUMENTS, task.below), (SAMPLES, task.sample)):
        if below:
            name = f"{folder}/{task.name}.parquet"
            outputs.append(manifest.output_of(out, name, write_table(out / name, _batches(drawn(below)), _schema())))
    Manifest(task.id, task.fingerprint, task.pieces, outputs).save(out)


def _documents(pieces: Sequence[dict[str, Any]]) -> Iterator[tuple[int, str, str, str]]:
    """Hash of its address, id, address and text of each document; what cannot be read is left out."""
    unread: list[Rejection] = []
    for piece in pieces:
        for batch in read_texts(Piece(**piece), unread):
            columns = (batch.ids.to_pylist(), batch.urls.to_pylist(), batch.texts.to_pylist())
            for identity, url, text in zip(*columns, strict=True):
                yield _hash(url or identity), identity, url, text


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())


def _batches(rows: Iterable[Sequence[Any]]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    schema, left = _schema(), iter(rows)
    while part := list(itertools.islice(left, _BATCH_ROWS)):
        columns = [pa.array(values, kind) for values, kind in zip(zip(*part, strict=True), schema.types, strict=True)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([("id", pa.string()), ("url", pa.string()), ("text", pa.large_string())])
