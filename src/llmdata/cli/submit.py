"""`llmdata submit`: a run as the jobs of a cluster's scheduler."""

from __future__ import annotations

from typing import Annotated

import typer

from llmdata.cli.common import Json, RecipeArgument, Settings, Until, Verbose, Workdir, command
from llmdata.errors import ConfigError, LlmdataError


def submit(
    recipe: RecipeArgument,
    slurm: Annotated[bool, typer.Option("--slurm", help="Write scripts for Slurm.")] = False,
    tasks: Annotated[int, typer.Option(min=1, help="Processes that share each list of tasks.", metavar="N")] = 100,
    workdir: Workdir = None,
    until: Until = None,
    settings: Settings = None,
    partition: Annotated[str | None, typer.Option(help="Partition of the jobs.", metavar="NAME")] = None,
    cpus: Annotated[int, typer.Option(min=1, help="CPUs of a process: as many workers.", metavar="N")] = 8,
    memory: Annotated[str | None, typer.Option(help="Memory of a process, e.g. 16G.", metavar="SIZE")] = None,
    time: Annotated[str | None, typer.Option(help="Time limit, e.g. 12:00:00.", metavar="TIME")] = None,
    at_once: Annotated[
        int | None, typer.Option("--at-once", min=1, help="Elements of an array that run at once.", metavar="N")
    ] = None,
    sbatch: Annotated[
        list[str] | None,
        typer.Option("--sbatch", help="A further option for every job, e.g. --account=me. Repeatable.", metavar="OPT"),
    ] = None,
    train_sbatch: Annotated[
        list[str] | None,
        typer.Option(
            "--train-sbatch", help="One for training, e.g. --partition=gpu or --gres=gpu:1. Repeatable.", metavar="OPT"
        ),
    ] = None,
    scripts: Annotated[str, typer.Option(help="Folder for the scripts and logs.", metavar="DIR")] = "slurm",
    go: Annotated[bool, typer.Option("--go", help="Submit them, too.")] = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Write a run as jobs for Slurm, and submit them.

    An array of jobs for each list of tasks, which begins when the one before has ended well. What is preempted, out of
    time or killed is queued again and does nothing twice. Compute nodes and this one share DIR, or it is on s3://.

    \b
    Example:
      llmdata submit fineweb.yaml --slurm --partition cpu --tasks 2000 --cpus 8 --memory 16G --time 12:00:00
      llmdata submit fineweb.yaml --slurm --tasks 50 --train-sbatch=--gres=gpu:1 --go
    """
    with command(json=json, verbose=verbose) as (_, console):
        import os
        import shutil
        import subprocess
        import sys
        from pathlib import Path

        from llmdata.pipeline import slurm as writer
        from llmdata.pipeline.recipe import find_recipe, load_recipe
        from llmdata.storage.place import Place

        if not slurm:
            raise ConfigError("name the scheduler: --slurm is the one there is")
        loaded = load_recipe(recipe, list(settings or []))
        path = find_recipe(recipe).resolve()
        place = Place.of(workdir or str(Path("runs") / (loaded.name or path.stem)))
        folder = str(place) if place.fs is not None else os.path.abspath(str(place))
        run = [sys.executable, "-m", "llmdata", "run", str(path), "--workdir", folder]
        for setting in settings or []:
            run += ["--set", setting]
        resources = writer.Resources(partition, cpus, memory, time, tuple(sbatch or ()))
        training = writer.Resources(partition, cpus, memory, time, (*(sbatch or ()), *(train_sbatch or ())))
        jobs = writer.jobs(loaded, run, until, tasks, resources, training)
        target = Place.of(os.path.abspath(scripts))
        for job in jobs:
            (target / job.file).write_bytes(job.script(str(target), os.getcwd()).encode())
        main = target / "submit.sh"
        main.write_bytes(writer.submission(jobs, at_once).encode())
        names = [job.file for job in jobs]
        console.result({"scripts": str(target), "jobs": names}, f"{target}: {', '.join(names)}")
        if not go:
            console.result({}, f"Submit them: bash {main}")
            return
        if shutil.which("sbatch") is None:
            raise ConfigError("--go: there is no sbatch on this machine; run submit.sh where there is")
        done = subprocess.run(["bash", str(main)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise LlmdataError(f"sbatch refused: {done.stderr.strip() or done.stdout.strip()}")
        console.result({"submitted": done.stdout.splitlines()}, done.stdout.rstrip())
