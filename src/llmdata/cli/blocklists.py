"""`llmdata blocklists`: published lists of addresses and words."""

from __future__ import annotations

from typing import Annotated

import typer

from llmdata.cli.common import Json, Verbose, command

app = typer.Typer(no_args_is_help=True, help="Published lists of addresses and words.")


@app.command()
def update(
    name: Annotated[str, typer.Argument(metavar="NAME", help="ut1 (addresses) or ldnoobw (words).")],
    category: Annotated[
        list[str] | None,
        typer.Option(help="A category of ut1, a language of ldnoobw. Repeatable. [default: adult, en]", metavar="NAME"),
    ] = None,
    address: Annotated[
        str | None, typer.Option("--from", help="A mirror with the publisher's layout.", metavar="URL")
    ] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Download a published list into the cache, or bring it up to date; its licence and digest are noted beside it.

    \b
    Example:
      llmdata blocklists update ut1 --category adult --category gambling
      llmdata clean pages.warc.gz -o corpus --set 'clean.url.domains=[ut1/adult, ut1/gambling]'
    """
    with command(json=json, verbose=verbose) as (session, console):
        from llmdata.clean.blocklists import update as download

        for record in download(name, category or [], session, address=address):
            entries = ", ".join(f"{count:,} {kind}" for kind, count in record["entries"].items())
            state = "new" if record["changed"] else "unchanged"
            console.result(record, f"{record['origin']}: {entries}, {state} ({record['licence']})")


@app.command("list")
def list_() -> None:
    """Print the lists that the cache holds.

    \b
    Example:
      llmdata blocklists list
    """
    with command() as (_, console):
        from llmdata.clean.blocklists import available

        for record in available():
            entries = ", ".join(f"{count:,} {kind}" for kind, count in record["entries"].items())
            console.result(record, f"{record['name']}  {entries}  {record['downloaded']}  {record['licence']}")
