"""A corpus into token shards: encode its pieces side by side, decide where each document goes, write the shards.

The bytes depend on the input and the settings alone. Both halves run as tasks with manifests, so a run that is killed
goes on where it was; the encoded pieces in between take as much room again as the shards, and go when these are done.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from llmdata.engine.pool import Task, run_tasks
from llmdata.engine.session import Session
from llmdata.engine.share import run_list
from llmdata.errors import ChangedError, ConfigError, InputError
from llmdata.storage import manifest
from llmdata.storage.encoding import load_encoding
from llmdata.storage.encoding_kinds import Encoding
from llmdata.storage.inputs import Piece, plan_pieces, refuse_pages
from llmdata.storage.lock import PRIVATE
from llmdata.storage.manifest import Manifest
from llmdata.storage.parquet import read_batches
from llmdata.storage.place import Place, remove_partials
from llmdata.storage.token_index import INDEX, TOKENIZER, DocumentsFile, Shard, Split, TokenIndex, load_index
from llmdata.storage.token_shards import dtype_for
from llmdata.tokenizer.config import TokenizeConfig
from llmdata.tokenizer.counts import COUNTED
from llmdata.tokenizer.encode import ENCODED, EncodeTask, run_encode_task
from llmdata.tokenizer.files import keep_encoding
from llmdata.tokenizer.inputs import describe_changes, describe_inputs
from llmdata.tokenizer.placement import SPLITS, Cut, Entries, cut_tail, entries_of, find_tail, place
from llmdata.tokenizer.shards import BY_PART, BY_SHARD, ListTask, ShardTask, run_shard_task

STAGE = "tokenize"
EOT_AFTER = ("nanogpt", "megatron")
"""Formats in which the end-of-text token ends a document; in the others it begins one."""
PRELOAD = (
    "llmdata.tokenizer.encode",
    "llmdata.tokenizer.shards",
    "pyarrow.parquet",
    "pyarrow.compute",
    "awkward",
    "gigatoken",
    "tiktoken",
)
"""Imported once and shared by the workers that are forked from there."""


@dataclass(frozen=True, slots=True)
class TokenizeResult:
    """What tokenizing came to. `rejected` counts documents that could not be read; `fresh` is False if all was done."""

    index: TokenIndex
    rejected: int
    seconds: float
    fresh: bool


def tokenize(
    inputs: Sequence[Place | str],
    tokenizer: Place | str,
    out: Place,
    config: TokenizeConfig,
    session: Session,
    *,
    rerun: bool = False,
) -> TokenizeResult:
    """Encode the documents of `inputs` with `tokenizer` into shards in the folder `out`.

    The same bytes for any number of workers and any kills. Raises ChangedError if `out` was made from other inputs or
    settings and `rerun` is not set.
    """
    began = time.monotonic()
    encoding = load_encoding(tokenizer, config.pattern)
    if config.format == "nanogpt" and encoding.n_vocab > 1 << 16:
        raise ConfigError(
            f"nanoGPT reads 16-bit tokens, and this vocabulary has {encoding.n_vocab:,}; use --format llmc"
        )
    pieces = _plan(inputs, config)
    val_pieces = _plan_validation(config)
    if both := {piece.path for piece in pieces} & {piece.path for piece in val_pieces}:
        raise ConfigError(f"--val {config.val}: {min(both)} is among the inputs as well; leave it out of one of them")
    state = {
        "inputs": describe_inputs(pieces, out),
        "validation": describe_inputs(val_pieces, out),
        "tokenizer": encoding.digest,
        "config": config.model_dump(mode="json"),
    }
    manifest.check_stage(out, STAGE)
    before = manifest.stamp_of(out)
    if before and before.get("state") != state:
        if not rerun:
            changes = describe_changes(STAGE, before.get("state", {}), state)
            raise ChangedError(f"{out}: {changes}. Give --rerun to make the tokens anew, or choose another folder.")
        _clear(out)
    elif before and before.get("finished") and _is_whole(out, state):
        _remove_partials(out, session)
        _remove_encoded(out)
        return TokenizeResult(load_index(out), before["rejected"], time.monotonic() - began, fresh=False)
    if session.share is None:  # who shares a run sees others' work in hand
        _remove_partials(out, session)
    if session.share is None or before is None or before.get("finished"):  # finished, and damaged since
        manifest.save_stamp(out, STAGE, {"state": state, "finished": False})
    kept = keep_encoding(encoding, tokenizer, out / TOKENIZER)
    encoding.release()
    encoded = _encode(pieces, val_pieces, out, config, encoding, session)
    index = _assemble(encoded, out, config, encoding, session)
    rejected = sum(sum(made.counts[STAGE]["rejected"].values()) for made in encoded)
    _remove_partials(out, session)  # of workers that died on the way
    _finish(out, index, [f"{TOKENIZER}/{name}" for name in kept], encoded, state, rejected)
    if config.validation.by != "none" and not index.splits["val"].documents:
        session.progress.note(f"{STAGE}: no document fell into validation; give val a larger share (--val)")
    return TokenizeResult(index, rejected, time.monotonic() - began, fresh=True)


def _plan(inputs: Sequence[Place | str], config: TokenizeConfig) -> list[Piece]:
    pieces = plan_pieces(inputs, layout=config.layout, text_column=config.text_column, task_bytes=config.task_bytes)
    refuse_pages(pieces, config.layout, "`llmdata clean` makes documents of them")
    table = next((piece for piece in pieces if piece.format != "parquet"), None)
    if config.token_counts and table is not None:
        raise ConfigError(f"--token-counts: copies Parquet, and {table.path} is {table.format}")
    return pieces


def _plan_validation(config: TokenizeConfig) -> list[Piece]:
    if config.validation.by != "input":
        return []
    try:
        return _plan([config.validation.source], config)
    except InputError as error:
        raise InputError(f"--val {config.val}: neither hash:SHARE, tail:SHARE, none nor documents: {error}") from None


def _encode(
    pieces: Sequence[Piece],
    val_pieces: Sequence[Piece],
    out: Place,
    config: TokenizeConfig,
    encoding: Encoding,
    session: Session,
) -> list[Manifest]:
    share = config.validation.share if config.validation.by == "hash" else 0.0
    after, counted = config.format in EOT_AFTER, config.token_counts
    tasks = []
    for number, piece in enumerate([*pieces, *val_pieces]):
        piece_share = share if number < len(pieces) else 1.0
        record = asdict(piece)
        facts = [describe_inputs([piece], out), record, encoding.digest, piece_share, after, counted]
        fingerprint = manifest.digest(facts)
        folder = str(out / TOKENIZER)
        name = f"encode-{number:05}"
        tasks.append(EncodeTask(name, number, fingerprint, str(out), folder, record, piece_share, after, counted))
    return _run(tasks, run_encode_task, out, session, STAGE, lambda made: made)


def _assemble(
    encoded: Sequence[Manifest], out: Place, config: TokenizeConfig, encoding: Encoding, session: Session
) -> TokenIndex:
    """Decide where each document goes, and write the shards and the lists of documents."""
    entries = entries_of([_columns(out / made.outputs[1].path) for made in encoded])
    if not len(entries):
        raise InputError("no document to tokenize: the input has none that can be read")
    if config.validation.by == "tail":
        cut = find_tail(entries, config.validation.share)
        entries = cut_tail(entries, cut, _bytes_before(cut, entries, out, encoding))
    if config.format in ("llmc", "megatron") and entries["length"].max() >= 1 << 31:
        raise InputError(f"a document of {entries['length'].max():,} tokens: {config.format} counts them in 32 bits")
    placed = place(entries, None if config.format == "nanogpt" else config.shard_tokens, config.shuffle_seed)
    content = manifest.digest([made.outputs[0].sha256 for made in encoded])
    dtype = _dtype(config, encoding)
    shards = _shard_tasks(placed, content, out, dtype, config.format)
    names = {split: [task.path for task in shards[split]] for split in SPLITS}
    ordered = placed[np.lexsort((placed["offset"], placed["part"]))]
    lists = _list_tasks(ordered, encoded, out, names)
    tasks: list[ShardTask | ListTask] = [*shards["train"], *shards["val"], *lists]
    (out / BY_SHARD).write_bytes(placed.tobytes())
    (out / BY_PART).write_bytes(ordered.tobytes())
    made = _run(tasks, run_shard_task, out, session, "shards", None)
    outputs = {found.task: found.outputs for found in made}
    splits = {}
    for number, split in enumerate(SPLITS):
        chosen = placed[placed["split"] == number]
        splits[split] = Split(
            tokens=int(chosen["length"].sum()),
            documents=len(chosen),
            bytes=int(chosen["bytes"].sum()),
            shards=[Shard(task.path, task.tokens, *_facts_of(outputs[task.id][0])) for task in shards[split]],
        )
    return TokenIndex(
        tokenizer_digest=encoding.digest,
        vocab_size=encoding.n_vocab,
        eot=encoding.eot,
        dtype=dtype,
        format=config.format,
        splits=splits,
        documents=[_file_of(outputs[task.id][0]) for task in lists],
        beside=[_file_of(output) for split in SPLITS for task in shards[split] for output in outputs[task.id][1:]],
    )


def _dtype(config: TokenizeConfig, encoding: Encoding) -> str:
    """How a token is written. Megatron-LM knows no uint32; an id is below 2**31, so the bytes are the same."""
    name = dtype_for(encoding.n_vocab).name
    return "int32" if config.format == "megatron" and name == "uint32" else name


def _file_of(output: manifest.Output) -> DocumentsFile:
    return DocumentsFile(output.path, output.rows, *_facts_of(output))


def _facts_of(output: manifest.Output) -> tuple[str, int]:
    return output.sha256, output.bytes


def _columns(table: Place) -> dict[str, Any]:
    names = ["tokens", "bytes", "val"]
    batches = list(read_batches(table, names))
    empty: Any = np.zeros(0, dtype=np.int64)
    return {
        name: np.concatenate([empty, *(batch.column(name).to_numpy(zero_copy_only=False) for batch in batches)])
        for name in names
    }


def _bytes_before(cut: Cut, entries: Entries, out: Place, encoding: Encoding) -> int:
    """Bytes of text in the tokens that a cut document leaves to training."""
    if cut.entry == len(entries):
        return 0
    entry = entries[cut.entry]
    dtype = dtype_for(encoding.n_vocab)
    with (out / ENCODED / f"{entry['part']:05}.tokens").open() as stream:
        stream.seek(int(entry["offset"]) * dtype.itemsize)
        ids = np.frombuffer(stream.read(cut.tokens * dtype.itemsize), dtype)
    size = len(encoding.decode_bytes(int(token) for token in ids if token != encoding.eot))
    return min(size, int(entry["bytes"]))


def _shard_tasks(placed: Entries, content: str, out: Place, dtype: str, layout: str) -> dict[str, list[ShardTask]]:
    tasks: dict[str, list[ShardTask]] = {split: [] for split in SPLITS}
    suffix = "parquet" if layout == "parquet" else "bin"
    keys = placed["split"].astype(np.int64) << 32 | placed["shard"]
    starts = np.flatnonzero(np.diff(keys, prepend=-1)).tolist()
    for start, end in zip(starts, [*starts[1:], len(placed)], strict=True):
        split, shard = SPLITS[int(placed["split"][start])], int(placed["shard"][start])
        name = f"{split}.{suffix}" if layout == "nanogpt" else f"{split}-{shard:05}.{suffix}"
        tokens = int(placed["length"][start:end].sum())
        fingerprint = manifest.digest([content, _digest(placed[start:end]), dtype, layout])
        task = ShardTask(f"shard-{split}-{shard:05}", fingerprint, str(out), name, start, end, tokens, dtype, layout)
        tasks[split].append(task)
    return tasks


def _list_tasks(
    ordered: Entries, encoded: Sequence[Manifest], out: Place, names: dict[str, list[str]]
) -> list[ListTask]:
    bounds = np.searchsorted(ordered["part"], np.arange(len(encoded) + 1)).tolist()
    tasks = []
    for number, (made, start, end) in enumerate(zip(encoded, bounds, bounds[1:], strict=False)):
        fingerprint = manifest.digest([made.outputs[1].sha256, _digest(ordered[start:end]), names])
        path = f"documents-{number:05}.parquet"
        table = made.outputs[1].path
        tasks.append(ListTask(f"documents-{number:05}", fingerprint, str(out), path, table, start, end, names))
    return tasks


def _digest(entries: Entries) -> str:
    return hashlib.sha256(entries.tobytes()).hexdigest()


def _run(
    tasks: Sequence[Any],
    function: Callable[[Any], dict[str, int]],
    out: Place,
    session: Session,
    stage: str,
    facts: Callable[[dict[str, int]], dict[str, int]] | None,
) -> list[Manifest]:
    """Run the tasks that are not done; returns the manifests of all."""

    def work(todo: Sequence[Any], done: int) -> None:
        for task in todo:
            manifest.forget(out, task.id)
        if done:
            session.progress.note(f"{stage}: {done} of {len(tasks)} tasks were done before")
        jobs = [Task(task.id, task) for task in todo]
        run_tasks(jobs, function, session, stage=stage, state=out, facts=facts, preload=PRELOAD)

    def finished(task: Any) -> Manifest | None:
        return manifest.finished(out, task.id, task.fingerprint)

    return run_list(tasks, finished, work, session, stage, over=lambda: manifest.is_over(out))


def _is_whole(out: Place, state: dict[str, Any]) -> bool:
    """Whether a finished folder still has all its files: those in its manifest, and those in its index."""
    if manifest.finished(out, STAGE, manifest.digest(state)) is None:
        return False
    index = load_index(out)
    files = [(file.path, file.bytes) for split in index.splits.values() for file in split.shards]
    files += [(file.path, file.bytes) for file in (*index.beside, *index.documents)]
    return all((out / path).has_size(size) for path, size in files)


def _finish(
    out: Place,
    index: TokenIndex,
    tokenizer: Sequence[str],
    encoded: Sequence[Manifest],
    state: dict[str, Any],
    rejected: int,
) -> None:
    """The index, one manifest for the whole in place of the tasks', the stamp; then the encoded pieces may go."""
    index.save(out)
    reasons: dict[str, int] = {}
    for made in encoded:
        for reason, count in made.counts[STAGE]["rejected"].items():
            reasons[reason] = reasons.get(reason, 0) + count
    kept = sum(made.counts[STAGE]["kept"] for made in encoded)
    counts = {STAGE: {"in": kept + rejected, "kept": kept, "rejected": dict(sorted(reasons.items()))}}
    outputs = [manifest.output_of(out, path, 0) for path in (INDEX, *tokenizer)]
    outputs += [output for made in encoded for output in made.outputs if not output.path.startswith(f"{ENCODED}/")]
    cost = {name: sum(made.cost[name] for made in encoded) for name in ("seconds", "cpu_seconds")}
    cost["peak_memory"] = max(made.cost["peak_memory"] for made in encoded)
    inputs = [piece for made in encoded for piece in made.inputs]
    Manifest(STAGE, manifest.digest(state), inputs, outputs, counts, cost).save(out)
    manifest.save_stamp(out, STAGE, {"state": state, "finished": True, "rejected": rejected})
    _remove_encoded(out)


def _remove_partials(out: Place, session: Session) -> None:
    for folder in (out, out / ENCODED, out / "rejected", out / COUNTED, out / PRIVATE / "tasks"):
        remove_partials(folder)
    # Here every process of a shared run writes, whenever it looks what is left to do: another may be at it now.
    for folder in (out / TOKENIZER, out / PRIVATE) if session.share is None else ():
        remove_partials(folder)


def _remove_encoded(out: Place) -> None:
    for pattern in ("encode-*.json", "shard-*.json", "documents-*.json"):
        for path in (out / PRIVATE / "tasks").children(pattern):
            path.remove()
    (out / ENCODED).remove()


def _clear(out: Place) -> None:
    """Remove what an earlier run with other settings wrote."""
    (out / INDEX).remove()
    _remove_encoded(out)
    manifest.forget(out, STAGE)
    for pattern in ("train*.bin", "val*.bin", "*.idx", "train-*.parquet", "val-*.parquet", "documents-*.parquet"):
        for path in out.children(pattern):
            path.remove()
    for name in (TOKENIZER, "rejected", COUNTED):
        (out / name).remove()
