"""The lock on a folder: one run at a time; the dead hold nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llmdata.errors import BusyError
from llmdata.storage.lock import holder, locked
from llmdata.storage.place import Place

_HOLD = """
import sys
from llmdata.storage.lock import locked
from llmdata.storage.place import Place
with locked(Place.of(sys.argv[1]), "llmdata run demo"):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_run_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    folder = Place.of(tmp_path)
    process = hold(tmp_path)
    try:
        found = holder(folder)
        assert found is not None
        assert (found.pid, found.command) == (process.pid, "llmdata run demo")
        with (
            pytest.raises(BusyError, match=rf"process {process.pid} on .* \(llmdata run demo\)"),
            locked(folder, "another"),
        ):
            pass
    finally:
        process.communicate("")
    assert holder(folder) is None


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    process = hold(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert holder(Place.of(tmp_path)) is None
    with locked(Place.of(tmp_path), "next"):
        pass


def test_the_lock_ends_with_its_block_even_on_errors(tmp_path: Path) -> None:
    folder = Place.of(tmp_path)
    with pytest.raises(RuntimeError), locked(folder, "one"):
        raise RuntimeError
    with locked(folder, "two"):
        pass


def test_a_folder_never_locked_has_no_holder(tmp_path: Path) -> None:
    assert holder(Place.of(tmp_path / "nowhere")) is None
    with locked(Place.of("memory://bucket/folder"), "object stores are not locked"):
        assert holder(Place.of("memory://bucket/folder")) is None


def test_what_a_dead_holder_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".llmdata").mkdir()
    for name in ("a.parquet.77.partial", ".llmdata/stage.json.77.partial", "a.parquet"):
        (tmp_path / name).touch()
    with locked(Place.of(tmp_path), "test"):
        assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.parquet", "lock"]


def test_a_disk_that_turned_read_only_keeps_its_own_error(tmp_path: Path) -> None:
    new = tmp_path / "new"

    def mount(*arguments: str) -> None:
        if subprocess.run(["mount", *arguments, str(new)], capture_output=True, check=False).returncode:
            pytest.skip("mounting is not allowed here")

    def work() -> None:
        with locked(Place.of(new), "llmdata run demo"):
            mount("--bind", str(new))
            mount("-o", "remount,bind,ro")
            (new / "shard-0").write_bytes(b"")

    try:
        with pytest.raises(OSError, match="shard-0"):
            work()
    finally:
        subprocess.run(["umount", "-l", str(new)], capture_output=True, check=False)
