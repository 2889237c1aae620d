"""One model on several corpora, several seeds each: which corpus is better, and by more than the noise? No torch.

This is FineWeb's method (arXiv 2406.17557, section 3.1): the same model, the same number of tokens, data alone differs,
and several seeds tell what chance does. There tasks are scored; here bits a byte of shared held-out text are, which
tell models of seconds apart too. The noise of a difference is judged by Welch's test (1947) at 95 %.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from llmdata.engine.session import Session
from llmdata.errors import ConfigError, LlmdataError
from llmdata.storage.lock import locked
from llmdata.storage.place import Place
from llmdata.storage.token_index import load_index
from llmdata.train.chart import COLOURS, Series, svg_chart
from llmdata.train.config import TrainConfig
from llmdata.train.metrics import read_lines
from llmdata.train.plan import EPOCHS
from llmdata.train.run import METRICS, train
from llmdata.train.sweep import Numbered

STAGE = "ablate"
RECORD, PICTURE, MODELS = "ablation.json", "ablation.svg", "models"
EVALUATIONS = 10
"""Measurements of the held-out text in a run: the points of the picture."""
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t at 97.5 % for 1 to 30 degrees of freedom; beyond, 1.96 is near enough."""


@dataclass(frozen=True, slots=True)
class Run:
    """One model. `loss` in nats a token and `bits_per_byte` of the held-out text; `curve` is bits a byte by tokens."""

    corpus: str
    seed: int
    folder: str
    tokens: int
    epochs: float
    loss: float
    bits_per_byte: float
    curve: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Score:
    """Bits a byte of a corpus's models; `spread` is their standard deviation, None of one seed."""

    corpus: str
    mean: float
    spread: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """How many bits a byte more `corpus` needs than `baseline`: below 0, it is better.

    `low` to `high` is Welch's 95 % interval; `beyond_noise` says that 0 is outside. None of one seed.
    """

    corpus: str
    baseline: str
    difference: float
    error: float | None = None
    low: float | None = None
    high: float | None = None
    beyond_noise: bool | None = None


@dataclass(frozen=True, slots=True)
class AblationResult:
    """What an ablation came to; differences are to the first corpus."""

    held_out_bytes: int
    runs: list[Run]
    scores: list[Score]
    differences: list[Difference]


def check_comparable(corpora: Sequence[tuple[str, Place]]) -> None:
    """Raise ConfigError unless these folders of tokens have one tokenizer and one validation split."""
    first_name, first = corpora[0][0], load_index(corpora[0][1])
    held = first.splits.get("val")
    if held is None or not held.tokens or not held.bytes:
        raise ConfigError(
            f"corpus {first_name}: no validation split; make the tokens with `llmdata tokenize --val DOCUMENTS`"
        )
    for name, folder in corpora[1:]:
        index = load_index(folder)
        if index.tokenizer_digest != first.tokenizer_digest:
            raise ConfigError(f"corpora {first_name} and {name} have tokens of two tokenizers: make both with one")
        other = index.splits.get("val")
        if other is None or [shard.sha256 for shard in other.shards] != [shard.sha256 for shard in held.shards]:
            raise ConfigError(
                f"corpora {first_name} and {name} validate on different text, so that their figures do not compare: "
                "make both with `llmdata tokenize --val DOCUMENTS` and the same documents"
            )


def ablate(
    corpora: Sequence[tuple[str, Place]],
    out: Place,
    base: TrainConfig,
    tokens: int,
    seeds: int,
    session: Session,
    rerun: bool = False,
) -> AblationResult:
    """Train `base` for `tokens` tokens on each of `corpora` (name and folder of tokens), once for each seed, in `out`.

    A seed decides the first weights and the order of the data. Runs that are finished are not made again, one that was
    stopped goes on. Raises ConfigError for corpora that do not compare. Holding the lock of `out` is up to the caller.
    """
    check_comparable(corpora)
    if base.data.mix:
        raise ConfigError("train.data.mix: an ablation trains on one corpus at a time")
    for name, folder in corpora:
        there = load_index(folder).splits["train"].tokens
        if tokens > there:
            enough = "" if tokens <= EPOCHS * there else f", more than the {EPOCHS} that are nearly as good as new text"
            session.progress.note(f"corpus {name} has {there:,} tokens: {tokens / there:.1f} epochs{enough}")
    runs = []
    planned = list(itertools.product(range(seeds), corpora))
    for number, (seed, (name, folder)) in enumerate(planned, 1):
        session.stop.check()
        numbered = replace(session, progress=Numbered(session.progress, f"{number} of {len(planned)}, {name}-{seed}"))
        runs.append(_run(name, folder, seed, out, settings_of(base, tokens, seed), numbered, rerun))
    runs.sort(key=lambda run: [name for name, _ in corpora].index(run.corpus))
    held = load_index(corpora[0][1]).splits["val"].bytes
    result = judged(runs, held)
    (out / RECORD).write_json(asdict(result))
    (out / PICTURE).write_bytes(picture(result).encode())
    return result


