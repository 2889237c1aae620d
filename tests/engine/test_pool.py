"""The pool: every task gets done, and an item that kills its worker costs that one item."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from llmdata.engine import pool
from llmdata.engine.forks import start_fork_server
from llmdata.engine.guard import IDLE
from llmdata.engine.pool import Limits, Task, run_tasks
from llmdata.engine.session import Session
from llmdata.errors import InputError, LlmdataError, StoppedEarly
from llmdata.storage.place import Place
from tests.engine import tasks as functions

LIMITS = Limits(cpu_seconds=1.0, memory=400_000_000)


def test_results_come_in_the_order_of_the_tasks() -> None:
    tasks = [Task(f"t{n}", {"items": ["ok"] * (20 - n), "name": n}) for n in range(20)]
    results = run_tasks(tasks, functions.walk, Session(workers=3), stage="walk")
    assert [result["name"] for result in results] == list(range(20))


@pytest.mark.parametrize(
    ("kind", "reason", "limits"),
    [
        ("segfault", "crashed", LIMITS),
        ("exit", "crashed", LIMITS),
        ("loop", "timeout", LIMITS),
        ("allocate", "memory", Limits(cpu_seconds=60, memory=400_000_000)),
    ],
)
def test_a_bad_item_costs_itself_and_nothing_else(kind: str, reason: str, limits: Limits) -> None:
    tasks = [Task("bad", {"items": ["ok", kind, "ok"]}), Task("good", {"items": ["ok"]})]
    bad, good = run_tasks(tasks, functions.walk, Session(workers=2), stage="walk", limits=limits)
    assert bad["lost"] == {1: reason}
    assert good["lost"] == {}


def test_several_bad_items_in_one_task() -> None:
    items = ["segfault", "ok", "loop", "segfault", "ok"]
    (result,) = run_tasks([Task("t", {"items": items})], functions.walk, Session(), stage="walk", limits=LIMITS)
    assert result["lost"] == {0: "crashed", 2: "timeout", 3: "crashed"}


def test_a_worker_killed_once_from_outside_costs_nothing(tmp_path: Path) -> None:
    items = ["ok", f"once:{tmp_path / 'marker'}", "ok"]
    (result,) = run_tasks([Task("t", {"items": items})], functions.walk, Session(), stage="walk")
    assert result["lost"] == {}


def test_a_worker_killed_while_it_has_nothing_to_do_costs_nothing(tmp_path: Path) -> None:
    files = {"left": str(tmp_path / "left"), "marker": str(tmp_path / "marker")}
    tasks = [Task(name, {"name": name, **files}) for name in ("first", "second")]
    assert run_tasks(tasks, functions.outlive, Session(workers=2), stage="walk") == ["first", "second"]


def test_the_fork_server_killed_from_outside_costs_nothing(tmp_path: Path) -> None:
    tasks = [Task(f"t{n}", str(tmp_path / "marker")) for n in range(4)]
    assert run_tasks(tasks, functions.kill_the_fork_server, Session(workers=2), stage="walk") == ["done"] * 4


def test_a_fork_server_that_dies_while_a_worker_is_asked_of_it_is_started_again(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "deadly_import.py").write_text(
        f"import os, pathlib\nmarker = pathlib.Path({str(marker)!r})\n"
        "if not marker.exists():\n    marker.touch()\n    os.kill(os.getpid(), 9)\n"
    )
    (tmp_path / "main.py").write_text(
        "from llmdata.engine.pool import Task, run_tasks\nfrom llmdata.engine.session import Session\n"
        "from tests.engine import tasks\nif __name__ == '__main__':\n    work = [Task('t', {'items': ['ok']})]\n"
        "    print(run_tasks(work, tasks.walk, Session(), stage='walk', preload=['deadly_import'])[0]['lost'])\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, str(tmp_path / "main.py")],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{}\n", "")
    assert marker.exists()


def test_a_worker_killed_before_its_first_task_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = ForkServerProcess.start, []

    def start_and_kill_the_first(process: ForkServerProcess) -> None:
        start(process)
        started.append(process.pid)
        if len(started) == 1:
            process.kill()
            process.join()

    monkeypatch.setattr(ForkServerProcess, "start", start_and_kill_the_first)
    (result,) = run_tasks([Task("t", {"items": ["ok"]})], functions.walk, Session(), stage="walk")
    assert result["lost"] == {}
    assert len(started) == 2


def test_an_item_hangs_if_it_is_seen_to_hang_not_if_all_were_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    start_fork_server([])
    worker = pool._new_worker(multiprocessing.get_context("forkserver"), functions.walk)
    worker.give(pool._Job(0, Task("t", {"items": ["hang"]})))
    while worker.slot.item == IDLE:
        pass
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    now += 10_000  # Ctrl-Z, and `fg` after lunch
    assert worker.verdict(LIMITS) is None
    for _ in range(int(pool.STALL) + 1):
        now += 1
        last = worker.verdict(LIMITS)
    assert last == "timeout"
    worker.kill()


def test_an_error_of_ours_arrives_as_it_was_raised() -> None:
    with pytest.raises(InputError, match="cannot read there"):
        run_tasks([Task("t", "there")], functions.fail, Session(), stage="fail")


def test_a_defect_is_named() -> None:
    with pytest.raises(LlmdataError, match="KeyError"):
        run_tasks([Task("t", None)], functions.bug, Session(), stage="bug")


def test_a_worker_that_dies_outside_any_item_fails_its_task_after_three_attempts() -> None:
    with pytest.raises(LlmdataError, match=r"task t killed its worker 3 times \(exit code 7\)"):
        run_tasks([Task("t", None)], functions.die, Session(), stage="die")


@pytest.mark.parametrize("wish", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda wish: wish.name)
def test_who_is_asked_to_stop_ends_at_a_task_boundary(wish: signal.Signals, tmp_path: Path) -> None:
    session = Session(workers=1)
    payload = {"supervisor": os.getpid(), "signal": wish, "log": str(tmp_path / "log")}
    tasks = [Task(f"t{n}", payload) for n in range(100)]
    message = "Interrupted" if wish == signal.SIGINT else f"Stopped by {wish.name}"
    before = signal.signal(wish, signal.default_int_handler)  # whatever the tests were started with, nohup say
    try:
        with session.stop.on_signals(), pytest.raises(StoppedEarly, match=message):
            run_tasks(tasks, functions.stop_all, session, stage="stop")
    finally:
        signal.signal(wish, before)
    assert (tmp_path / "log").read_text() == "ended\n"


def test_a_worker_that_nobody_has_in_a_list_does_not_keep_the_command_from_ending() -> None:
    """As when a second Ctrl-C comes while it is started."""
    forgotten = (
        "import multiprocessing\nfrom llmdata.engine.pool import _new_worker\nfrom tests.engine.tasks import walk\n"
        "if __name__ == '__main__': _new_worker(multiprocessing.get_context('forkserver'), walk)"
    )
    subprocess.run([sys.executable, "-c", forgotten], cwd=Path(__file__).parents[2], check=True, timeout=60)


def test_under_nohup_a_closed_terminal_stops_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        session = Session()
        with session.stop.on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            session.stop.check()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_state_file_tells_how_far_the_run_is(tmp_path: Path) -> None:
    tasks = [Task(f"t{n}", {"items": []}) for n in range(3)]
    run_tasks(tasks, functions.walk, Session(), stage="walk", state=Place.of(tmp_path))
    state = json.loads((tmp_path / ".llmdata/state.json").read_text())
    assert (state["tasks"], state["done"], state["running"], state["failed"]) == (3, 3, [], {})


def test_a_failed_task_stands_in_the_state_file(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        run_tasks([Task("t7", "x")], functions.fail, Session(), stage="fail", state=Place.of(tmp_path))
    state = json.loads((tmp_path / ".llmdata/state.json").read_text())
    assert state["done"] == 0
    assert "cannot read x" in state["failed"]["t7"]


def test_ctrl_c_while_the_fork_server_imports_ends_without_a_traceback(tmp_path: Path) -> None:
    began, go = tmp_path / "began", tmp_path / "go"
    (tmp_path / "slow_import.py").write_text(
        f"import pathlib\npathlib.Path({str(began)!r}).touch()\nwhile not pathlib.Path({str(go)!r}).exists(): pass\n"
    )
    (tmp_path / "main.py").write_text(
        "from llmdata.cli.common import command\nfrom llmdata.engine.pool import Task, run_tasks\n"
        "from tests.engine import tasks\nif __name__ == '__main__':\n    with command() as (session, console):\n"
        "        work = [Task('t', {'items': []})]\n"
        "        run_tasks(work, tasks.walk, session, stage='walk', preload=['slow_import'])\n"
        "        session.stop.check()\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    script = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py")],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not began.exists():
        assert script.poll() is None
    os.killpg(script.pid, signal.SIGINT)
    go.touch()
    _, stderr = script.communicate(timeout=60)
    assert "Interrupted." in stderr
    assert "KeyboardInterrupt" not in stderr


def test_what_comes_next_is_prepared_once_while_workers_work(tmp_path: Path) -> None:
    seen: list[list[str]] = []
    tasks = [Task(f"t{number}", {"items": ["ok"]}) for number in range(3)]

    def meanwhile() -> None:
        seen.append([process.name for process in multiprocessing.active_children()])

    session = Session(workers=2, meanwhile=meanwhile)
    run_tasks(tasks, functions.walk, session, stage="walk")
    run_tasks(tasks, functions.walk, session, stage="again")
    assert len(seen) == 1
    assert len(seen[0]) == 2
