"""`llmdata clean`: from pages to documents."""

from __future__ import annotations

from typing import Annotated

import typer

from llmdata.cli.common import (
    Executor,
    Json,
    Layout,
    MaxTime,
    Out,
    RayAddress,
    Rerun,
    Settings,
    TextColumn,
    Verbose,
    Workers,
    command,
    named_by_options,
)


def clean(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="WARC, WET, Parquet or JSON lines: files, folders, globs, addresses."),
    ],
    out: Out,
    recipe: Annotated[str, typer.Option(help="A recipe by name (fineweb) or path.", metavar="NAME|PATH")] = "fineweb",
    stages: Annotated[
        str | None, typer.Option(help="Run these stages only, in this order, e.g. extract,language.", metavar="NAMES")
    ] = None,
    layout: Layout = None,
    text_column: TextColumn = None,
    lid_model: Annotated[
        str | None, typer.Option("--lid-model", help="Another fastText model of languages.", metavar="PATH")
    ] = None,
    limit: Annotated[str | None, typer.Option(help="Read at most so many documents.", metavar="N")] = None,
    settings: Settings = None,
    rerun: Rerun = False,
    workers: Workers = None,
    executor: Executor = "local",
    ray_address: RayAddress = "auto",
    max_time: MaxTime = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Filter, extract and scrub pages.

    DIR/final holds what is kept, DIR/rejected the rest, with reasons. The same command goes on after a stop or a kill.

    \b
    Example:
      llmdata clean CC-MAIN-*.warc.gz --out corpus --recipe fineweb --limit 10000
      llmdata inspect corpus --rejected
    """
    with command(
        json=json,
        verbose=verbose,
        workers=workers,
        max_time=max_time,
        executor=executor,
        ray_address=ray_address,
    ) as (session, console):
        from llmdata.audit.funnel import funnel_table
        from llmdata.errors import ConfigError
        from llmdata.pipeline.clean import run_clean
        from llmdata.pipeline.recipe import load_recipe
        from llmdata.storage.lock import locked
        from llmdata.storage.place import Place

        # The recipe's own crawl and input give way to what stands on the command line.
        overrides = ["crawl=null", f"clean.input={_yaml(inputs)}"]
        options = {
            f"clean.{key}={value}": f"--{option} {value}"
            for key, option, value in (
                ("layout", "layout", layout),
                ("text_column", "text-column", text_column),
                ("limit", "limit", limit),
                ("language.model", "lid-model", lid_model),
            )
            if value is not None
        }
        if stages is not None:
            options[f"clean.stages={_yaml([name.strip() for name in stages.split(',')])}"] = f"--stages {stages}"
        with named_by_options(options):
            config = load_recipe(recipe, [*overrides, *options, *(settings or [])]).clean
        if config is None:
            raise ConfigError(f"recipe {recipe} has no clean section")
        session.meanwhile = _import_arrow
        place = Place.of(out)
        with locked(place, "llmdata clean"):
            result = run_clean(place, config, session, rerun=rerun)
        if not result.fresh:
            session.progress.note(f"{place}: finished before, nothing to do")
        console.render(funnel_table(result.funnel))
        console.result(
            {"out": str(place), "fresh": result.fresh, "seconds": round(result.seconds, 3), "funnel": result.funnel},
            f"Kept documents: {place / 'final'}   Rejected, with reasons: {place / 'rejected'}",
        )


def _import_arrow() -> None:
    """For what this process does between the passes and behind them; until then it needs none of it."""
    import pyarrow.compute  # noqa: F401

    import llmdata.dedup.resolve
    import llmdata.storage.no_pandas  # noqa: F401


def _yaml(values: list[str]) -> str:
    import json

    return json.dumps(values)  # JSON is YAML, and quotes whatever needs quotes
