"""A ladder of small models on the same tokens, and the law that their losses follow. Imports torch only to train.

The rule of the ladder. A model of N parameters has the kind of the base model (positions, norm, activation, context)
and some 64 units of width a layer, as GPT-2's smallest has; heads are some 32 wide, from width 256 on 64. It sees
`tokens_per_param` × N tokens. Its learning rate is the base model's × (N of the base / N)^(1/3): over three orders of
magnitude GPT-3's rates fall as N^-0.32 (arXiv 2005.14165, table 2.1), that is, as width does. Its batch is the base's,
or smaller, so that a run has at least 500 steps; it warms up for a fiftieth of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field

from llmdata.config import Count, Section
from llmdata.engine.session import Progress, Session
from llmdata.errors import ConfigError, LlmdataError
from llmdata.storage import manifest
from llmdata.storage.lock import locked
from llmdata.storage.place import Place
from llmdata.train.chart import COLOURS, Series, svg_chart
from llmdata.train.config import ModelConfig, TrainConfig
from llmdata.train.plan import EPOCHS, flops_per_token, parameter_count
from llmdata.train.run import train
from llmdata.train.scaling import PowerLaw, fit_power_law

STAGE = "sweep"
RECORD, PICTURE, MODELS = "sweep.json", "sweep.svg", "models"
ASPECT = 64
"""Units of width a layer. Loss hardly depends on it between some 20 and 200 (arXiv 2001.08361, figure 5)."""
RATE_EXPONENT = 1 / 3
LEAST_STEPS = 500
REACH = 10
"""Times the largest run's compute beyond which a law's word is a guess: its floor is not settled by a small ladder."""


class SweepConfig(Section):
    """Settings of `llmdata sweep`."""

    sizes: tuple[Annotated[Count, Field(ge=1)], ...] = Field(min_length=1)
    """Parameters of each model, embeddings included."""
    tokens_per_param: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field((20.0,), min_length=1)
    """Training tokens a parameter. Several make a grid, to which Chinchilla's law of size and tokens is fitted."""
    budget: float | None = Field(None, gt=0, allow_inf_nan=False)
    """FLOPs of the whole ladder, instead of `tokens_per_param`: as many tokens a parameter as they pay for."""
    hold_out: Literal["largest", "none"] = "largest"
    """What the law is also fitted without, to predict it."""
    predict: tuple[Annotated[Count, Field(ge=1)], ...] = ()
    """Sizes whose loss to predict."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One model of a ladder, before it is trained."""

    name: str
    parameters: int
    tokens_per_param: float
    """As asked for; `tokens` are whole steps of whole sequences."""
    tokens: int
    flops: float
    """Of training, with attention."""
    config: TrainConfig

    @property
    def shape(self) -> ModelConfig:
        shape = self.config.architecture
        assert isinstance(shape, ModelConfig)
        return shape


@dataclass(frozen=True, slots=True)
class Run:
    """A trained rung. Losses in nats a token of the validation split."""

    name: str
    folder: str
    parameters: int
    tokens_per_param: float
    layers: int
    heads: int
    width: int
    lr: float
    batch_tokens: int
    tokens: int
    epochs: float
    flops: float
    loss: float
    bits_per_byte: float | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The loss that a law expects of a model; `measured` and `error` (of measured) where it has been trained.

    `low` to `high` is what the law says when it is fitted without one of the runs, each in turn.
    """

    parameters: int
    tokens: int
    flops: float
    law: str
    loss: float
    bits_per_byte: float | None
    measured: float | None = None
    error: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a ladder came to. `laws` by name: flops, parameters, and on a grid also parameters and tokens."""

    runs: list[Run]
    laws: dict[str, PowerLaw]
    held_out: list[Prediction] = field(default_factory=list)
    """What a fit without the largest size expects of it."""
    predictions: list[Prediction] = field(default_factory=list)