def settings_of(base: TrainConfig, tokens: int, seed: int) -> TrainConfig:
    """`base` for so many tokens, with `seed`, measuring all of the held-out text."""
    loop = base.loop.model_copy(update={"steps": None, "tokens": tokens})
    config = base.model_copy(
        update={
            "loop": loop,
            "data": base.data.model_copy(update={"seed": seed}),
            "seed": seed,
            "eval_tokens": None,
            "sample_tokens": 0,
            "keep_last": 1,
            "keep_best": False,
            "checkpoint_every": None,
        }
    )
    steps = config.steps
    warmup = base.optim.warmup if (base.optim.warmup or 0) <= steps // 5 else None  # a preset's may outlast the run
    optim = base.optim.model_copy(update={"warmup": warmup})
    return config.model_copy(update={"optim": optim, "eval_every": max(1, -(-steps // EVALUATIONS))})


def _run(name: str, tokens: Place, seed: int, out: Place, config: TrainConfig, session: Session, rerun: bool) -> Run:
    folder = f"{MODELS}/{name}-{seed}"
    with locked(out / folder, "llmdata ablate"):
        done = train(tokens, out / folder, config, session, rerun=rerun)
    if done.val_loss is None or done.bits_per_byte is None or not math.isfinite(done.val_loss):
        raise LlmdataError(f"{out / folder}: validation loss {done.val_loss}: nothing to compare")
    measured = [line for line in read_lines(out / folder / METRICS) if line.get("bits_per_byte") is not None]
    there = load_index(tokens).splits["train"].tokens
    return Run(
        corpus=name,
        seed=seed,
        folder=folder,
        tokens=done.tokens,
        epochs=round(done.tokens / there, 4),
        loss=done.val_loss,
        bits_per_byte=done.bits_per_byte,
        curve=[(line["tokens"], line["bits_per_byte"]) for line in measured if line["step"]],
    )


def judged(runs: Sequence[Run], held_out_bytes: int) -> AblationResult:
    """Means, spreads and differences of `runs`."""
    values: dict[str, list[float]] = {}
    for run in runs:
        values.setdefault(run.corpus, []).append(run.bits_per_byte)
    scores = [
        Score(name, statistics.mean(found), statistics.stdev(found) if len(found) > 1 else None)
        for name, found in values.items()
    ]
    (first, baseline), *others = values.items()
    differences = [_difference(name, found, first, baseline) for name, found in others]
    return AblationResult(held_out_bytes, list(runs), scores, differences)


def _difference(name: str, found: Sequence[float], first: str, baseline: Sequence[float]) -> Difference:
    difference = statistics.mean(found) - statistics.mean(baseline)
    if len(found) < 2 or len(baseline) < 2:
        return Difference(name, first, difference)
    parts = [statistics.variance(sample) / len(sample) for sample in (found, baseline)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return Difference(name, first, difference, 0.0, difference, difference, difference != 0)
    weights = sum(part**2 / (len(sample) - 1) for part, sample in zip(parts, (found, baseline), strict=True))
    reach = student(error**4 / weights) * error
    low, high = difference - reach, difference + reach
    return Difference(name, first, difference, error, low, high, not low <= 0 <= high)


def student(freedom: float) -> float:
    """Student's t at 97.5 % for `freedom` degrees of freedom, of whole ones the next below."""
    whole = max(1, math.floor(freedom + 1e-9))
    return _STUDENT[whole - 1] if whole <= len(_STUDENT) else 1.96


def curves(result: AblationResult) -> list[Series]:
    """Bits a byte over tokens: the mean of each corpus's seeds, in a band from the lowest to the highest."""
    drawn = []
    for number, score in enumerate(result.scores):
        runs = [run.curve for run in result.runs if run.corpus == score.corpus]
        rows = list(zip(*runs, strict=False))
        means = [(row[0][0], statistics.mean(bits for _, bits in row)) for row in rows]
        band = [(row[0][0], min(bits for _, bits in row), max(bits for _, bits in row)) for row in rows]
        spread = "" if score.spread is None else f" ± {score.spread:.4f}"
        label = f"{score.corpus} {score.mean:.4f}{spread}"
        drawn.append(Series(label, means, COLOURS[number % len(COLOURS)], band=band))
    return drawn


def picture(result: AblationResult) -> str:
    """The ablation as an SVG picture."""
    return svg_chart(curves(result), "Bits a byte of held-out text", "training tokens", "bits a byte", log_y=True)
