"""Several ranks compute what one does, go on from each other's checkpoints, and end together when one of them dies."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmdata.engine.session import Session
from llmdata.errors import ConfigError, StoppedEarly
from llmdata.storage.place import Place
from llmdata.train import TrainConfig, train
from llmdata.train.checkpoint import read_tensors
from llmdata.train.config import PRESETS
from llmdata.train.metrics import read_lines, without_times
from llmdata.train.parallel import Ranks
from tests.train.corpus import tiny
from tests.train.test_resume import records, stopping, weights

LLAMA = {"norm": "rmsnorm", "position": "rope", "activation": "swiglu", "tied": False, "kv_heads": 1}
GPT = {"bias": True, "activation": "gelu_tanh"}
SHORT: dict[str, Any] = {"loop": {"steps": 12}, "eval_tokens": None, "eval_every": 6, "sample_every": 6}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddp": ("ddp", {"model": GPT}),
    "ddp, muon, uneven shares, several passes": (
        "ddp", {"optim": {"name": "muon"}, "data": {"batch_tokens": 288, "micro_batch": 2}}
    ),
    "ddp, documents masked, threads": ("ddp", {"data": {"mask_documents": True}, "threads": 2}),
    "ddp, a baseline": ("ddp", {"model": {"kind": "mlp", "window": 4, "embedding": 8, "hidden": 16, "context": 32}}),
    "fsdp": ("fsdp", {"model": GPT}),
    "fsdp, muon, several passes": ("fsdp", {"model": LLAMA, "optim": {"name": "muon"}, "data": {"micro_batch": 1}}),
    "fsdp, recomputed": ("fsdp", {"model": LLAMA, "recompute": True}),
}  # fmt: skip
TURNS = {"ddp → one": ("ddp", "one"), "one → fsdp": ("one", "fsdp"), "fsdp → ddp": ("fsdp", "ddp")}
LOOKS = {"ddp": (0, 9), "fsdp": (0, 20)}
"""Looks for a wish to stop while validation or, where ranks sample together, a sample is made."""
CHANGED = {"model": LLAMA, "optim": {"name": "muon"}, **SHORT}
PATIENCE = 1800
"""Seconds after which a run hangs: a busy machine may need minutes to start one, a run that fails ends by itself."""
KILLED = {"loop": {"steps": 240}, "checkpoint_every": 40, "eval_every": 80, "sample_every": 80, "model": LLAMA}


def changed(**settings: Any) -> TrainConfig:
    """A tiny model by `settings`; the tiny decoder's shape does not belong to another kind of model."""
    model = settings.get("model", {})
    if "kind" not in model:
        return tiny(**settings)
    rest = {key: value for key, value in settings.items() if key != "model"}
    return TrainConfig.model_validate(tiny(**rest).model_dump() | {"model": model})


def torchrun(count: int, *arguments: object) -> list[str]:
    # Longer than torchrun's 30 s before it kills what it told to stop: a busy machine may need them.
    order = ["torch.distributed.run", "--shutdown-timeout", str(PATIENCE), "--nproc-per-node", str(count)]
    return [sys.executable, "-m", *order, *map(str, arguments)]


Runs = list[tuple[Place, TrainConfig, dict[str, int] | None]]


def together(count: int, tokens: Place, folder: Path, runs: Runs) -> None:
    """Do `runs`, each to its end or to where it is to stop (`stopping`), by `count` ranks."""
    plan = folder / "runs.json"
    plan.write_text(json.dumps([[out.path, config.model_dump(mode="json"), stop] for out, config, stop in runs]))
    done = subprocess.run(
        torchrun(count, "-m", "tests.train.ranks", tokens.path, plan), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def stopped(tokens: Place, out: Place, config: TrainConfig, step: int) -> None:
    with pytest.raises(StoppedEarly):
        train(tokens, out, config, stopping(step=step))


def same_but_for_rounding(one: Place, other: Place) -> None:
    """The same lines and samples, losses to 1e-5, and checkpoints of the same form."""
    for name in ("metrics.jsonl", "samples.jsonl"):
        lines = ([without_times(line) for line in read_lines(place / name)] for place in (one, other))
        for expected, found in zip(*lines, strict=True):
            exact, rounded = (
                {k: v for k, v in expected.items() if isinstance(v, float) is kind} for kind in (False, True)
            )
            assert {key: found[key] for key in exact} == exact
            assert {key: found[key] for key in rounded} == pytest.approx(rounded, rel=1e-5), expected["step"]
    folders = [(place / "checkpoints").children("step-*")[-1] for place in (one, other)]
    for file in ("model", "optimizer"):
        expected, found = (read_tensors(folder / f"{file}.safetensors") for folder in folders)
        assert {name: tensor.shape for name, tensor in found.items()} == {
            name: tensor.shape for name, tensor in expected.items()
        }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokens: Place) -> Path:
    """All runs of two ranks: to the end, by turns with one process, and one that nothing happens to."""
    folder = tmp_path_factory.mktemp("ranks")
    runs: Runs = []
    for name, (kind, settings) in RUNS.items():
        runs.append((Place.of(folder / name), changed(**(SHORT | settings), parallel=kind), None))
    for name, (first, second) in TURNS.items():
        out = Place.of(folder / name)
        if first == "one":
            stopped(tokens, out, tiny(**CHANGED), 6)
        else:
            runs.append((out, tiny(**CHANGED, parallel=first), {"step": 6}))
        if second != "one":
            runs.append((out, tiny(**CHANGED, parallel=second), None))
    for kind, looks in LOOKS.items():
        out = Place.of(folder / f"{kind}, stopped while measured")
        runs += [(out, tiny(**CHANGED, parallel=kind), {"look": look}) for look in looks]
        runs.append((out, tiny(**CHANGED, parallel=kind), None))
    runs.append((Place.of(folder / "undisturbed"), tiny(**KILLED), None))
    together(2, tokens, folder, runs)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_compute_what_one_does(tokens: Place, folder: Path, tmp_path: Path, name: str) -> None:
    out = Place.of(tmp_path / "one")
    train(tokens, out, changed(**(SHORT | RUNS[name][1])), Session())
    same_but_for_rounding(out, Place.of(folder / name))


