"""The whole road with its folder on S3: the same bytes as on a disk, whatever the store and the kills do."""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("s3fs")
pytest.importorskip("moto")

from tests.e2e.conftest import RECIPE, Llmdata, command, data_files, environment, losses
from tests.storage.s3 import S3, SECRET, s3_server


@pytest.fixture
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


def fetch(s3: S3, prefix: str, folder: Path) -> Path:
    """What lies under `prefix`, as files in `folder`."""
    for key, value in s3.objects().items():
        if key.startswith(f"{prefix}/"):
            path = folder / key.removeprefix(f"{prefix}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(value)
    return folder


@pytest.mark.parametrize(
    ("kills", "faults"),
    [(1, 0.003), pytest.param(8, 0.03, marks=[pytest.mark.chaos, pytest.mark.timeout(1800)])],
)
def test_a_run_on_a_failing_store_that_is_killed_makes_the_same_bytes(
    s3: S3, recipe: Path, undisturbed: Path, tmp_path: Path, llmdata: Llmdata, kills: int, faults: float
) -> None:
    rng = random.Random(3)
    start = command("run", recipe, "--workdir", "s3://corpus/run", "--workers", "2")
    env = environment(**s3.environment(), LLMDATA_CACHE=str(tmp_path / "cache"))
    s3.faults = faults
    for _ in range(kills):
        process = subprocess.Popen(
            start, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=rng.uniform(3, 8))
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(start, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert sum(s3.seen[kind] for kind in s3.kinds) > 3
    s3.faults = 0

    run = fetch(s3, "run", tmp_path / "run")
    expected, found = data_files(undisturbed), data_files(run)
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
    assert losses(run) == losses(undisturbed)
    assert s3.uploads() == []
    assert not any(SECRET.encode() in value for value in s3.objects().values())
    assert SECRET not in done.stdout + done.stderr
    llmdata("inspect", "s3://corpus/run", "--verify", **s3.environment())
    again = llmdata("run", recipe, "--workdir", "s3://corpus/run", **s3.environment())
    assert "nothing to do" in again.stderr


def test_inputs_on_a_store_are_read_like_files(s3: S3, warcs: Path, tmp_path: Path, llmdata: Llmdata) -> None:
    from moto.s3.models import s3_backends

    bucket = s3_backends["123456789012"]["aws"]
    for path in sorted(warcs.iterdir()):
        bucket.put_object("corpus", f"warcs/{path.name}", path.read_bytes())
    (tmp_path / "tiny.yaml").write_text(RECIPE.format(warcs="s3://corpus/warcs"))
    llmdata("run", "tiny.yaml", "--workdir", "run", "--until", "clean", **s3.environment())
    (tmp_path / "local.yaml").write_text(RECIPE.format(warcs=warcs))
    llmdata("run", "local.yaml", "--workdir", "local", "--until", "clean")
    funnels = [(tmp_path / run / "clean/funnel.json").read_bytes() for run in ("run", "local")]
    assert funnels[0] == funnels[1]
    record = "SELECT file_path FROM docs LIMIT 1"
    assert "s3://corpus/warcs/pages-" in llmdata("inspect", tmp_path / "run/clean/final", "--sql", record).stdout
