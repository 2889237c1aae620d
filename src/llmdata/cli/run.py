"""`llmdata run`: a whole recipe, from seeds to a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmdata.cli.common import (
    Console,
    Executor,
    Json,
    MaxTime,
    RayAddress,
    RecipeArgument,
    Rerun,
    Settings,
    Until,
    Verbose,
    Workdir,
    Workers,
    command,
    named_by_options,
)
from llmdata.errors import ConfigError

if TYPE_CHECKING:
    from llmdata.engine.share import Share
    from llmdata.pipeline.recipe import Recipe
    from llmdata.pipeline.run import StagePlan, StageResult
    from llmdata.storage.place import Place


def run(
    recipe: RecipeArgument,
    workdir: Workdir = None,
    until: Until = None,
    limit: Annotated[
        str | None,
        typer.Option(
            help="A trial run: crawl (or read, where the recipe crawls nothing) so many pages at most.", metavar="N"
        ),
    ] = None,
    settings: Settings = None,
    rerun: Rerun = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done; do nothing.")] = False,
    workers: Workers = None,
    executor: Executor = "local",
    ray_address: RayAddress = "auto",
    rank: Annotated[
        int | None,
        typer.Option("--rank", min=0, help="Do this process's share: it is number I of --world-size.", metavar="I"),
    ] = None,
    world_size: Annotated[
        int | None, typer.Option("--world-size", min=1, help="Processes that share the run.", metavar="N")
    ] = None,
    barrier: Annotated[
        str,
        typer.Option(
            help="With --rank, where a step needs all before it: whoever finishes last goes on alone; all wait; or the "
            "last does what cannot be shared and stops.",
            metavar="alone|wait|stop",
        ),
    ] = "alone",
    max_time: MaxTime = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Run a recipe from end to end.

    The same command goes on after a stop, a kill or a crash, and does nothing when all is done.

    \b
    Example:
      llmdata run pipelines/demo.yaml --workdir runs/demo
      llmdata run fineweb --workdir runs/cc --set clean.input=[CC-MAIN-2024.warc.gz] --until clean
      llmdata run fineweb.yaml --workdir s3://corpus/cc --rank $SLURM_ARRAY_TASK_ID --world-size 100
    """
    with command(
        json=json,
        verbose=verbose,
        workers=workers,
        max_time=max_time,
        executor=executor,
        ray_address=ray_address,
    ) as (session, console):
        from pathlib import Path

        from llmdata.pipeline import run as runs
        from llmdata.pipeline.recipe import find_recipe, load_recipe
        from llmdata.storage.place import Place

        overrides = list(settings or [])
        options = {}
        if limit is not None:
            crawls = load_recipe(recipe, overrides).crawl is not None
            options = {f"{'crawl.max_pages' if crawls else 'clean.limit'}={limit}": f"--limit {limit}"}
        with named_by_options(options):
            loaded = load_recipe(recipe, [*overrides, *options])
        place = Place.of(workdir or str(Path("runs") / (loaded.name or find_recipe(recipe).stem)))
        session.share = _share(place, rank, world_size, barrier)
        if dry_run:
            _show_plan(loaded, runs.plan(loaded, place, until), place, console)
            return
        results = runs.run(loaded, place, session, until=until, rerun=rerun, done=lambda result: _show(result, console))
        if not any(result.fresh for result in results):
            session.progress.note(f"{place}: all of it was finished before, nothing to do")
        report = _report(place)
        console.result({"workdir": str(place), "report": str(report)}, f"\nReport: {report}")


def _share(place: Place, rank: int | None, world_size: int | None, barrier: str) -> Share | None:
    from llmdata.engine.share import Share

    if barrier not in ("alone", "wait", "stop"):
        raise ConfigError(f"--barrier {barrier}: choose alone, wait or stop")
    if rank is None and world_size is None:
        return None
    if rank is None or world_size is None:
        raise ConfigError("--rank and --world-size belong together")
    if rank >= world_size:
        raise ConfigError(f"--rank {rank}: with --world-size {world_size}, ranks are 0 to {world_size - 1}")
    return Share(place, rank, world_size, barrier)  # type: ignore[arg-type]


def _report(place: Place) -> Place:
    from llmdata.audit.report import write_report

    return write_report(place)


def _show_plan(recipe: Recipe, plans: list[StagePlan], place: Place, console: Console) -> None:
    from rich.table import Table

    table = Table(title=f"{recipe.name or 'recipe'} in {place}", title_justify="left")
    for column in ("stage", "reads", "writes", "state", "tasks"):
        table.add_column(column, overflow="fold")
    for plan in plans:
        table.add_row(plan.stage, plan.inputs, plan.folder, plan.state, "")
        for step in plan.passes:
            tasks = "known when the pass before is done" if step.tasks is None else f"{step.done} of {step.tasks} done"
            table.add_row("", " → ".join(step.stages) or "read", f"  {step.folder}/", "", tasks)
    console.render(table)
    console.result({"workdir": str(place), "plan": [_record(plan) for plan in plans]})


def _show(result: StageResult, console: Console) -> None:
    """One stage is done: its line, and for clean and train what people want to see."""
    from llmdata.audit.funnel import funnel_table
    from llmdata.cli.train import show_samples

    value = result.result
    console.result({"stage": result.stage, "fresh": result.fresh, "result": _record(value)})
    if console.json or not result.fresh:
        return
    if result.stage == "clean":
        console.render(funnel_table(value.funnel, "What the chain kept"))
    elif result.stage == "train":
        show_samples(value, console)


def _record(value: Any) -> Any:
    from dataclasses import asdict, is_dataclass

    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
