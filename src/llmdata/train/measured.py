"""A run beside its plan: what was expected of it and what `metrics.jsonl` and the checkpoints say. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from llmdata.errors import InputError
from llmdata.storage import manifest
from llmdata.storage.place import Place
from llmdata.train.config import decoder_shape
from llmdata.train.metrics import read_lines
from llmdata.train.plan import PRECISIONS, block_matrices, flops_per_token, parameter_count
from llmdata.train.sampling import find_checkpoint

VOCAB_MULTIPLE = 128  # as llmdata.train.model pads it, which would bring torch


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of a run: planned, and as measured; None where one of them is unknown. `unit` as in the plan."""

    what: str
    unit: str
    planned: float | None
    measured: float | None


def compare(run: Place, peak: float | None = None, mfu: float = 0.4, count: int | None = None) -> list[Comparison]:
    """Plan and measurement of the training in `run`; `peak` is the FLOP/s of one of its GPUs, if known.

    `count` is how many there were; None: as many as the run had ranks when it was last begun.
    Raises InputError if there is no model in `run`, or no step has been recorded.
    """
    folder, checkpoint = find_checkpoint(run)
    about = (folder / "model.json").read_json()
    stamp = manifest.stamp_of(folder) or {}
    settings = stamp.get("settings")
    if peak is not None:
        peak *= count or stamp.get("ranks", 1)
    lines = [line for line in read_lines(folder / "metrics.jsonl") if "loss" in line]
    if not settings or not lines:
        raise InputError(
            f"{folder}: no record of a training run (metrics.jsonl and .llmdata/stage.json), no comparison"
        )
    config = decoder_shape(about["model"], str(folder))
    parameters = parameter_count(config, about["vocab_size"])
    tokens = settings["loop"]["steps"] * settings["data"]["batch_tokens"]
    dense, with_attention = flops_per_token(parameters, config)
    last = lines[-1]
    rate = last["tokens_per_second"]
    planned_rate = None if peak is None else peak * mfu / with_attention
    stored = parameter_count(config, -(-about["vocab_size"] // VOCAB_MULTIPLE) * VOCAB_MULTIPLE)
    kind = PRECISIONS["autocast"]
    moments = kind.optimizer * stored
    if settings["optim"]["name"] == "muon":  # one moment instead of two for the matrices inside the blocks
        moments -= 4 * config.layers * block_matrices(config)
    rows = [
        Comparison("parameters", "", parameters, about["parameters"]),
        Comparison("tokens", "", tokens, last["tokens"]),
        Comparison("FLOPs, 6ND", "", dense * tokens, dense * last["tokens"]),
        Comparison("FLOPs with attention", "", with_attention * tokens, with_attention * last["tokens"]),
        Comparison("tokens a second", "", planned_rate, rate),
        Comparison("FLOP/s", "", None if peak is None else peak * mfu, rate * with_attention),
        Comparison("MFU", "%", None if peak is None else mfu, None if peak is None else rate * with_attention / peak),
        Comparison("time", "s", None if planned_rate is None else tokens / planned_rate, last["seconds"]),
        Comparison("weights", "B", kind.weights * stored, (checkpoint / "model.safetensors").size()),
        Comparison("optimiser", "B", moments, (checkpoint / "optimizer.safetensors").size()),
    ]
    peak_memory = max((line["peak_memory"] for line in lines if line.get("peak_memory")), default=None)
    if peak_memory is not None:
        state = stored * (kind.weights + kind.gradients) + moments
        rows.append(Comparison("memory of a GPU (planned: state alone)", "B", state, peak_memory))
    return rows
