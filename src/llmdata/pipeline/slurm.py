"""A run as Slurm jobs: an array for each list of tasks, each depending on the one before, and one job for training.

Each element of an array is `llmdata run --rank … --barrier stop`: it does its share of the list; the last one does what
cannot be shared, up to the next list. An element that is preempted, runs out of time or is killed does nothing twice.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from llmdata.errors import ConfigError
from llmdata.pipeline.chain import passes
from llmdata.pipeline.recipe import Recipe
from llmdata.pipeline.run import stages_of

ARRAY = 1000
"""Elements of an array at most: Slurm's default MaxArraySize is 1001."""
WARNING = 120
"""Seconds before its time is over (or, where the partition's GraceTime allows, it is preempted) that a job is told."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a job asks for. `more` are further lines for sbatch, like `--account=physics`."""

    partition: str | None = None
    cpus: int = 1
    memory: str | None = None
    time: str | None = None
    more: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One script. `tasks` is the number of ranks that share it, None for a job that is not shared."""

    name: str
    command: list[str]
    resources: Resources
    tasks: int | None = None

    @property
    def file(self) -> str:
        return f"{self.name}.sbatch"

    def script(self, logs: str, folder: str) -> str:
        """The text of the script for sbatch, run in `folder`; its argument is the first rank of its array."""
        asked = [f"--job-name=llmdata-{self.name}", f"--cpus-per-task={self.resources.cpus}"]
        asked += [f"--partition={self.resources.partition}"] if self.resources.partition else []
        asked += [f"--mem={self.resources.memory}"] if self.resources.memory else []
        asked += [f"--time={self.resources.time}"] if self.resources.time else []
        asked += ["--requeue", f"--signal=B:TERM@{WARNING}", "--open-mode=append", "--kill-on-invalid-dep=yes"]
        asked += [f"--chdir={folder}", f"--output={logs}/{self.name}-%{'A_%a' if self.tasks else 'j'}.log"]
        asked += self.resources.more
        share = ""
        if self.tasks:
            share = f' --rank "$((${{1:-0}} + SLURM_ARRAY_TASK_ID))" --world-size {self.tasks} --barrier stop'
        return _SCRIPT.format(
            lines="\n".join(f"#SBATCH {line}" for line in asked),
            command=f'{shlex.join(self.command)}{share} --workers "$SLURM_CPUS_PER_TASK"',
        )

    def arrays(self) -> list[tuple[int, int]]:
        """(first rank, elements) of the arrays that this job is split into."""
        assert self.tasks is not None
        return [(first, min(ARRAY, self.tasks - first)) for first in range(0, self.tasks, ARRAY)]


_SCRIPT = """\
#!/bin/bash
{lines}
{command} &
child=$!
trap 'kill -TERM "$child"' TERM
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do # a signal ended the wait; llmdata finishes what it has in hand
    wait "$child"
    code=$?
done
if [ "$code" -eq 75 ]; then # stopped early: the same command goes on
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def jobs(
    recipe: Recipe, command: Sequence[str], until: str | None, tasks: int, resources: Resources, training: Resources
) -> list[Job]:
    """The jobs of a run in their order. `command` is `llmdata run` with recipe, folder and settings.

    Raises ConfigError if the recipe has nothing that can be shared.
    """
    stages = stages_of(recipe, until)
    found = []
    if "crawl" in stages:
        found.append(Job("crawl", [*command, "--until", "crawl"], resources))
    lists = []
    if "clean" in stages and recipe.clean is not None:
        chain = passes(recipe.clean.stages, recipe.clean.keep == "all")
        for step in chain:  # quality_best has no list: that array takes the next one, and the last finds all done
            lists += [f"clean-{step.number}", *([f"keys-{step.shuffle}"] if step.shuffle else [])]
    if "tokenize" in stages:
        lists += ["tokenize", "shards"]
    if not lists:
        raise ConfigError("this recipe has neither a clean nor a tokenize section: there is nothing to share")
    last = [stage for stage in stages if stage != "train"][-1]
    found += [Job(name, [*command, "--until", last], resources, tasks) for name in lists]
    if "train" in stages:
        found.append(Job("train", [*command, "--until", "train"], training))
    return found


def submission(found: Sequence[Job], at_once: int | None) -> str:
    """The text of a shell script that submits the jobs, each to begin when all of the one before has ended well."""
    lines = []
    before = ""
    for job in found:
        names = []
        for number, (first, size) in enumerate(job.arrays() if job.tasks else [(0, 0)]):
            name = f"{job.name.replace('-', '_')}_{number}"
            options = f" --dependency=afterok{before}" if before else ""
            options += f" --array=0-{size - 1}{f'%{at_once}' if at_once else ''}" if size else ""
            lines.append(f"{name}=$(sbatch --parsable{options} {job.file} {first} | cut -d';' -f1)")
            names.append(name)
        lines.append(f'echo "{job.name}: {" ".join(f"${name}" for name in names)}"')
        before = "".join(f':"${name}"' for name in names)
    return _SUBMIT.format(lines="\n".join(lines))


_SUBMIT = """\
#!/bin/bash
# Submit again after a failure: what is done is passed over.
set -eu -o pipefail
cd "$(dirname "$0")"
{lines}
"""
