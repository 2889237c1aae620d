"""A run on a Ray cluster: the bytes of a run on one machine, also when machines die in the middle of its stages."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from llmdata.audit.report import write_report
from llmdata.engine import pool
from llmdata.engine.cluster import connected
from llmdata.engine.session import Cluster, Session
from llmdata.engine.state import repeats
from llmdata.pipeline.clean import run_clean
from llmdata.pipeline.recipe import load_recipe
from llmdata.storage.place import Place
from tests.e2e import gate
from tests.e2e.conftest import Llmdata, data_files, environment, losses


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster as RayCluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100 << 20}
    cluster = RayCluster(initialize_head=True, head_node_args=head)
    add_node(cluster)
    add_node(cluster)
    yield cluster
    cluster.shutdown()


def add_node(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, memory=4 << 30, object_store_memory=100 << 20)


def raylet(node: Any) -> str:
    """Process id of the node's raylet, which its workers know."""
    return str(node.all_processes["raylet"][0].process.pid)


def test_a_run_on_a_cluster_makes_the_same_bytes(
    cluster: Any, recipe: Path, undisturbed: Path, tmp_path: Path, llmdata: Llmdata
) -> None:
    where = ("--executor", "ray", "--ray-address", cluster.address)
    llmdata("run", recipe, "--workdir", tmp_path / "run", *where)
    expected, found = data_files(undisturbed), data_files(tmp_path / "run")
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
    assert losses(tmp_path / "run") == losses(undisturbed)


@pytest.mark.chaos
@pytest.mark.parametrize("stage", ["clean 1/2", "minhash keys"])
def test_the_driver_is_killed_in_the_middle_and_started_again(
    stage: str, cluster: Any, recipe: Path, undisturbed: Path, tmp_path: Path, llmdata: Llmdata
) -> None:
    run = tmp_path / "run"
    arguments = ["run", recipe, "--workdir", run, "--until", "clean", "--executor", "ray"]
    arguments += ["--ray-address", cluster.address]
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.driver", str(tmp_path), stage, *map(str, arguments)],
        env=environment(PYTHONPATH=path),
        cwd=root,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "held").exists():
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.01)
    driver.kill()
    driver.communicate()
    finished = {path.name for path in run.rglob(".llmdata/tasks/*.json")}

    done = llmdata(*arguments)

    assert "were done before" in done.stderr or stage != "clean 1/2"
    assert finished
    expected, found = data_files(undisturbed / "clean"), data_files(run / "clean")
    assert [name for name in expected if found.get(name) != expected[name]] == []
    llmdata("inspect", run / "clean", "--verify")


def test_a_machine_dies_in_extraction_in_the_shuffle_and_in_clustering(
    cluster: Any, recipe: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One task of each list waits, before or after its work, until its machine is dead and its loss is noted."""
    killed: list[str] = []
    real = pool.run_tasks

    def disturbed(tasks: Any, function: Callable[[Any], Any], session: Session, **options: Any) -> list[Any]:
        folder = tmp_path / f"gate-{len(killed)}"
        folder.mkdir()
        killed.append(options["stage"])
        node = add_node(cluster)
        state = options.get("state")
        known = len(repeats(state)) if state else 0
        held = partial(gate.pass_through, str(folder), raylet(node), len(killed) % 2 == 0, function)

        def kill() -> None:
            while not (folder / "held").exists():
                time.sleep(0.01)
            cluster.remove_node(node, allow_graceful=False)
            while state is not None and len(repeats(state)) == known:
                time.sleep(0.01)
            (folder / "open").touch()

        thread = threading.Thread(target=kill)
        thread.start()
        results = real(tasks, held, session, **options)
        thread.join()
        return results

    for module in ("llmdata.pipeline.clean", "llmdata.dedup.steps"):
        monkeypatch.setattr(f"{module}.run_tasks", disturbed)
    out = tmp_path / "run/clean"
    with connected(cluster.address):
        run_clean(Place.of(out), load_recipe(str(recipe), []).clean, Session(cluster=Cluster(cluster.address)))
    expected, found = data_files(undisturbed / "clean"), data_files(out)
    assert [name for name in expected if found.get(name) != expected[name]] == []
    assert killed == ["clean 1/2", "minhash keys", "clean 2/2"]
    again = [*repeats(Place.of(out)), *repeats(Place.of(out / "dedup/minhash"))]
    assert {(repeat["stage"], repeat["why"]) for repeat in again} == {
        (stage, "its machine or actor died") for stage in killed
    }
    (tmp_path / "run/recipe.yaml").write_bytes(recipe.read_bytes())
    page = write_report(Place.of(tmp_path / "run")).read_bytes().decode()
    assert "<h2>Run again</h2>" in page
    assert all(repeat["task"] in page for repeat in again)
