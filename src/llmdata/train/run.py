"""`train`: what is already done, what has changed since, and the books of a finished run.

Imports torch only to train.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from llmdata.engine.session import Session
from llmdata.errors import ChangedError, ConfigError, InputError, LlmdataError
from llmdata.storage import manifest
from llmdata.storage.manifest import Manifest
from llmdata.storage.place import Place
from llmdata.train.config import ModelConfig, NgramConfig, TrainConfig
from llmdata.train.parallel import ALONE, Ranks
from llmdata.train.sampling import CHECKPOINTS, MODEL, TOKENIZER

if TYPE_CHECKING:
    from llmdata.storage.token_index import TokenIndex

TASK = "train"
METRICS, SAMPLES, CURVE = "metrics.jsonl", "samples.jsonl", "loss.svg"
_OURS = (CHECKPOINTS, METRICS, SAMPLES, CURVE, MODEL, TOKENIZER, "export", "tensorboard", "wandb")

_FREE = (
    "device", "parallel", "compile", "recompute", "threads", "checkpoint_every", "keep_last", "keep_best", "peak_flops",
    "track",
)  # fmt: skip
"""Settings that may change between two halves of a run: they decide how it is done, not what is computed."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished run. Losses in nats a token; `seconds` are of training, without evaluation and samples."""

    steps: int
    tokens: int
    parameters: int
    loss: float
    val_loss: float | None
    perplexity: float | None
    bits_per_byte: float | None
    seconds: float
    tokens_per_second: float
    checkpoint: str
    sample_before: str | None
    sample_after: str | None
    fresh: bool = True
    """False if the run was finished before and nothing has been done."""


