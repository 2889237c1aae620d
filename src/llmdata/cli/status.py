"""`llmdata status`: how far a run is."""

from __future__ import annotations

from typing import Annotated

import typer

from llmdata.cli.common import Json, Verbose, command


def status(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A run, or the folder of one stage.")],
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Say how far a run is, also while it runs.

    Tasks, documents, time and speed of each stage, and who holds the folder.

    \b
    Example:
      llmdata status runs/demo
      llmdata status runs/demo --json
    """
    with command(json=json, verbose=verbose) as (_, console):
        from dataclasses import asdict

        from llmdata.audit.folders import look_at
        from llmdata.audit.status import status, status_table

        stages = status(look_at(folder))
        for stage in stages:
            console.result({**asdict(stage), "per_second": stage.per_second})
        console.render(status_table(stages))
