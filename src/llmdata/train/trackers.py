"""Metrics and samples told to TensorBoard and Weights & Biases, beside the files that a run always writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from llmdata.errors import ConfigError
from llmdata.storage.manifest import digest
from llmdata.storage.place import Place


class Tracker(Protocol):
    def log(self, line: dict[str, Any]) -> None:
        """The figures of a line of metrics.jsonl."""

    def sample(self, step: int, texts: Sequence[str]) -> None:
        """What the model writes after `step`."""

    def close(self) -> None:
        """All has been told."""


class TensorBoard:
    """Event files in `out`/tensorboard: `tensorboard --logdir OUT` shows them."""

    def __init__(self, out: Place, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError("track: TensorBoard is missing; `pip install 'llmdata[tensorboard]'`") from None
        folder = (out / "tensorboard").mkdir().local()
        # What a killed run told beyond its last checkpoint is told again.
        self._writer = SummaryWriter(folder, purge_step=step + 1)

    def log(self, line: dict[str, Any]) -> None:
        for key, value in _figures(line).items():
            self._writer.add_scalar(key, value, line["step"])

    def sample(self, step: int, texts: Sequence[str]) -> None:
        self._writer.add_text("sample", "\n\n---\n\n".join(texts), step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of the project `llmdata`, gone on with after a stop. WANDB_MODE=offline keeps it in `out`/wandb."""

    def __init__(self, out: Place, step: int, settings: dict[str, Any]) -> None:
        try:
            import wandb
        except ImportError:
            raise ConfigError("track: Weights & Biases is missing; `pip install 'llmdata[wandb]'`") from None
        folder = out.mkdir().local()
        self._run = wandb.init(
            project="llmdata", id=digest({"out": folder})[:16], resume="allow", dir=folder, config=settings
        )

    def log(self, line: dict[str, Any]) -> None:
        self._run.log(_figures(line), step=line["step"])

    def sample(self, step: int, texts: Sequence[str]) -> None:
        self._run.log({"sample": "\n\n---\n\n".join(texts)}, step=step)

    def close(self) -> None:
        self._run.finish()


def trackers(names: Sequence[str], out: Place, step: int, settings: dict[str, Any]) -> list[Tracker]:
    """The trackers `names` of the run in `out`, which goes on after `step`; ConfigError if one is not installed."""
    made: list[Tracker] = []
    for name in names:
        made.append(TensorBoard(out, step) if name == "tensorboard" else WeightsAndBiases(out, step, settings))
    return made


def _figures(line: dict[str, Any]) -> dict[str, float]:
    return {
        key: value
        for key, value in line.items()
        if key != "step" and isinstance(value, int | float) and not isinstance(value, bool)
    }
