"""`llmdata estimate`: what a run will take."""

from __future__ import annotations

from typing import Annotated

import typer

from llmdata.cli.common import Json, RecipeArgument, Settings, Verbose, Workers, command
from llmdata.errors import ConfigError


def estimate(
    recipe: RecipeArgument,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", help="Instead of the recipe's own input. Repeatable.", metavar="INPUT"),
    ] = None,
    share: Annotated[str, typer.Option(help="Share of the input to run, e.g. 1% or 0.01.", metavar="SHARE")] = "1%",
    least: Annotated[str, typer.Option(help="Bytes to run at least, as long as there are.", metavar="SIZE")] = "8MB",
    settings: Settings = None,
    workers: Workers = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Say what a run will take: time, CPU, memory, disk, tokens.

    Runs the recipe up to its tokens on a sample of the input, in a temporary folder. Of duplicates a sample sees too
    few, so that kept documents, tokens and disk are upper bounds.

    \b
    Example:
      llmdata estimate fineweb --input "cc/*.warc.gz"
      llmdata estimate fineweb -i corpus.parquet --share 5% --set clean.stages=[language,minhash,pii]
    """
    with command(json=json, verbose=verbose, workers=workers) as (session, console):
        from dataclasses import asdict

        from llmdata.config import parse_size
        from llmdata.pipeline.estimate import estimate as measure
        from llmdata.pipeline.estimate import estimate_table
        from llmdata.pipeline.recipe import load_recipe

        overrides = [f"clean.input={_list(inputs)}"] if inputs else []
        loaded = load_recipe(recipe, [*overrides, *(settings or [])])
        try:
            part = float(share.rstrip("%")) / (100 if share.endswith("%") else 1)
            smallest = int(str(parse_size(least)))
        except ValueError as error:
            raise ConfigError(f"--share {share}, --least {least}: {error}") from None
        if not 0 < part <= 1:
            raise ConfigError(f"--share {share}: give more than 0 and at most 100%")
        found = measure(loaded, session, share=part, least=smallest)
        console.result({**asdict(found), "share": found.share})
        console.render(estimate_table(found))


def _list(inputs: list[str]) -> str:
    import json

    return json.dumps(inputs, ensure_ascii=False)