@pytest.fixture(scope="module")
def alone(tokens: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    out = Place.of(tmp_path_factory.mktemp("alone") / "model")
    train(tokens, out, tiny(**CHANGED), Session())
    return out


@pytest.mark.parametrize("name", TURNS)
def test_another_number_of_ranks_goes_on(tokens: Place, folder: Path, alone: Place, name: str) -> None:
    out = Place.of(folder / name)
    if TURNS[name][1] == "one":
        assert list(read_lines(out / "metrics.jsonl"))[-1]["step"] == 6, "all ranks stop where one is told to"
        train(tokens, out, tiny(**CHANGED), Session())
    same_but_for_rounding(alone, out)


@pytest.mark.parametrize("kind", LOOKS)
def test_ranks_stop_together_while_a_step_is_measured(folder: Path, alone: Place, kind: str) -> None:
    same_but_for_rounding(alone, Place.of(folder / f"{kind}, stopped while measured"))


def until(out: Place, step: int, job: subprocess.Popen[str], before: int = 0) -> None:
    """Wait until the run in `out` has told of `step`, and has told anything since `before`."""
    deadline = time.monotonic() + PATIENCE
    while (
        changed_at(out) == before
        or max((line["step"] for line in read_lines(out / "metrics.jsonl")), default=-1) < step
    ):
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def changed_at(out: Place) -> int:
    """When the record was last written to."""
    path = Path((out / "metrics.jsonl").path)
    return path.stat().st_mtime_ns if path.exists() else 0


def test_sigterm_and_a_killed_rank_change_nothing(tokens: Place, folder: Path, tmp_path: Path) -> None:
    undisturbed, out = Place.of(folder / "undisturbed"), Place.of(tmp_path / "model")
    settings = tmp_path / "settings.yaml"
    settings.write_text(tiny(**KILLED).model_dump_json())
    command = torchrun(2, "-m", "llmdata", "train", tokens.path, "-o", out.path, "--model", settings)

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    job = begin()
    until(out, 16, job)
    job.send_signal(signal.SIGTERM)
    told = job.communicate(timeout=PATIENCE)[1]
    assert job.returncode == 1, "of torchrun"
    assert told.count("Stopped by SIGTERM. The same command goes on") == 1
    saved = (out / "checkpoints").children("step-*")[-1]
    assert (saved / "state.json").read_json()["ranks"] == 2

    before = changed_at(out)
    job = begin()
    until(out, 80, job, before)
    victim = next(process for process in psutil.Process(job.pid).children() if process.environ().get("RANK") == "1")
    victim.kill()
    told = job.communicate(timeout=PATIENCE)[1]
    assert job.returncode == 1
    assert told.count("llmdata: rank 1 (process") == 1
    assert "The same command goes on from the last checkpoint" in told

    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation loss") == 1
    assert records(out) == records(undisturbed)
    for file in ("model", "optimizer"):
        assert weights(out, file) == weights(undisturbed, file)


@pytest.mark.chaos
@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_more_ranks_compute_what_one_does(tokens: Place, tmp_path: Path, count: int, kind: str) -> None:
    settings = {**CHANGED, "data": {"batch_tokens": 32 * 12}}
    one, several = Place.of(tmp_path / "one"), Place.of(tmp_path / "several")
    train(tokens, one, tiny(**settings), Session())
    together(count, tokens, tmp_path, [(several, tiny(**settings, parallel=kind), None)])
    same_but_for_rounding(one, several)


@pytest.mark.chaos
def test_two_machines(tokens: Place, tmp_path: Path) -> None:
    """A `torchrun` for each, as on two machines; the second one is killed with all it started."""
    config = tiny(**KILLED)
    undisturbed, out = Place.of(tmp_path / "undisturbed"), Place.of(tmp_path / "model")
    together(2, tokens, tmp_path, [(undisturbed, config, None)])
    settings = tmp_path / "settings.yaml"
    settings.write_text(config.model_dump_json())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def begin(machine: int) -> subprocess.Popen[str]:
        where = ["--nnodes", "2", "--node-rank", machine, "--master-addr", "127.0.0.1", "--master-port", port]
        # What the second is told to write to is on no disk that the first one sees.
        model = out.path if machine == 0 else tmp_path / "elsewhere"
        command = torchrun(1, *where, "-m", "llmdata", "train", tokens.path, "-o", model, "--model", settings)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    first, second = begin(0), begin(1)
    until(out, 96, first)
    for process in (*psutil.Process(second.pid).children(), second):
        process.kill()
    second.communicate()
    assert "rank 1 (process" in first.communicate(timeout=PATIENCE)[1]
    assert first.returncode == 1
    first, second = begin(0), begin(1)
    assert [job.communicate() and job.returncode for job in (first, second)] == [0, 0]
    assert records(out) == records(undisturbed)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_ranks_killed_again_and_again(tokens: Place, tmp_path: Path, kind: str) -> None:
    """Either rank, at several times: what is left says so and ends, and the run ends the same."""
    config = tiny(**KILLED, parallel=kind)
    undisturbed, out = Place.of(tmp_path / "undisturbed"), Place.of(tmp_path / "model")
    together(2, tokens, tmp_path, [(undisturbed, config, None)])
    settings = tmp_path / "settings.yaml"
    settings.write_text(config.model_dump_json())
    command = torchrun(2, "-m", "llmdata", "train", tokens.path, "-o", out.path, "--model", settings)
    for number, step in enumerate((0, 16, 90, 96, 150, 200)):
        before = changed_at(out)
        job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until(out, step, job, before)
        rank = str(number % 2)
        next(child for child in psutil.Process(job.pid).children() if child.environ().get("RANK") == rank).kill()
        told = job.communicate(timeout=PATIENCE)[1]
        assert job.returncode == 1
        assert told.count(f"llmdata: rank {rank} (process") == 1, told
    subprocess.run(command, capture_output=True, check=True)
    assert records(out) == records(undisturbed)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"data": {"batch_tokens": 32}}, "a batch of 1 sequences"),
        ({"parallel": "fsdp", "data": {"batch_tokens": 96}}, "does not divide among 2 ranks"),
        ({"model": {"kind": "mlp", "context": 32}, "parallel": "fsdp"}, "is for decoders"),
    ],
)
def test_what_ranks_cannot_share_is_refused(settings: dict[str, Any], why: str, tokens: Place, out: Place) -> None:
    from llmdata.storage.token_index import load_index
    from llmdata.train.loop import Trainer

    with pytest.raises(ConfigError, match=why):
        Trainer(tokens, load_index(tokens), out, changed(**settings), Session(), 1, Ranks(0, 2, 0, 2))
    assert not out.exists()


