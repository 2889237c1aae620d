"""A run shared by processes that know only their rank: the bytes of one process, however they come and go."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE, Llmdata, command, data_files, environment, losses


def assert_same(run: Path, undisturbed: Path) -> None:
    expected, found = data_files(undisturbed), data_files(run)
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
    assert losses(run) == losses(undisturbed)


def start(recipe: Path, run: Path, rank: int, size: int, *options: str) -> subprocess.Popen[str]:
    share = ("--rank", str(rank), "--world-size", str(size), "--workers", "1")
    return subprocess.Popen(
        command("run", recipe, "--workdir", run, *share, *options),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*processes: subprocess.Popen[str]) -> list[str]:
    """What they said on stderr until they ended well; of one that did not, its last words are the message."""
    said = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    for process, text in zip(processes, said, strict=True):
        assert process.returncode == 0, text[-4000:]
    return said


def test_whoever_finishes_last_goes_on_also_after_a_kill(recipe: Path, undisturbed: Path, tmp_path: Path) -> None:
    first, second, killed = (start(recipe, tmp_path / "run", rank, 3) for rank in range(3))
    assert killed.stderr is not None
    while "clean 1/2: started" not in killed.stderr.readline():
        pass
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    said = ended(first, second)
    assert all("its share of clean 1/2 is done" in text for text in said), said
    assert not (tmp_path / "run/clean/final").exists()

    again = start(recipe, tmp_path / "run", 2, 3)
    assert "train: done" in again.communicate(timeout=PATIENCE)[1]
    assert_same(tmp_path / "run", undisturbed)


def test_ranks_that_wait_for_each_other_share_every_list(recipe: Path, undisturbed: Path, tmp_path: Path) -> None:
    said = ended(*(start(recipe, tmp_path / "run", rank, 2, "--barrier", "wait") for rank in range(2)))
    for lists in ("clean 1/2", "minhash keys", "clean 2/2", "tokenize", "shards"):
        assert all(f"{lists}: done" in text for text in said), (lists, said)
    assert sum("train: done" in text for text in said) == 1, said
    assert_same(tmp_path / "run", undisturbed)


def test_jobs_that_depend_on_each_other_share_a_list_each(recipe: Path, undisturbed: Path, tmp_path: Path) -> None:
    """What `llmdata submit --slurm` writes: an array for each list, the last of which does what cannot be shared."""
    jobs = 0
    while not (tmp_path / "run/model/.llmdata/tasks/train.json").exists():
        jobs += 1
        for rank in range(2):
            ended(start(recipe, tmp_path / "run", rank, 2, "--barrier", "stop"))
    assert jobs == 5
    assert_same(tmp_path / "run", undisturbed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rank", "0"), "--rank and --world-size belong together"),
        (("--rank", "2", "--world-size", "2"), "ranks are 0 to 1"),
        (("--rank", "0", "--world-size", "2", "--barrier", "jump"), "choose alone, wait or stop"),
        (("--rank", "0", "--world-size", "2", "--rerun"), "clear a run with one process"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    llmdata: Llmdata, recipe: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    done = llmdata("run", recipe, "--workdir", tmp_path / "run", *options, check=2)
    assert message in done.stderr
    assert not (tmp_path / "run/clean").exists()