def sweep(
    tokens: Place, out: Place, config: SweepConfig, base: TrainConfig, session: Session, rerun: bool = False
) -> SweepResult:
    """Train the ladder of `config` on the tokens folder `tokens`, each model in a folder of `out`, and fit its losses.

    Runs that are finished are not made again, one that was stopped goes on. Raises ConfigError for sizes that cannot be
    and tokens without a validation split, ChangedError as `train` does. Holding the lock of `out` is up to the caller;
    that of a model in hand is held here, so that its status is told.
    """
    from llmdata.storage.token_index import load_index

    index = load_index(tokens)
    held = index.splits.get("val")
    if held is None or not held.tokens:
        raise ConfigError(f"{tokens}: no validation split, so no loss to fit; make it with `llmdata tokenize --val`")
    rungs = ladder(config, base, index.vocab_size)
    manifest.check_stage(out, STAGE)
    manifest.save_stamp(out, STAGE, {"tokens": str(tokens), "settings": config.model_dump(mode="json")})
    there = index.splits["train"].tokens
    most = max(rungs, key=lambda rung: rung.tokens)
    if most.tokens > EPOCHS * there:
        session.progress.note(
            f"{most.name} sees {most.tokens / there:.1f} epochs of {there:,} tokens, more than the {EPOCHS} that are "
            "nearly as good as new text: its loss is higher than the law of fresh tokens says"
        )
    runs = []
    for number, rung in enumerate(rungs, 1):
        numbered = replace(session, progress=Numbered(session.progress, f"{number} of {len(rungs)}, {rung.name}"))
        folder = f"{MODELS}/{rung.name}"
        runs.append(_run(rung, folder, there, tokens, out, numbered, rerun))
    result = fitted(runs, config, base, index.vocab_size)
    (out / RECORD).write_json(asdict(result))
    (out / PICTURE).write_bytes(picture(result).encode())
    return result


