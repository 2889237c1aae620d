"""`llmdata run`: the same bytes however often it is killed; nothing to do when all is done; clear refusals."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE, Llmdata, command, data_files, environment, losses


def kill_and_resume(recipe: Path, workdir: Path, seed: int, kills: int) -> None:
    """Run with SIGKILL at `kills` random moments, then once to the end. A run that ends between kills begins anew."""
    rng = random.Random(seed)
    start = command("run", recipe, "--workdir", workdir, "--workers", "2")
    while kills:
        process = subprocess.Popen(
            start, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            assert process.wait(timeout=rng.uniform(0.5, 4)) == 0
            shutil.rmtree(workdir)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills -= 1
    subprocess.run(start, env=environment(), check=True, timeout=PATIENCE)


def assert_same(run: Path, undisturbed: Path) -> None:
    expected, found = data_files(undisturbed), data_files(run)
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
    assert losses(run) == losses(undisturbed)


def test_killed_three_times_the_run_ends_with_the_same_bytes(
    recipe: Path, undisturbed: Path, tmp_path: Path, llmdata: Llmdata
) -> None:
    kill_and_resume(recipe, tmp_path / "run", seed=1, kills=3)
    assert_same(tmp_path / "run", undisturbed)
    llmdata("inspect", tmp_path / "run", "--verify")


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_killed_twenty_times_the_run_ends_with_the_same_bytes(
    recipe: Path, undisturbed: Path, tmp_path: Path, llmdata: Llmdata
) -> None:
    kill_and_resume(recipe, tmp_path / "run", seed=2, kills=20)
    assert_same(tmp_path / "run", undisturbed)
    llmdata("inspect", tmp_path / "run", "--verify")


def test_any_number_of_workers_makes_the_same_bytes(
    recipe: Path, undisturbed: Path, tmp_path: Path, llmdata: Llmdata
) -> None:
    llmdata("run", recipe, "--workdir", tmp_path / "one", "--workers", "1")
    assert_same(tmp_path / "one", undisturbed)


def test_the_run_has_something_to_show(undisturbed: Path) -> None:
    """The corpus is made so that every kind of stage keeps some and turns some away."""
    stages = {stage["stage"]: stage for stage in json.loads((undisturbed / "clean/funnel.json").read_text())["stages"]}
    assert stages["read"]["in"] == 120
    assert stages["minhash"]["rejected"] == {"duplicate": stages["minhash"]["in"] - stages["minhash"]["kept"]}
    assert 0 < stages["minhash"]["kept"] < stages["minhash"]["in"] < 120
    assert stages["pii"]["kept"] > 60
    assert (undisturbed / "report.html").exists()


def test_a_finished_run_does_nothing_and_says_so(undisturbed: Path, recipe: Path, llmdata: Llmdata) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.suffix in {".parquet", ".bin"}}
    done = llmdata("run", recipe, "--workdir", undisturbed)
    assert "nothing to do" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_changed_recipe_is_refused_with_what_it_touches(
    recipe: Path, undisturbed: Path, tmp_path: Path, llmdata: Llmdata
) -> None:
    workdir = tmp_path / "run"
    llmdata("run", recipe, "--workdir", workdir, "--until", "clean")
    changed = ("run", recipe, "--workdir", workdir, "--until", "clean", "--set", "clean.c4.min_sentences=2")
    refused = llmdata(*changed, check=2)
    assert "clean.c4.min_sentences was 5, is 2" in refused.stderr
    assert "--rerun" in refused.stderr
    llmdata(*changed, "--rerun")
    assert "nothing to do" in llmdata(*changed).stderr
    llmdata("inspect", workdir, "--verify")


def test_rerun_ends_with_the_same_bytes_as_a_fresh_run(
    recipe: Path, undisturbed: Path, tmp_path: Path, llmdata: Llmdata
) -> None:
    workdir = tmp_path / "run"
    llmdata("run", recipe, "--workdir", workdir, "--set", "clean.minhash.bands=2", "--set", "clean.task_bytes=15KB")
    llmdata("run", recipe, "--workdir", workdir, "--rerun")
    assert_same(workdir, undisturbed)


def test_sigterm_stops_with_75_and_the_run_goes_on(recipe: Path, undisturbed: Path, tmp_path: Path) -> None:
    start = command("run", recipe, "--workdir", tmp_path / "run", "--workers", "1")
    process = subprocess.Popen(start, env=environment(), stderr=subprocess.PIPE, text=True)
    tasks = tmp_path / "run/clean/.llmdata/tasks"
    while process.poll() is None and not (tasks.exists() and any(tasks.iterdir())):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 75, stderr
    assert "goes on" in stderr
    subprocess.run(start, env=environment(), check=True, timeout=PATIENCE)
    assert_same(tmp_path / "run", undisturbed)


def test_max_time_stops_with_75(recipe: Path, tmp_path: Path, llmdata: Llmdata) -> None:
    stopped = llmdata("run", recipe, "--workdir", tmp_path / "run", "--max-time", "1s", check=75)
    assert "--max-time" in stopped.stderr


def test_a_second_run_on_the_same_folder_is_refused(recipe: Path, tmp_path: Path, llmdata: Llmdata) -> None:
    workdir = tmp_path / "run"
    first = subprocess.Popen(command("run", recipe, "--workdir", workdir), env=environment(), stderr=subprocess.DEVNULL)
    try:
        lock = workdir / ".llmdata/lock"
        while first.poll() is None and not (lock.exists() and lock.stat().st_size):
            time.sleep(0.02)
        refused = llmdata("run", recipe, "--workdir", workdir, check=1)
        assert f"process {first.pid} on {os.uname().nodename}" in refused.stderr
        assert str(first.pid) in llmdata("status", workdir).stdout
    finally:
        first.kill()
        first.wait()
    # The dead process left its name in the lock; the next run is not held up by it.
    llmdata("run", recipe, "--workdir", workdir, "--until", "clean")


def test_a_full_disk_stops_with_75_and_says_what_is_needed(recipe: Path, tmp_path: Path, llmdata: Llmdata) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        stopped = llmdata("run", recipe, "--workdir", small / "run", check=75)
        assert "disk is full" in stopped.stderr
        assert "same command" in stopped.stderr
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_dry_run_tells_and_writes_nothing(recipe: Path, tmp_path: Path, llmdata: Llmdata) -> None:
    shown = llmdata("run", recipe, "--workdir", tmp_path / "run", "--dry-run")
    assert "url → extract → language" in shown.stdout
    assert not (tmp_path / "run").exists()
