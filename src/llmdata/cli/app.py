"""The `llmdata` command: its sub-commands in the order of the way of the data."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from llmdata import __version__
from llmdata.cli import (
    ablate,
    blocklists,
    clean,
    crawl,
    dedup,
    estimate,
    export,
    generate,
    inspect,
    plan,
    quality,
    run,
    schema,
    status,
    submit,
    sweep,
    tokenize,
    tokenizer,
    train,
)


class _InOrder(TyperGroup):
    """Typer puts groups behind commands; here `tokenizer` has its place on the way."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = [name for name in super().list_commands(ctx) if name != "tokenizer"]
        names.insert(names.index("tokenize"), "tokenizer")
        return names


app = typer.Typer(
    cls=_InOrder,
    name="llmdata",
    help="From web pages to a trained base model: crawl, clean, deduplicate, tokenize, train.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
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
app.command()(estimate.estimate)
app.command()(submit.submit)
app.command()(crawl.crawl)
app.command()(clean.clean)
app.command()(dedup.dedup)
app.add_typer(blocklists.app, name="blocklists")
app.add_typer(quality.app, name="quality")
app.add_typer(tokenizer.app, name="tokenizer")
app.command()(tokenize.tokenize)
app.command()(plan.plan)
app.command()(train.train)
app.command()(sweep.sweep)
app.command()(ablate.ablate)
app.command()(generate.generate)
app.command()(export.export)
app.command()(status.status)
app.command()(inspect.inspect)
app.command()(schema.schema)
