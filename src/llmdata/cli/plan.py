"""`llmdata plan`: what a training run will take, before it is paid for; and afterwards, what it took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmdata.cli.common import Json, Verbose, command

if TYPE_CHECKING:
    from llmdata.train.gpus import GPU
    from llmdata.train.measured import Comparison
    from llmdata.train.plan import Optimum, Plan


def plan(
    tokens_dir: Annotated[
        str | None, typer.Argument(metavar="[TOKENS]", help="Folder that `llmdata tokenize` wrote.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A preset (gpt2-124m, llama-3-8b, …) or a YAML file.", metavar="MODEL")
    ] = None,
    params: Annotated[
        str | None, typer.Option(help="Parameters of a model of the usual shape, e.g. 405B.", metavar="N")
    ] = None,
    tokens: Annotated[str | None, typer.Option(help="Training tokens, e.g. 16T.", metavar="N")] = None,
    budget: Annotated[
        float | None, typer.Option(help="FLOPs to spend: the best size for them, e.g. 1e21.", metavar="FLOPS")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="a100, h100, h200, b200, mi300x, rtx 4090, …", metavar="GPU")] = None,
    count: Annotated[
        int | None, typer.Option(help="GPUs. [default: the fewest that hold it]", min=1, metavar="N")
    ] = None,
    days: Annotated[float | None, typer.Option(help="As many GPUs as finish in so many days.", metavar="DAYS")] = None,
    price: Annotated[float | None, typer.Option(help="Price of a GPU's hour.", min=0, metavar="PRICE")] = None,
    mfu: Annotated[float, typer.Option(help="Share of the GPU's peak that training reaches.", metavar="SHARE")] = 0.4,
    peak: Annotated[
        float | None, typer.Option(help="TFLOP/s of a GPU, instead of the table's.", metavar="TFLOPS")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="mixed, autocast (what `train` does), fp32 or bf16.", metavar="KIND")
    ] = "mixed",
    recompute: Annotated[
        str | None,
        typer.Option(help="none, selective (fused attention) or full. [default: the least that fits]", metavar="KIND"),
    ] = None,
    sequences: Annotated[int, typer.Option(help="Sequences of a GPU in one forward pass.", min=1, metavar="N")] = 1,
    context: Annotated[int, typer.Option(help="Context, with --params.", min=2, metavar="N")] = 8192,
    run: Annotated[
        str | None, typer.Option(help="A trained model: the plan beside what was measured.", metavar="RUN")
    ] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Plan a training run: FLOPs, memory, GPUs, days, cost.

    Or the best model for a budget, or a run beside its plan.

    \b
    Example: Llama 3 405B on 16,000 H100 at 2 an hour
      llmdata plan --params 405B --tokens 16T --gpu h100 --count 16000 --price 2
    The best size for a budget of FLOPs; shards on disk; after a run, the plan beside what was measured
      llmdata plan --budget 1e21 --gpu h100 --days 7 --price 2
      llmdata plan runs/demo/tokens --model gpt2-124m --gpu h200
      llmdata plan --run runs/demo
    """
    with command(json=json, verbose=verbose) as (_, console):
        from dataclasses import asdict

        from llmdata.errors import ConfigError

        given = [params is not None or model is not None or tokens_dir is not None, budget is not None, run is not None]
        if sum(given) != 1:
            raise ConfigError("give one of: --params or --model (with --tokens or a folder of tokens), --budget, --run")
        if not 0 < mfu <= 1:
            raise ConfigError(f"--mfu {mfu}: a share is above 0 and at most 1")
        card = _gpu(gpu, peak)
        if run is not None:
            from llmdata.storage.place import Place
            from llmdata.train.measured import compare

            top = peak * 1e12 if peak is not None else card.flops if card is not None else None
            rows = compare(Place.of(run), top, mfu, count)
            console.result({"comparison": [asdict(row) for row in rows]})
            console.render(_comparison_table(rows))
            return
        options = {
            "gpu": card, "count": count, "days": days, "price": price, "mfu": mfu,
            "precision": precision, "recompute": recompute, "sequences": sequences,
        }  # fmt: skip
        _check(options)
        found: list[Optimum] = []
        if budget is not None:
            from llmdata.train.plan import optima

            if not 0 < budget < float("inf") or budget < 1e6:
                raise ConfigError(f"--budget {budget:g}: FLOPs, for example 1e21")
            found = optima(budget)
            result = _plan_for(found[0].parameters, found[0].tokens, context, options)
        else:
            result = _plan_of(tokens_dir, model, params, tokens, context, options)
        optimal = [asdict(optimum) for optimum in found]
        console.result({**asdict(result), "shape": result.shape.model_dump(mode="json"), "optima": optimal})
        if found:
            console.render(_optima_table(found, budget or 0))
        console.render(_plan_table(result))


