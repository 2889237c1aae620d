"""`llmdata train`: token shards to a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmdata.cli.common import Console, Json, MaxTime, Out, Rerun, Verbose, command, named_by_options, set_option

if TYPE_CHECKING:
    from llmdata.storage.place import Place
    from llmdata.train import TrainConfig, TrainResult


def train(
    tokens: Annotated[str, typer.Argument(metavar="TOKENS", help="Folder that `llmdata tokenize` wrote.")],
    out: Out,
    model: Annotated[
        str | None,
        typer.Option(
            help="A preset (demo, gpt2-124m, llama-3-8b, …), a baseline (ngram, mlp) or a YAML file. [default: demo]",
            metavar="MODEL",
        ),
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Go on training this Hugging Face model, in its shape.", metavar="DIR")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.", min=1, metavar="N")] = None,
    settings: Annotated[list[str] | None, set_option("train.optim.lr=3e-4")] = None,
    rerun: Rerun = False,
    max_time: MaxTime = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train a model on tokens.

    The same command goes on after a stop or a kill. MODEL may be a YAML file: a recipe with a `train` section, or the
    settings of that section alone.

    \b
    Example:
      llmdata train runs/demo/tokens --out model --steps 500
      llmdata train tokens -o counts --model ngram --set train.model.order=4
      llmdata train tokens -o model --model gpt2-124m --set train.optim.lr=3e-4 --max-time 8h
      llmdata train tokens -o tuned --init demo-hf --steps 200
      torchrun --nproc-per-node 8 -m llmdata train tokens -o model --model llama-3-8b
    """
    with command(json=json, verbose=verbose, max_time=max_time) as (session, console):
        import os
        from contextlib import nullcontext
        from dataclasses import asdict

        from llmdata.engine.session import Silent
        from llmdata.storage.lock import locked
        from llmdata.storage.place import Place
        from llmdata.train import train as run
        from llmdata.train.parallel import Ranks, joined

        config = load_config(model, steps, settings or [])
        if init is not None:
            config = config.model_copy(update={"init": init})
        place = Place.of(out)
        ranks = Ranks.of(os.environ)
        if not ranks.first:
            session.progress = Silent()
        with joined(ranks, config.device), locked(place, "train") if ranks.first else nullcontext():
            result = run(Place.of(tokens), place, config, session, rerun=rerun, ranks=ranks)
        if not ranks.first:
            return
        if not result.fresh:
            session.progress.note(f"{place}: finished before, nothing to do")
        measured = "" if result.val_loss is None else f", validation loss {result.val_loss:.4f}"
        if result.bits_per_byte is not None:
            measured += f" ({result.bits_per_byte:.3f} bits a byte)"
        unit = "step" if result.steps == 1 else "steps"
        text = (
            f"{result.parameters:,} parameters, {result.steps:,} {unit}, {result.tokens:,} tokens in "
            f"{result.seconds:,.0f} s ({result.tokens_per_second:,.0f} tokens/s)\n"
            f"loss {result.loss:.4f}{measured}\nmodel: {place / result.checkpoint}"
        )
        console.result(asdict(result), text)
        show_curve(place, console)
        show_samples(result, console)


def show_curve(model: Place, console: Console) -> None:
    """The loss over steps."""
    from rich.text import Text

    from llmdata.audit.training import metrics_of, terminal_curve

    if curve := terminal_curve(metrics_of(model)):
        console.render(Text(f"\nTraining loss by step\n{curve}"))


def show_samples(result: TrainResult, console: Console) -> None:
    """What the model wrote before and after training, to read one below the other."""
    from rich.padding import Padding
    from rich.text import Text

    from llmdata.audit.look import printable

    for when, sample in (("before training", result.sample_before), ("after training", result.sample_after)):
        if sample is not None:
            console.render(Text(f"\nWhat the model writes {when}", style="bold"))
            console.render(Padding(Text(printable(sample).strip()), (0, 2), expand=False))


def load_config(model: str | None, steps: int | None, settings: list[str]) -> TrainConfig:
    """The settings that the options `--model`, `--steps` and `--set` make together."""
    from pathlib import Path

    import yaml

    from llmdata.config import Section, parse
    from llmdata.errors import ConfigError
    from llmdata.train.config import BASELINES, PRESETS, TrainConfig

    class Recipe(Section):
        model_config = {"extra": "ignore"}
        train: TrainConfig = TrainConfig()

    overrides = list(settings)
    for option in overrides:
        if not option.startswith("train."):
            raise ConfigError(
                f"--set {option}: settings of this command start with `train.`, as in train.optim.lr=1e-3"
            )
    if steps is not None:
        overrides += ["train.loop.tokens=null", f"train.loop.steps={steps}"]
    names = [*PRESETS, *BASELINES]
    if model is None or model in names or not (Path(model).suffix in {".yaml", ".yml"} or Path(model).exists()):
        preset = _options_of(model or "demo", overrides)
        deciding = [f"--set {option}" for option in overrides if option.startswith("train.model=")]
        name = [f"--model {model or 'demo'}", *deciding][-1]
        with named_by_options(dict.fromkeys(preset, name)):
            return parse(Recipe, "", name, [*preset, *overrides]).train
    path = Path(model)
    try:
        source = path.read_text(encoding="utf-8")
        data = yaml.safe_load(source)
    except FileNotFoundError:
        raise ConfigError(f"--model {model}: there is no such file; presets are {', '.join(names)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--model {model}: cannot read it: {error}") from None
    except yaml.YAMLError:
        data = None  # `parse` says where
    if isinstance(data, dict) and "train" in data:
        return parse(Recipe, source, model, overrides).train
    return parse(TrainConfig, source, model, [option.removeprefix("train.") for option in overrides])


def _options_of(model: str, overrides: list[str]) -> list[str]:
    """The settings that `--model` stands for: where `overrides` change its shape, one by one."""
    import json

    from llmdata.train.config import BASELINES, PRESETS

    if model in BASELINES:
        return [f"train.model.kind={model}"]
    if model not in PRESETS or not any(option.startswith("train.model.") for option in overrides):
        return [f"train.model={model}"]
    preset = PRESETS[model]
    settings: dict[str, Any] = {"model": preset.model.model_dump(mode="json", exclude_defaults=True), **preset.settings}
    if any(option.startswith(("train.loop.steps=", "train.loop.tokens=")) for option in overrides):
        settings.pop("loop", None)  # one length takes the place of the other
    return [
        f"train.{key}.{inner}={json.dumps(value)}" if inner else f"train.{key}={json.dumps(value)}"
        for key, values in settings.items()
        for inner, value in (values.items() if isinstance(values, dict) else [("", values)])
    ]