class Numbered:
    """Progress of one run among several: its stage has the run's name."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name

    def start(self, stage: str, total: int | None, unit: str) -> None:
        self._progress.start(self._name, total, unit)

    def advance(self, stage: str, count: int, **facts: float | int | str) -> None:
        self._progress.advance(self._name, count, **facts)

    def finish(self, stage: str, **facts: float | int | str) -> None:
        self._progress.finish(self._name, **facts)

    def note(self, message: str) -> None:
        self._progress.note(f"{self._name}: {message}")


def _run(rung: Rung, folder: str, there: int, tokens: Place, out: Place, session: Session, rerun: bool) -> Run:
    session.stop.check()
    with locked(out / folder, "llmdata sweep"):
        done = train(tokens, out / folder, rung.config, session, rerun=rerun)
    if done.val_loss is None or not math.isfinite(done.val_loss):
        raise LlmdataError(f"{out / folder}: validation loss {done.val_loss}, which no law can be fitted to")
    shape = rung.shape
    return Run(
        name=rung.name,
        folder=folder,
        parameters=rung.parameters,
        tokens_per_param=rung.tokens_per_param,
        layers=shape.layers,
        heads=shape.heads,
        width=shape.width,
        lr=rung.config.optim.lr,
        batch_tokens=rung.config.data.batch_tokens,
        tokens=rung.tokens,
        epochs=round(rung.tokens / there, 4),
        flops=rung.flops,
        loss=done.val_loss,
        bits_per_byte=done.bits_per_byte,
    )


def check_base(base: TrainConfig) -> None:
    """Raise ConfigError for settings that no ladder can be made of."""
    _ = base.architecture
    if base.init is not None:
        raise ConfigError("train.init: the models of a ladder begin with weights of their own")


def ladder(config: SweepConfig, base: TrainConfig, vocab_size: int) -> list[Rung]:
    """The models of the ladder, smallest first. Raises ConfigError for a size that no shape comes near."""
    check_base(base)
    shapes = {}
    for size in sorted(set(config.sizes)):
        shape = shape_of(size, base.architecture, vocab_size)
        shapes[parameter_count(shape, vocab_size)] = shape
    ratios = config.tokens_per_param
    if config.budget is not None:
        # FLOPs a token are those of the shape, so tokens a parameter follow from what one token a parameter costs.
        one = sum(flops_per_token(count, shape)[1] * count for count, shape in shapes.items())
        ratios = (config.budget / one,)
    return [
        _rung(count, shape, ratio, base, vocab_size)
        for count, shape in sorted(shapes.items())
        for ratio in sorted(set(ratios))
    ]


def _rung(parameters: int, shape: ModelConfig, ratio: float, base: TrainConfig, vocab_size: int) -> Rung:
    wanted = ratio * parameters
    sequences = max(1, int(min(base.data.batch_tokens, wanted / LEAST_STEPS)) // shape.context)
    batch = sequences * shape.context
    steps = max(1, round(wanted / batch))
    assert isinstance(base.architecture, ModelConfig)
    size = parameter_count(base.architecture, base.architecture.vocab_size or vocab_size)
    config = base.model_copy(
        update={
            "model": shape,
            "optim": base.optim.model_copy(update={"lr": scaled_rate(base.optim.lr, size, parameters), "warmup": None}),
            "data": base.data.model_copy(update={"batch_tokens": batch}),
            "loop": base.loop.model_copy(update={"steps": steps, "tokens": None}),
            "eval_every": None,
            "checkpoint_every": None,
            "keep_last": 1,
            "keep_best": False,
            "sample_tokens": 0,
        }
    )
    tokens = steps * batch
    flops = flops_per_token(parameters, shape)[1] * tokens
    return Rung(f"{short(parameters)}-{short(tokens)}", parameters, ratio, tokens, flops, config)


def scaled_rate(rate: float, parameters: int, of: int) -> float:
    """The learning rate of a model of `of` parameters, where one of `parameters` has `rate`; three digits of it."""
    return float(f"{rate * (parameters / of) ** RATE_EXPONENT:.3g}")


def shape_of(size: int, base: ModelConfig, vocab_size: int) -> ModelConfig:
    """A decoder of `base`'s kind whose parameters are nearest to `size`, and its width to 64 × layers.

    Raises ConfigError if the nearest is off by more than a quarter.
    """
    found = []
    for layers in range(1, 20 + round((size / 1000) ** (1 / 3))):  # beyond, a width is less than 8 × layers
        for width in _widths(size, layers, base, vocab_size):
            aspect = width / (ASPECT * layers)
            if 1 / 8 <= aspect <= 4:
                shape = _shape(base, layers, width)
                off = abs(math.log(parameter_count(shape, vocab_size) / size))
                found.append((off + 0.1 * abs(math.log(aspect)), off, layers, shape))
    _, off, _, shape = min(found, key=lambda entry: entry[:3])
    if off > math.log(1.25):
        raise ConfigError(
            f"--sizes {size:,}: with a vocabulary of {vocab_size:,} the nearest model of this kind has "
            f"{parameter_count(shape, vocab_size):,} parameters. Give other sizes or a smaller vocabulary."
        )
    return shape


def _widths(size: int, layers: int, base: ModelConfig, vocab_size: int) -> set[int]:
    """The two widths between which so many layers have `size` parameters: multiples of 16, from 256 on of 64."""
    low, high = 1, 1
    while parameter_count(_shape(base, layers, 16 * high), vocab_size) < size:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if parameter_count(_shape(base, layers, 16 * middle), vocab_size) < size:
            low = middle
        else:
            high = middle
    if 16 * high <= 256:
        return {16 * low, 16 * high}
    return {max(256, 16 * low // 64 * 64), -(-16 * high // 64) * 64}


def _shape(base: ModelConfig, layers: int, width: int) -> ModelConfig:
    wanted = 32 if width < 256 else 64
    heads = [count for count in range(1, width // 16 + 1) if width % (2 * count) == 0]
    near = min(heads, key=lambda count: (abs(math.log(width / count / wanted)), count))
    changed = {"layers": layers, "width": width, "heads": near, "kv_heads": None, "ffn": None, "vocab_size": None}
    return base.model_copy(update=changed)


def fitted(runs: Sequence[Run], config: SweepConfig, base: TrainConfig, vocab_size: int) -> SweepResult:
    """Fit the laws, and predict: the largest size from the others, and the sizes of `config.predict`."""
    laws = _laws(runs)
    held_out: list[Prediction] = []
    largest = max(run.parameters for run in runs)
    seen = [run for run in runs if run.parameters < largest]
    if config.hold_out == "largest" and (before := _laws(seen)):
        held_out = [
            _predicted(name, law, run, run) for run in runs if run.parameters == largest for name, law in before.items()
        ]
    assert isinstance(base.architecture, ModelConfig)
    wanted = SweepConfig(sizes=config.predict, tokens_per_param=_ratios(runs)) if config.predict and laws else None
    others = [_laws([*runs[:left], *runs[left + 1 :]]) for left in range(len(runs))] if wanted else []
    predictions = [
        _within(_predicted(name, law, rung, runs[0]), rung, [other[name] for other in others if name in other])
        for rung in (ladder(wanted, base, vocab_size) if wanted else [])
        for name, law in laws.items()
    ]
    return SweepResult(list(runs), laws, held_out, predictions)


def _ratios(runs: Sequence[Run]) -> tuple[float, ...]:
    return tuple(sorted({run.tokens_per_param for run in runs}))


QUANTITIES: dict[str, Callable[[Rung | Run], list[float]]] = {
    "flops": lambda run: [run.flops],
    "parameters": lambda run: [run.parameters],
    "parameters and tokens": lambda run: [run.parameters, run.tokens],
}


def _laws(runs: Sequence[Run]) -> dict[str, PowerLaw]:
    """The laws that there are enough runs for."""
    if len(_ratios(runs)) > 1:  # on a grid, a size has several losses, and compute is spent well or badly
        best = [run for run in runs if not any(o.flops <= run.flops and o.loss < run.loss for o in runs)]
        chosen = {"flops": best, "parameters and tokens": list(runs)}
    else:
        chosen = {"flops": list(runs), "parameters": list(runs)}
    laws = {}
    for name, points in chosen.items():
        quantities = [QUANTITIES[name](run) for run in points]
        if len(points) >= (5 if name == "parameters and tokens" else 3):
            laws[name] = fit_power_law(quantities, [run.loss for run in points])
    return laws


def _predicted(name: str, law: PowerLaw, model: Rung | Run, of: Run) -> Prediction:
    """What `law` expects of `model`; `of` is any run, which says how many bits a byte a loss is."""
    loss = law.loss(*QUANTITIES[name](model))
    bits = None if of.bits_per_byte is None else loss * of.bits_per_byte / of.loss  # the same tokens and bytes for all
    measured = model.loss if isinstance(model, Run) else None
    error = None if measured is None else loss / measured - 1
    return Prediction(model.parameters, model.tokens, model.flops, name, loss, bits, measured, error)


def _within(expected: Prediction, model: Rung, others: Sequence[PowerLaw]) -> Prediction:
    """`expected`, with what the laws fitted without one run each say of `model`."""
    around = [law.loss(*QUANTITIES[expected.law](model)) for law in others]
    return replace(expected, low=min(around), high=max(around)) if around else expected


def curves(result: SweepResult) -> list[Series]:
    """Loss over compute: the runs, the law, and the law without the largest with what it expects of it."""
    points = [(run.flops, run.loss) for run in result.runs]
    held = [one for one in result.held_out if one.law == "flops"]
    drawn = []
    if law := result.laws.get("flops"):
        low, high = min(x for x, _ in points), max(x for x, _ in points)
        end = max([high, *(one.flops for one in result.predictions)])
        label = f"L = {law.floor:.3g} + {law.scales[0]:.3g} C^-{law.exponents[0]:.3g}"
        drawn.append(Series(label, _along(law, low, high), COLOURS[1]))
        if end > high:
            drawn.append(Series("", _along(law, high, end), COLOURS[1], dashed=True))
    drawn.append(Series("measured", points, COLOURS[0], dots=True))
    if held:
        shown = [(one.flops, one.loss) for one in held]
        drawn.append(Series("predicted without the largest", shown, COLOURS[2], dots=True, hollow=True))
    return drawn


def _along(law: PowerLaw, low: float, high: float) -> list[tuple[float, float]]:
    """Sixty pieces of the law's curve, by the logarithm of FLOPs."""
    return [(x, law.loss(x)) for x in (low * (high / low) ** (step / 60) for step in range(61))]


def picture(result: SweepResult) -> str:
    """The ladder as an SVG picture."""
    return svg_chart(curves(result), "Loss against compute", "training FLOPs", "nats a token", log_x=True, log_y=True)


def short(count: float) -> str:
    """`98.7K`, `1.31M`, `20M`: names of folders."""
    for factor, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= factor:
            return f"{count / factor:.3g}{letter}"
    return f"{count:.0f}"