def _gpu(name: str | None, peak: float | None) -> GPU | None:
    from dataclasses import replace

    from llmdata.errors import ConfigError
    from llmdata.train.gpus import GPUS, find_gpu

    if peak is not None and peak <= 0:
        raise ConfigError(f"--peak {peak}: TFLOP/s above 0")
    if name is None:
        return None
    card = find_gpu(name)
    if card is None:
        raise ConfigError(f"--gpu {name}: not in the table; there are {', '.join(gpu.name for gpu in GPUS)}")
    return card if peak is None else replace(card, flops=peak * 1e12)


def _check(options: dict[str, Any]) -> None:
    from llmdata.errors import ConfigError
    from llmdata.train.plan import PRECISIONS

    if options["precision"] not in PRECISIONS:
        raise ConfigError(f"--precision {options['precision']}: one of {', '.join(PRECISIONS)}")
    if options["recompute"] not in (None, "none", "selective", "full"):
        raise ConfigError(f"--recompute {options['recompute']}: one of none, selective, full")
    if options["days"] is not None and options["days"] <= 0:
        raise ConfigError(f"--days {options['days']}: above 0")
    if options["days"] is not None and options["count"] is not None:
        raise ConfigError("--count says how many GPUs, --days asks for their number: give one of them")
    needing = [name for name in ("count", "days", "price") if options[name] is not None]
    if needing and options["gpu"] is None:
        raise ConfigError(f"--{needing[0]} needs --gpu, for example --gpu h100")


def _plan_for(parameters: float, tokens: float, context: int, options: dict[str, Any]) -> Plan:
    from llmdata.train.plan import make_plan

    return make_plan(parameters, tokens, context=context, **options)


def _plan_of(
    folder: str | None, model: str | None, params: str | None, tokens: str | None, context: int, options: dict[str, Any]
) -> Plan:
    """The plan for a model that is named or a number of parameters, on tokens that are counted or on disk."""
    from llmdata.cli.train import load_config
    from llmdata.errors import ConfigError
    from llmdata.storage.place import Place
    from llmdata.storage.token_index import load_index
    from llmdata.train.plan import make_plan, parameter_count

    if (params is None) == (model is None):
        raise ConfigError("give --model or --params: how large is the model?")
    index = None if folder is None else load_index(Place.of(folder))
    amount: int | None = None if tokens is None else _count("tokens", tokens)
    on_disk: int | None = None
    if index is not None:
        on_disk = index.splits["train"].tokens if "train" in index.splits else 0
        if not on_disk:
            raise ConfigError(f"{folder}: no training tokens in it")
    if params is not None:
        amount = amount or on_disk
        if amount is None:
            raise ConfigError("--params needs --tokens, or a folder of tokens")
        known = index.vocab_size if index else 128_256
        plan = make_plan(_count("params", params), amount, context=context, vocab_size=known, **options)
    else:
        config = load_config(model, None, [])
        shape = config.architecture
        vocabulary = shape.vocab_size or (index.vocab_size if index else None)
        if vocabulary is None:
            raise ConfigError(f"--model {model} takes the vocabulary of its tokens: give a folder of tokens")
        amount = amount or config.steps * config.data.batch_tokens
        size = parameter_count(shape, vocabulary)
        plan = make_plan(size, amount, shape, vocab_size=vocabulary, **options)
    from dataclasses import replace

    return plan if on_disk is None else replace(plan, on_disk=on_disk)


def _count(option: str, text: str) -> int:
    from llmdata.config import parse_count
    from llmdata.errors import ConfigError

    try:
        value = int(str(parse_count(text)))
    except ValueError as error:
        raise ConfigError(f"--{option}: {error}") from None
    if value < 1:
        raise ConfigError(f"--{option} {text}: at least 1")
    return value


