"""`llmdata sweep`: a ladder of small models, and the law of their losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmdata.cli.common import Console, Json, MaxTime, Out, Rerun, Verbose, Workers, command, set_option

if TYPE_CHECKING:
    from llmdata.engine.session import Session
    from llmdata.storage.place import Place
    from llmdata.train.config import TrainConfig
    from llmdata.train.sweep import Prediction, SweepResult


def sweep(
    source: Annotated[
        str, typer.Argument(metavar="RECIPE|TOKENS", help="A recipe, a run, or a folder of `llmdata tokenize`.")
    ],
    out: Out,
    sizes: Annotated[str, typer.Option(help="Parameters of each model, e.g. 100K,300K,1M,3M.", metavar="N,N,…")],
    tokens_per_param: Annotated[
        str, typer.Option(help="Training tokens a parameter; several make a grid, e.g. 5,20,80.", metavar="R,…")
    ] = "20",
    budget: Annotated[
        float | None,
        typer.Option(help="FLOPs of the whole ladder, instead of --tokens-per-param, e.g. 1e15.", metavar="FLOPS"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The kind of model and its learning rate: a preset or a YAML file.", metavar="MODEL"),
    ] = None,
    hold_out: Annotated[
        str, typer.Option(help="Also fit without the largest size, and predict it: largest or none.", metavar="SIZE")
    ] = "largest",
    predict: Annotated[str | None, typer.Option(help="Sizes whose loss to predict.", metavar="N,N,…")] = None,
    settings: Annotated[list[str] | None, set_option("train.data.batch_tokens=4096")] = None,
    rerun: Rerun = False,
    workers: Workers = None,
    max_time: MaxTime = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train a ladder of models, fit their losses against compute.

    Each model is a run folder in DIR/models; the same command goes on after a stop or a kill. A RECIPE is run until its
    tokens are made, in DIR/run, and its section `train` is the base of the ladder, as --model is.

    \b
    Example:
      llmdata sweep runs/demo/tokens --out ladder --sizes 600K,800K,1.2M,2M --predict 10M
      llmdata sweep mine.yaml -o ladder --sizes 10M,30M,100M,300M --model gpt2-124m
    """
    with command(json=json, verbose=verbose, workers=workers, max_time=max_time) as (session, console):
        from dataclasses import asdict

        from llmdata.config import from_options
        from llmdata.storage.lock import locked
        from llmdata.storage.place import Place
        from llmdata.train.sweep import SweepConfig
        from llmdata.train.sweep import sweep as run

        options = {
            "sizes": _listed(sizes),
            "tokens_per_param": _listed(tokens_per_param),
            "budget": budget,
            "hold_out": hold_out,
            "predict": _listed(predict or "") or None,
        }
        config = from_options(SweepConfig, options)
        place = Place.of(out)
        with locked(place, "llmdata sweep"):
            tokens, base = _corpus(source, place, model, settings or [], session, rerun)
            result = run(tokens, place, config, base, session, rerun=rerun)
        console.result(asdict(result))
        _show(result, place, console)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _corpus(
    source: str, out: Place, model: str | None, settings: list[str], session: Session, rerun: bool
) -> tuple[Place, TrainConfig]:
    """The folder of tokens, and the base of the ladder."""
    from llmdata.cli.train import load_config
    from llmdata.storage.place import Place
    from llmdata.storage.token_index import INDEX

    place = Place.of(source)
    for folder in (place, place / "tokens"):
        if (folder / INDEX).exists():
            return folder, load_config(model, None, settings)
    if place.is_dir():
        from llmdata.storage.token_index import load_index

        load_index(place)  # says what is missing
    from llmdata.errors import ConfigError
    from llmdata.pipeline.recipe import load_recipe
    from llmdata.pipeline.run import run
    from llmdata.train.sweep import check_base

    trained = [setting for setting in settings if setting.startswith("train.")]
    others = [setting for setting in settings if setting not in trained]
    recipe = load_recipe(source, settings if model is None else others)
    if recipe.tokenize is None:
        raise ConfigError(
            f"{source}: a recipe without a section tokenize makes no tokens to train on. Add the sections tokenizer "
            "and tokenize, as pipelines/demo.yaml has them."
        )
    if recipe.tokenize.val == "none":
        raise ConfigError(f"{source}: tokenize.val is none, so there would be no loss to fit. Hold out a share of it.")
    base = recipe.train if model is None and recipe.train else load_config(model, None, trained)
    check_base(base)  # before hours of crawling
    run(recipe, out / "run", session, until="tokenize", rerun=rerun)
    return out / "run" / "tokens", base


def _show(result: SweepResult, out: Place, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    from llmdata.train.chart import terminal_chart
    from llmdata.train.sweep import PICTURE, RECORD, curves, short

    table = Table(box=None, pad_edge=False)
    names = (
        "parameters",
        "layers",
        "width",
        "heads",
        "rate",
        "batch",
        "tokens",
        "epochs",
        "FLOPs",
        "loss",
        "bits a byte",
    )
    for name in names:
        table.add_column(name, justify="right")
    for run in result.runs:
        bits = "" if run.bits_per_byte is None else f"{run.bits_per_byte:.4f}"
        cells = (run.layers, run.width, run.heads, f"{run.lr:.3g}", f"{run.batch_tokens:,}", short(run.tokens))
        rest = (f"{run.epochs:.2f}", f"{run.flops:.2e}", f"{run.loss:.4f}", bits)
        table.add_row(f"{run.parameters:,}", *map(str, cells), *rest)
    console.render(table)
    symbols = {"flops": "C", "parameters": "N", "parameters and tokens": "ND"}
    for name, law in result.laws.items():
        terms = [
            f" + {scale:.4g} / {symbol}^{exponent:.4g}"
            for scale, exponent, symbol in zip(law.scales, law.exponents, symbols[name], strict=True)
        ]
        console.render(Text(f"\nby {name}: loss = {law.floor:.4f}{''.join(terms)}, off by {law.residual:.2%} (RMS)"))
    for one in result.held_out:
        expected = f"{one.loss:.4f} expected of {one.parameters:,} parameters on {short(one.tokens)} tokens"
        found = f"{one.measured:.4f} measured ({one.error:+.2%})"
        console.render(Text(f"without the largest, by {one.law}: {expected}, {found}"))
    most = max(run.flops for run in result.runs)
    for one in result.predictions:
        console.render(Text(_prediction(one, most)))
    console.render(Text("\nLoss against training FLOPs, both by their logarithms; ● measured, ○ predicted, ◉ both"))
    console.render(Text(terminal_chart(curves(result), log_x=True, log_y=True)))
    console.render(Text(f"\n{out / RECORD}, {out / PICTURE}"))


def _prediction(one: Prediction, most: float) -> str:
    """In words; `most` is the compute of the ladder's largest run."""
    from llmdata.train.sweep import REACH, short

    bits = "" if one.bits_per_byte is None else f", {one.bits_per_byte:.3f} bits a byte"
    around = "" if one.low is None else f" ({one.low:.4f} to {one.high:.4f} without one of the runs)"
    ahead = one.flops / most
    guess = f", {ahead:,.0f} times the compute of any run: a guess" if ahead > REACH else ""
    return (
        f"predicted by {one.law}: {one.loss:.4f}{around}{bits} "
        f"for {one.parameters:,} parameters on {short(one.tokens)} tokens{guess}"
    )
