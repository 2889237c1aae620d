"""`llmdata quality`: the classifier of good text."""

from __future__ import annotations

from typing import Annotated

import typer

from llmdata.cli.common import Json, Settings, Verbose, command

app = typer.Typer(no_args_is_help=True, help="Train a classifier of good text.")


@app.callback()
def _quality() -> None:
    pass


@app.command()
def train(
    good: Annotated[list[str], typer.Option(help="Texts to be like: Parquet, JSON lines, folders.", metavar="INPUT")],
    bad: Annotated[list[str], typer.Option(help="Texts to tell them from, as ordinary pages.", metavar="INPUT")],
    out: Annotated[str, typer.Option("--out", "-o", help="The model to write.", metavar="FILE")],
    documents: Annotated[str | None, typer.Option(help="At most so many of each kind.", metavar="N")] = None,
    settings: Settings = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train a fastText classifier of good against bad texts, for the stage `quality`.

    \b
    Example:
      llmdata quality train --good wikipedia.parquet --bad corpus/final --out quality.bin
      llmdata clean more.warc.gz -o best --recipe dclm --set clean.quality.model=quality.bin
    """
    with command(json=json, verbose=verbose) as (session, console):
        from pathlib import Path

        from llmdata.clean.quality_train import QualityTrainConfig, train_quality
        from llmdata.config import from_options

        config = from_options(QualityTrainConfig, {"documents": documents}, settings or [], "quality")
        figures = train_quality(good, bad, Path(out), config, session)
        accuracy = figures["held_out"]["accuracy"]
        text = f"{out}: trained on {sum(figures['documents'].values()):,} texts"
        if accuracy is not None:
            text += f", {accuracy:.1%} of {sum(figures['held_out']['documents'].values()):,} held out are told right"
        console.result({"out": out, **figures}, text)