def _plan_table(plan: Plan) -> Any:
    from rich.table import Table

    from llmdata.train.plan import EPOCHS

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    shape = plan.shape
    about = f"{shape.layers} layers, width {shape.width:,}, {shape.heads} heads, context {shape.context:,}"
    table.add_row("parameters", short(plan.parameters), about + (" (assumed)" if plan.guessed_shape else ""))
    table.add_row("tokens", short(plan.tokens), f"{plan.tokens / plan.parameters:,.3g} a parameter")
    table.add_row("tokens on disk", size(plan.token_bytes), f"{plan.token_bytes / plan.tokens:.0f} bytes each")
    if plan.on_disk:
        epochs = plan.tokens / plan.on_disk
        warning = f", more than the {EPOCHS} that are nearly as good as new text" if epochs > EPOCHS else ""
        table.add_row("  in the folder", short(plan.on_disk), f"{epochs:,.3g} epochs{warning}")
    table.add_row("FLOPs", f"{plan.flops:.2e}", "6 × parameters × tokens")
    table.add_row("  with attention", f"{plan.flops_with_attention:.2e}", "+ 12 × layers × width × context × tokens")
    table.add_section()
    table.add_row("weights", size(plan.weights), f"precision {plan.precision}")
    table.add_row("gradients", size(plan.gradients))
    table.add_row("optimizer", size(plan.optimizer), "AdamW")
    table.add_row("to train", size(plan.state), "weights, gradients and optimizer")
    table.add_row("activations", size(plan.activations), f"a GPU's sequences, recompute {plan.recompute}")
    if plan.gpu is not None and plan.seconds is not None and plan.count is not None:
        table.add_section()
        split = f", {plan.split} GPUs sharing each sequence" if plan.split > 1 else ""
        table.add_row("GPUs needed", f"{plan.least_gpus:,}", f"to hold it, state sharded over all{split}")
        peak = f"{plan.gpu.name}, {plan.gpu.flops / 1e12:,.0f} TFLOP/s at {plan.mfu:.0%}"
        table.add_row("GPUs", f"{plan.count:,}", f"{peak}, {size(plan.per_gpu or 0)} of {size(plan.gpu.memory)} used")
        table.add_row("tokens a second", short(plan.tokens_per_second or 0), "all GPUs together")
        hours = plan.seconds * plan.count / 3600
        table.add_row("days", f"{plan.seconds / 86400:,.3g}", f"{short(hours)} GPU hours")
        if plan.cost is not None:
            table.add_row("cost", f"{plan.cost:,.0f}", f"{plan.cost / hours:g} a GPU hour")
    return table


def _optima_table(found: list[Optimum], budget: float) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, title=f"The best size for {budget:.3g} FLOPs", title_justify="left")
    table.add_column("by")
    for name in ("parameters", "tokens", "a parameter", "expected loss"):
        table.add_column(name, justify="right")
    for optimum in found:
        ratio = optimum.tokens / optimum.parameters
        table.add_row(
            optimum.rule, short(optimum.parameters), short(optimum.tokens), f"{ratio:,.3g}", f"{optimum.loss:.3f}"
        )
    table.caption = "Loss in nats a token of MassiveText, by the refitted law. The plan below is for the first line."
    table.caption_justify = "left"
    return table


def _comparison_table(rows: list[Comparison]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("planned", "measured", "measured / planned"):
        table.add_column(name, justify="right")
    for row in rows:
        both = row.planned is not None and row.measured is not None and row.planned > 0
        ratio = f"{row.measured / row.planned:.3f}" if both and row.measured and row.planned else ""
        table.add_row(row.what, _figure(row.planned, row.unit), _figure(row.measured, row.unit), ratio)
    return table


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "B":
        return size(value)
    if unit == "%":
        return f"{value:.1%}"
    return f"{value:,.1f} s" if unit == "s" else short(value)


def short(value: float) -> str:
    """`405B`, `16T`, `1.31M`; beyond thousands of trillions, `3.9e+25`."""
    if value >= 1e16:
        return f"{value:.3g}"
    for factor, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= factor:
            return f"{value / factor:,.4g}{letter}"
    return f"{value:,.4g}"


def size(value: float) -> str:
    """`140 GB`, `1.12 TB`: powers of a thousand."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= factor:
            return f"{value / factor:,.4g} {unit}"
    return f"{value:,.0f} B"
