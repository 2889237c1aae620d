"""The `llmdata` command: its sub-commands in the order of the way of the data."""

from __future__ import annotations

from typing import Annotated

import typer

from llmdata import __version__
from llmdata.cli import clean, crawl, dedup, generate, inspect, run, schema, status, tokenize, tokenizer, train

app = typer.Typer(
    name="llmdata",
    help="From web pages to a trained base model: crawl, clean, deduplicate, tokenize, train.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"llmdata {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command()(run.run)
app.command()(crawl.crawl)
app.command()(clean.clean)
app.command()(dedup.dedup)
app.add_typer(tokenizer.app, name="tokenizer")
app.command()(tokenize.tokenize)
app.command()(train.train)
app.command()(generate.generate)
app.command()(status.status)
app.command()(inspect.inspect)
app.command()(schema.schema)
