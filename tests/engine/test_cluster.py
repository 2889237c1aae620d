"""The cluster engine, on a Ray cluster of several nodes: what the pool promises, and the loss of whole machines."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from llmdata.engine.cluster import connected
from llmdata.engine.pool import Limits, Needs, Task, run_tasks
from llmdata.engine.session import Cluster, Session
from llmdata.engine.state import repeats
from llmdata.errors import InputError, LlmdataError
from llmdata.storage.place import Place
from tests.engine import tasks as functions

NEEDS = Needs(cpus=1, memory=100_000_000)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster as RayCluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100 << 20}
    cluster = RayCluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        add_node(cluster)
    with connected(cluster.address):
        yield cluster
    cluster.shutdown()


def add_node(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, memory=1 << 30, object_store_memory=100 << 20)


@pytest.fixture
def session(cluster: Any) -> Session:
    return Session(cluster=Cluster(cluster.address))


def test_results_come_in_the_order_of_the_tasks(session: Session) -> None:
    tasks = [Task(f"t{n}", {"items": ["ok"] * (20 - n), "name": n}) for n in range(20)]
    results = run_tasks(tasks, functions.walk, session, stage="walk", needs=NEEDS)
    assert [result["name"] for result in results] == list(range(20))


def test_bad_items_cost_themselves_and_nothing_else(session: Session, tmp_path: Path) -> None:
    # Hundreds of megabytes may take a busy machine seconds: an item that eats them has a limit of its own.
    for kinds, lost, cpu_seconds in (
        (["ok", "segfault", "ok", "loop"], {1: "crashed", 3: "timeout"}, 1.0),
        (["ok", "allocate"], {1: "memory"}, 60.0),
    ):
        tasks = [Task("bad", {"items": kinds}), Task("good", {"items": ["ok"]})]
        limits = Limits(cpu_seconds, memory=400_000_000)
        state = Place.of(tmp_path / str(cpu_seconds))
        bad, good = run_tasks(tasks, functions.walk, session, stage="walk", limits=limits, needs=NEEDS, state=state)
        assert bad["lost"] == lost
        assert good["lost"] == {}
        assert {repeat["task"] for repeat in repeats(state)} == {"bad"}


def test_a_task_whose_machine_dies_runs_on_another_and_is_noted(cluster: Any, session: Session, tmp_path: Path) -> None:
    node = add_node(cluster)
    tasks = [
        Task(f"t{n}", {"began": str(tmp_path / f"began-{n}"), "go": str(tmp_path / "go"), "name": n}) for n in range(6)
    ]

    def lose_a_node() -> None:
        while len(list(tmp_path.glob("began-*"))) < 3:
            time.sleep(0.01)
        cluster.remove_node(node, allow_graceful=False)
        while not repeats(Place.of(tmp_path)):
            time.sleep(0.01)
        (tmp_path / "go").touch()

    thread = threading.Thread(target=lose_a_node)
    thread.start()
    results = run_tasks(tasks, functions.wait_for_go, session, stage="wait", needs=NEEDS, state=Place.of(tmp_path))
    thread.join()
    assert results == list(range(6))
    (again,) = repeats(Place.of(tmp_path))
    assert (again["stage"], again["why"]) == ("wait", "its machine or actor died")


def test_errors_arrive_as_they_were_raised(session: Session) -> None:
    with pytest.raises(InputError, match="cannot read there"):
        run_tasks([Task("t", "there")], functions.fail, session, stage="fail", needs=NEEDS)
    with pytest.raises(LlmdataError, match="KeyError"):
        run_tasks([Task("t", None)], functions.bug, session, stage="bug", needs=NEEDS)


def test_what_no_machine_can_hold_is_an_error(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmdata.engine.cluster.PATIENCE", 0.0)
    with pytest.raises(LlmdataError, match=r"no machine of the cluster has 1 CPUs and 9\.0 GB"):
        run_tasks([Task("t", {"items": []})], functions.walk, session, stage="walk", needs=Needs(1, 9_000_000_000))
