"""`llmdata ablate`: the same model on several corpora, and which of them is better."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from llmdata.cli.common import Console, Json, MaxTime, Out, Rerun, Verbose, Workers, command, set_option

if TYPE_CHECKING:
    from llmdata.engine.session import Session
    from llmdata.pipeline.corpora import AblationConfig
    from llmdata.storage.place import Place
    from llmdata.train.ablation import AblationResult


def ablate(
    corpus: Annotated[
        list[str],
        typer.Option(
            "--corpus", help="Cleaned documents, a run, or a folder of tokens. Repeat for each.", metavar="PATH"
        ),
    ],
    out: Out,
    tokens: Annotated[str, typer.Option(help="Training tokens of each model, e.g. 20M.", metavar="N")],
    names: Annotated[
        str | None, typer.Option(help="What to call the corpora. [default: the names of their folders]", metavar="A,B")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A preset or a YAML file, as for `train`. [default: demo]", metavar="MODEL")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Models of each corpus.", metavar="N")] = 3,
    val: Annotated[
        str | None,
        typer.Option(help="Held-out documents. [default: drawn from the corpora, as much of each]", metavar="PATH"),
    ] = None,
    val_bytes: Annotated[str, typer.Option(help="Text to hold out, where it is drawn.", metavar="SIZE")] = "1MB",
    tokenizer: Annotated[
        str | None,
        typer.Option(help="A name or path. [default: trained on as much text of each corpus]", metavar="NAME|PATH"),
    ] = None,
    vocab_size: Annotated[str, typer.Option(help="Vocabulary, where it is trained.", metavar="N")] = "4096",
    settings: Annotated[list[str] | None, set_option("train.optim.lr=3e-4")] = None,
    rerun: Rerun = False,
    workers: Workers = None,
    max_time: MaxTime = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train one model on several corpora and compare them.

    Bits a byte of shared held-out text, several seeds each: the same model and number of tokens, data alone differs.
    Each model is a run folder in DIR/models; the same command goes on after a stop or a kill. Folders of tokens need
    one tokenizer and one validation split.

    \b
    Example:
      llmdata ablate --corpus raw --corpus filtered --tokens 20M --out ablation
      llmdata ablate --corpus a/tokens --corpus b/tokens --names a,b --tokens 28B --seeds 2 --model gpt2-1558m -o ab
    """
    with command(json=json, verbose=verbose, workers=workers, max_time=max_time) as (session, console):
        from dataclasses import asdict

        from llmdata.cli.train import load_config
        from llmdata.config import from_options
        from llmdata.pipeline.corpora import AblationConfig
        from llmdata.storage.lock import locked
        from llmdata.storage.place import Place
        from llmdata.train.ablation import ablate as run

        options = {
            "tokens": tokens,
            "seeds": seeds,
            "val": val,
            "val_bytes": val_bytes,
            "tokenizer": tokenizer,
            "vocab_size": vocab_size,
        }
        config = from_options(AblationConfig, options)
        base = load_config(model, None, settings or [])
        named = _named(corpus, names)
        place = Place.of(out)
        with locked(place, "llmdata ablate"):
            folders = _tokens(named, place, config, session, rerun)
            result = run(folders, place, base, config.tokens, config.seeds, session, rerun=rerun)
        console.result(asdict(result))
        _show(result, place, console)


def _named(addresses: list[str], names: str | None) -> list[tuple[str, Place]]:
    """The corpora by name: as told, or the last part of the address that tells them apart."""
    from llmdata.errors import ConfigError
    from llmdata.storage.place import Place

    places = [Place.of(address) for address in addresses]
    if len(places) < 2:
        raise ConfigError("--corpus: give at least two to compare")
    if names is not None:
        chosen = [name.strip() for name in names.split(",")]
        if len(chosen) != len(places):
            raise ConfigError(f"--names {names}: {len(chosen)} names for {len(places)} corpora")
    else:
        chosen = [place.name for place in places]
        if len(set(chosen)) < len(chosen):  # a/tokens and b/tokens
            chosen = [place.parent.name for place in places]
        chosen = [re.sub(r"[^\w.-]+", "-", name.partition(".")[0]) for name in chosen]
    for name in chosen:
        if not re.fullmatch(r"\w[\w.-]*", name) or chosen.count(name) > 1:
            raise ConfigError(
                f"the corpora need names, each its own, of letters and digits: --names A,B (not {name!r})"
            )
    return list(zip(chosen, places, strict=True))


def _tokens(
    named: list[tuple[str, Place]], out: Place, config: AblationConfig, session: Session, rerun: bool
) -> list[tuple[str, Place]]:
    """The corpora as folders of tokens: what they are, or what is made of their documents."""
    from llmdata.errors import ConfigError
    from llmdata.pipeline.corpora import STAGE, corpus_of, prepared
    from llmdata.storage import manifest
    from llmdata.storage.token_index import INDEX

    encoded = [(place / INDEX).exists() for _, place in named]
    if not any(encoded):
        folders = prepared([corpus_of(name, place) for name, place in named], out, config, session, rerun)
        return [(name, folder) for (name, _), folder in zip(named, folders, strict=True)]
    if not all(encoded):
        raise ConfigError("--corpus: give documents or folders of tokens, not both")
    if config.val or config.tokenizer:
        raise ConfigError("--val, --tokenizer: tokens have theirs already; give documents, or leave these out")
    manifest.check_stage(out, STAGE)
    manifest.save_stamp(out, STAGE, {"state": {"tokens": {name: str(place) for name, place in named}}})
    return named


def _show(result: AblationResult, out: Place, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    from llmdata.train.ablation import PICTURE, RECORD, curves
    from llmdata.train.chart import terminal_chart

    table = Table(box=None, pad_edge=False)
    table.add_column("corpus")
    for name in ("models", "tokens", "epochs", "bits a byte", "± over seeds", "of each seed"):
        table.add_column(name, justify="right")
    for score in result.scores:
        runs = [run for run in result.runs if run.corpus == score.corpus]
        spread = "" if score.spread is None else f"{score.spread:.4f}"
        each = " ".join(f"{run.bits_per_byte:.4f}" for run in runs)
        cells = (f"{runs[0].tokens:,}", f"{runs[0].epochs:.2f}", f"{score.mean:.4f}", spread, each)
        table.add_row(score.corpus, str(len(runs)), *cells)
    console.render(table)
    console.render(Text())
    for one in result.differences:
        better = "better" if one.difference < 0 else "worse"
        text = f"{one.corpus} is {abs(one.difference):.4f} bits a byte {better} than {one.baseline}"
        if one.error is None or one.low is None or one.high is None:
            text += "; one seed says nothing of the noise"
        else:
            verdict = "beyond" if one.beyond_noise else "within"
            text += f" (standard error {one.error:.4f}, 95 % {one.low:+.4f} to {one.high:+.4f}): {verdict} the noise"
        console.render(Text(text))
    console.render(Text(f"\nBits a byte of {result.held_out_bytes:,} bytes of held-out text, over training tokens"))
    console.render(Text(terminal_chart(curves(result), log_y=True)))
    console.render(Text(f"\n{out / RECORD}, {out / PICTURE}"))