def train(
    tokens: Place, out: Place, config: TrainConfig, session: Session, rerun: bool = False, ranks: Ranks = ALONE
) -> TrainResult:
    """Train a model on the tokens folder `tokens` into `out`, or go on where an earlier run stopped.

    Raises ChangedError if `out` was made with other settings or tokens (`rerun` starts anew), InputError if the tokens
    disagree with their index, and StoppedEarly after saving when the session wants to stop. Holding the lock of `out`
    is up to the caller. Of several `ranks`, joined by the caller, the first alone reads and writes `out`.
    """
    from llmdata.storage.token_index import load_index
    from llmdata.train.data import load_sources

    index = load_index(tokens)
    sources = load_sources(tokens, index, config.data.mix)
    begun_with = None
    if config.init is not None:
        if not isinstance(config.shape, ModelConfig):
            raise ConfigError(f"--init goes on with a decoder, in its shape; leave out --model {config.shape.kind}")
        from llmdata.train.hf import beginning

        config, begun_with = beginning(config, Place.of(config.init), index)
    settings = _deciding(config)
    if begun_with is not None:
        settings["init"] = begun_with
    source = {
        "tokenizer": index.tokenizer_digest,
        "vocab_size": index.vocab_size,
        "shards": {name: [shard.sha256 for shard in split.shards] for name, split in sorted(index.splits.items())},
    }
    if config.data.mix:
        source["mix"] = [[shard.sha256 for shard in other.splits["train"].shards] for _, other in sources[1:]]
    fingerprint = manifest.digest({"settings": settings, "tokens": source})
    stamp: dict[str, Any] = {"fingerprint": fingerprint, "settings": settings, "tokens": source}
    begun = ranks.on_first(lambda: _begun(out, stamp, rerun))
    if isinstance(begun, TrainResult):
        return begun
    for folder, other in sources:
        _check_shards(other, folder, ranks)
    # Recorded, because the number of threads decides the last bits of a sum: a resumed run has to use the same.
    before = begun.get("threads") if begun.get("ranks", 1) == ranks.size else None
    threads = config.threads or before or max(1, len(os.sched_getaffinity(0)) // ranks.here)
    trainer: Counting | Trainer  # refuses what cannot be: before the stamp
    with _want_of_memory():
        if isinstance(config.shape, NgramConfig):
            from llmdata.train.ngram_run import Counting

            if ranks.size > 1:
                raise ConfigError(f"n-grams are counted by one process, not by {ranks.size}: run it without torchrun")
            trainer = Counting(tokens, index, out, config, session)
        else:
            from llmdata.train.loop import Trainer

            trainer = Trainer(tokens, index, out, config, session, threads, ranks)
        if ranks.first:
            manifest.save_stamp(out, TASK, stamp | {"threads": threads, "ranks": ranks.size})
        result = trainer.run()
    if not ranks.first:
        return result
    record = asdict(result)
    del record["fresh"]
    cost = {key: record.pop(key) for key in ("seconds", "tokens_per_second")}
    outputs = [
        manifest.output_of(out, path, rows)
        for path, rows in (
            (METRICS, config.steps),
            (SAMPLES, 0),
            (CURVE, 0),
            (MODEL, 0),
            (f"{result.checkpoint}/model.safetensors", result.parameters),
            (f"{result.checkpoint}/optimizer.safetensors", 0),
        )
        if (out / path).exists()
    ]
    inputs = [{"path": shard.path, "sha256": shard.sha256} for split in index.splits.values() for shard in split.shards]
    Manifest(TASK, fingerprint, inputs, outputs, {"train": record}, cost).save(out)
    return result


@contextmanager
def _want_of_memory() -> Iterator[None]:
    """Say what to do where there is no memory: PyTorch tells it by the text of a RuntimeError."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        told = isinstance(error, RuntimeError) and re.search("can't allocate memory|out of memory", str(error))
        if not (told or isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM):
            raise
        size = re.search(r"ried to allocate ([\d.]+ \w+)", str(error))
        raise LlmdataError(
            f"not enough memory to train this model{f', at {size[1]} more' if size else ''}: `llmdata plan` says what "
            "one takes; less do a smaller one, train.data.micro_batch=1 and train.recompute=true"
        ) from error


def _begun(out: Place, stamp: dict[str, Any], rerun: bool) -> TrainResult | dict[str, Any]:
    """The result of a run by `stamp` that is finished; else what the stamp of the one begun says, empty if none is."""
    manifest.check_stage(out, TASK)
    finished, old = manifest.find(out, TASK), manifest.stamp_of(out)
    if old is None or old.get("fingerprint") != stamp["fingerprint"]:
        if rerun:
            _clear(out)
            return {}
        if old is None:
            return {}
        raise ChangedError(
            f"{out}: this model was trained with other {_what_changed(old, stamp['settings'], stamp['tokens'])}. Give "
            "--rerun to train it anew, or another --out to keep it."
        )
    if (
        finished is not None
        and finished.fingerprint == stamp["fingerprint"]
        and all(manifest.is_whole(out, output) for output in finished.outputs)
    ):
        return TrainResult(**finished.counts["train"] | finished.cost, fresh=False)
    return old


def _deciding(config: TrainConfig) -> dict[str, Any]:
    """The settings that decide what is computed."""
    settings = config.model_dump(mode="json", exclude=set(_FREE))
    settings["model"] = config.shape.model_dump(mode="json")
    settings["data"].pop("micro_batch")
    settings.pop("init")
    settings["data"]["mix"] = [source.weight for source in config.data.mix]  # where they lie decides nothing
    settings["loop"] = {"steps": config.steps}
    if isinstance(config.shape, NgramConfig):
        settings["loop"]["tokens"] = config.loop.tokens
    return settings


def _what_changed(stamp: dict[str, Any], settings: dict[str, Any], source: dict[str, Any]) -> str:
    changed = [f"train.{key}" for key in _differences(stamp.get("settings", {}), settings)]
    if stamp.get("tokens") != source:
        changed.append("tokens")
    return ", ".join(changed) or "settings"


def _differences(old: Any, new: dict[str, Any]) -> list[str]:
    if not isinstance(old, dict):
        return []
    found = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(after, dict) and isinstance(before, dict):
            found += [f"{key}.{inner}" for inner in _differences(before, after)]
        elif before != after:
            found.append(f"{key} ({before} → {after})")
    return found


def _check_shards(index: TokenIndex, tokens: Place, ranks: Ranks) -> None:
    # Only the shards: the Parquet files that say which document lies where may have stayed on another machine.
    from llmdata.storage.token_index import verify_shards

    splits = {
        name: replace(split, shards=split.shards[ranks.rank :: ranks.size]) for name, split in index.splits.items()
    }
    problems = verify_shards(replace(index, documents=[], splits=splits), tokens)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"{problems[0]}{more}: the tokens are not what index.json says; make them again with --rerun")


def _clear(out: Place) -> None:
    """Remove what an earlier run left, and nothing else."""
    manifest.forget(out, TASK)
    for name in _OURS:
        (out / name).remove()
