"""The jobs of a run: in the order of its lists, each after all of the one before, in arrays that Slurm takes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from llmdata.errors import ConfigError
from llmdata.pipeline.recipe import load_recipe
from llmdata.pipeline.slurm import Job, Resources, jobs, submission

CPU = Resources("cpu", 4, "8G", "1:00:00", ("--account=me",))
GPU = Resources("gpu", 8, None, None, ("--gres=gpu:1",))


def jobs_of(recipe: str, until: str | None = None, tasks: int = 3) -> list[Job]:
    return jobs(load_recipe(recipe, []), ["llmdata", "run", recipe], until, tasks, CPU, GPU)


@pytest.mark.parametrize(
    ("recipe", "until", "names"),
    [
        ("demo", None, ["crawl", "clean-1", "keys-minhash", "clean-2", "tokenize", "shards", "train"]),
        ("demo", "clean", ["crawl", "clean-1", "keys-minhash", "clean-2"]),
        ("demo", "tokenizer", ["crawl", "clean-1", "keys-minhash", "clean-2"]),
        ("fineweb", None, ["clean-1", "keys-minhash", "clean-2"]),
    ],
)
def test_there_is_a_job_for_each_list_of_tasks(recipe: str, until: str | None, names: list[str]) -> None:
    assert [job.name for job in jobs_of(recipe, until)] == names


def test_a_recipe_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to share"):
        jobs_of("demo", "crawl")


def test_a_script_asks_for_what_was_said_and_shares_by_rank() -> None:
    job = jobs_of("demo")[1]
    text = job.script("/logs", "/here")
    asked = re.findall(r"^#SBATCH (\S+)", text, re.M)
    for option in ("--partition=cpu", "--cpus-per-task=4", "--mem=8G", "--time=1:00:00", "--account=me", "--requeue"):
        assert option in asked
    assert "--chdir=/here" in asked
    assert "--output=/logs/clean-1-%A_%a.log" in asked
    assert '--until tokenize --rank "$((${1:-0} + SLURM_ARRAY_TASK_ID))" --world-size 3 --barrier stop' in text


def test_training_has_resources_of_its_own() -> None:
    text = jobs_of("demo")[-1].script("/logs", "/here")
    assert "#SBATCH --gres=gpu:1" in text
    assert "--rank" not in text


@pytest.mark.parametrize(
    ("tasks", "arrays"),
    [
        (1, [(0, 1)]),
        (1000, [(0, 1000)]),
        (1001, [(0, 1000), (1000, 1)]),
        (2500, [(0, 1000), (1000, 1000), (2000, 500)]),
    ],
)
def test_arrays_over_a_thousand_are_split(tasks: int, arrays: list[tuple[int, int]]) -> None:
    assert jobs_of("fineweb", tasks=tasks)[0].arrays() == arrays


def test_each_job_waits_for_all_arrays_of_the_one_before() -> None:
    text = submission(jobs_of("fineweb", tasks=1500), at_once=64)
    first = "--array=0-999%64 clean-1.sbatch 0", "--array=0-499%64 clean-1.sbatch 1000"
    assert all(part in text for part in first)
    assert text.count('--dependency=afterok:"$clean_1_0":"$clean_1_1" --array=') == 2
    assert text.count('--dependency=afterok:"$keys_minhash_0":"$keys_minhash_1" --array=') == 2


def test_a_shell_understands_the_scripts(tmp_path: Path) -> None:
    found = jobs_of("demo", tasks=1200)
    for job in found:
        (tmp_path / job.file).write_text(job.script("/logs", "/here with space"))
    (tmp_path / "submit.sh").write_text(submission(found, None))
    for script in tmp_path.iterdir():
        subprocess.run(["bash", "-n", script], check=True)
        if shutil.which("shellcheck"):
            subprocess.run(["shellcheck", "--shell=bash", script], check=True)