def test_torn_environment_is_told() -> None:
    assert Ranks.of({}) == Ranks.of({"WORLD_SIZE": "1"}) == Ranks()
    with pytest.raises(ConfigError, match="LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT is not set"):
        Ranks.of({"WORLD_SIZE": "2", "RANK": "0"})


def test_shares_cover_all_and_differ_by_one_at_most() -> None:
    for size in (1, 2, 3, 8):
        parts = [range(11)[Ranks(rank, size).share(11)] for rank in range(size)]
        assert [number for part in parts for number in part] == list(range(11))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_sharded_where_one_gpu_cannot_hold_it() -> None:
    """By the plan's 16 bytes a parameter: GPT-2 fits anywhere, 8 billion parameters nowhere but on several."""
    from llmdata.train.sharded import sharded_micro_batch, wants_sharding

    class Many(Ranks):
        def most(self, number: int) -> int:
            return number

    eight = Many(0, 8, 0, 8)
    small, large = (TrainConfig.model_validate({"model": name}) for name in ("gpt2-124m", "llama-3-8b"))
    assert PRESETS["llama-3-8b"].model.context == 8192
    assert not wants_sharding(small, 50_257, 24e9, eight)
    assert wants_sharding(large, 128_256, 80e9, eight)
    assert not wants_sharding(large, 128_256, 80e9, Ranks()), "one process has nobody to share with"
    assert not wants_sharding(large.model_copy(update={"parallel": "ddp"}), 128_256, 80e9, eight)
    assert sharded_micro_batch(large.model_copy(update={"recompute": True}), 128_256, 80e9, eight) >= 1
