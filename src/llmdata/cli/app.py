"""The `llmdata` command: its sub-commands in the order of the way of the data."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command

from llmdata import __version__
from llmdata.cli.common import ends_well

COMMANDS = (
    "run",
    "estimate",
    "submit",
    "crawl",
    "clean",
    "dedup",
    "tokenizer",
    "tokenize",
    "plan",
    "train",
    "sweep",
    "ablate",
    "generate",
    "export",
    "status",
    "inspect",
    "schema",
    "blocklists",
    "quality",
)
"""Modules of this package, each with a function of its name, or with `app`, a group of commands."""


class _Commands(TyperGroup):
    """The commands, each imported when it is asked for: none waits for the others."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # Of a name that is none, all are asked for: one of them may have been meant.
        for name in [cmd_name] if cmd_name in COMMANDS else COMMANDS:
            if name not in self.commands:
                self.commands[name] = _load(name)
        return self.commands.get(cmd_name)


def _load(name: str) -> Any:
    module = import_module(f"llmdata.cli.{name}")
    alone = typer.Typer(rich_markup_mode=None)
    alone.callback()(lambda: None)  # or Typer would take a single command for the whole
    if hasattr(module, "app"):
        alone.add_typer(module.app, name=name)
    else:
        alone.command()(getattr(module, name))
    return cast(TyperGroup, get_command(alone)).commands[name]


app = typer.Typer(
    cls=_Commands,
    name="llmdata",
    help="From web pages to a trained base model: crawl, clean, deduplicate, tokenize, train.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from llmdata import native

        with ends_well():
            print(f"llmdata {__version__} ({'with' if native.library() else 'without'} its C library)")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
