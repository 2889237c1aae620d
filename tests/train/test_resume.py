"""A run that is stopped or killed and started again ends as one that was not."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmdata.engine.session import Session, Silent, Stop
from llmdata.errors import ChangedError, InputError, LlmdataError, StoppedEarly
from llmdata.storage.place import Place
from llmdata.train import TrainConfig, train
from llmdata.train.checkpoint import read_state
from llmdata.train.metrics import read_lines, without_times
from tests.train.corpus import SENTENCES, tiny, write_tokens


def records(out: Place) -> list[dict[str, Any]]:
    return [without_times(line) for name in ("metrics.jsonl", "samples.jsonl") for line in read_lines(out / name)]


def weights(out: Place, name: str = "model") -> bytes:
    folders = (out / "checkpoints").children("step-*")
    return (folders[-1] / f"{name}.safetensors").read_bytes()


class At(Silent):
    """Calls `do` when so many steps are done."""

    def __init__(self, step: int, do: Any) -> None:
        self.left, self.do = step, do

    def advance(self, stage: str, count: int, **facts: float | int | str) -> None:
        self.left -= count
        if self.left <= 0:
            self.do()


class AtLook(Stop):
    """A wish to stop that is there at one of the looks for one, and from then on."""

    def __init__(self, look: int) -> None:
        super().__init__()
        self.left = look

    @property
    def wanted(self) -> bool:
        self.left -= 1
        if self.left < 0:
            self.signal = signal.SIGTERM
        return super().wanted


def stopping(*, step: int | None = None, look: int | None = None) -> Session:
    """A session that is asked to stop when so many steps are done, or at one of the looks for such a wish."""
    session = Session(stop=Stop() if look is None else AtLook(look))
    if step is not None:
        session.progress = At(step, lambda: setattr(session.stop, "signal", signal.SIGTERM))
    return session


def assert_same(out: Place, undisturbed: Place) -> None:
    assert records(out) == records(undisturbed)
    kept, whole = ([place.name for place in (of / "checkpoints").children()] for of in (out, undisturbed))
    assert kept == whole
    for file in ("model", "optimizer"):
        assert weights(out, file) == weights(undisturbed, file)


CONFIG = {"model": {"dropout": 0.1}, "loop": {"steps": 60}, "eval_every": 7, "checkpoint_every": 11}


@pytest.fixture(scope="module")
def undisturbed(tokens: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    out = Place.of(tmp_path_factory.mktemp("undisturbed"))
    train(tokens, out, tiny(**CONFIG), Session())
    return out


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_sigkill_changes_nothing(tokens: Place, tmp_path: Path, undisturbed: Place, optimizer: str) -> None:
    config = tiny(**CONFIG, optim={"name": optimizer})
    if optimizer == "muon":
        undisturbed = Place.of(tmp_path / "undisturbed")
        train(tokens, undisturbed, config, Session())
    out = Place.of(tmp_path / "model")
    for step in (5, 30, 50):
        pid = os.fork()
        if pid == 0:
            train(tokens, out, config, Session(progress=At(step, lambda: os.kill(os.getpid(), signal.SIGKILL))))
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    with open((out / "metrics.jsonl").path, "a") as stream:
        stream.write('{"step": 50, "tok')  # a line torn by the kill
    train(tokens, out, config, Session())
    assert_same(out, undisturbed)


def on_two_cores(tokens: Place, out: Place, killed_at: int | None) -> None:
    kill = Silent() if killed_at is None else At(killed_at, lambda: os.kill(os.getpid(), signal.SIGKILL))
    train(tokens, out, tiny(**CONFIG, threads=2), Session(progress=kill))


def test_sigkill_changes_nothing_where_each_core_has_a_share(tokens: Place, tmp_path: Path) -> None:
    undisturbed, out = Place.of(tmp_path / "undisturbed"), Place.of(tmp_path / "model")
    for place, killed_at in ((undisturbed, None), (out, 17), (out, 40), (out, None)):
        # Anew and not forked: threads that share products, of an earlier test, do not outlive a fork.
        process = multiprocessing.get_context("spawn").Process(target=on_two_cores, args=(tokens, place, killed_at))
        process.start()
        process.join()
        assert process.exitcode == (0 if killed_at is None else -signal.SIGKILL)
    assert_same(out, undisturbed)


@pytest.mark.parametrize("step", [0, 20, 56])
def test_stop_saves_and_goes_on(tokens: Place, out: Place, undisturbed: Place, step: int) -> None:
    with pytest.raises(StoppedEarly):
        train(tokens, out, tiny(**CONFIG), stopping(step=step))
    assert (out / "checkpoints").children("step-*")[-1].name == f"step-{step:06}"
    train(tokens, out, tiny(**CONFIG), Session())
    assert_same(out, undisturbed)


@pytest.mark.parametrize(
    ("look", "step"),
    [
        pytest.param(0, 0, id="first validation"),
        pytest.param(4, 0, id="first sample"),
        pytest.param(17, 7, id="validation"),
        pytest.param(40, 20, id="sample"),
        pytest.param(45, 21, id="validation before which lines were kept"),
        pytest.param(114, 60, id="last sample"),
    ],
)
def test_a_stop_does_not_wait_for_what_is_measured(
    tokens: Place, out: Place, undisturbed: Place, look: int, step: int
) -> None:
    """Who goes on measures that step, also after a kill, which leaves the stop's checkpoint the last."""
    with pytest.raises(StoppedEarly):
        train(tokens, out, tiny(**CONFIG), stopping(look=look))
    last = (out / "checkpoints").children("step-*")[-1]
    assert read_state(last)["lines"][-1]["step"] == read_state(last)["step"] == step
    assert [line["step"] for line in read_lines(out / "metrics.jsonl")] == list(range(step))
    pid = os.fork()
    if pid == 0:
        train(tokens, out, tiny(**CONFIG), Session(progress=At(step + 3, lambda: os.kill(os.getpid(), signal.SIGKILL))))
        os._exit(0)
    os.waitpid(pid, 0)
    train(tokens, out, tiny(**CONFIG), Session())
    assert_same(out, undisturbed)


def test_a_stop_right_behind_a_checkpoint_keeps_it(tokens: Place, out: Place) -> None:
    """Nothing of it is removed to be written anew: a kill in between would leave no checkpoint."""
    config = tiny(**CONFIG, keep_last=1, keep_best=False)

    def files() -> dict[str, int]:
        (only,) = (out / "checkpoints").children("step-*")
        return {place.path: Path(place.path).stat().st_mtime_ns for place in only.children()}

    with pytest.raises(StoppedEarly):
        train(tokens, out, config, stopping(step=22))
    before = files()
    with pytest.raises(StoppedEarly):
        train(tokens, out, config, stopping(look=0))
    assert files() == before


def test_finished_run_does_nothing_and_imports_no_torch(tokens: Place, undisturbed: Place, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(tiny(**CONFIG).model_dump_json())
    code = (
        "import sys, json\n"
        "from llmdata.train import train, TrainConfig\n"
        "from llmdata.engine.session import Session\n"
        "from llmdata.storage.place import Place\n"
        "config = TrainConfig.model_validate_json(open(sys.argv[3]).read())\n"
        "result = train(Place.of(sys.argv[1]), Place.of(sys.argv[2]), config, Session())\n"
        "print(json.dumps([result.fresh, result.steps, 'torch' in sys.modules]))\n"
    )
    run = [sys.executable, "-c", code, tokens.path, undisturbed.path, str(config)]
    assert json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout) == [False, 60, False]


def test_changed_settings_or_tokens_are_refused_unless_rerun(tokens: Place, out: Place, tmp_path: Path) -> None:
    train(tokens, out, tiny(), Session())
    with pytest.raises(ChangedError, match=r"train\.optim\.lr \(0\.01 → 0\.02\)"):
        train(tokens, out, tiny(optim={"lr": 0.02}), Session())
    other = Place.of(tmp_path / "other")
    write_tokens(other, SENTENCES * 9)
    with pytest.raises(ChangedError, match="tokens"):
        train(other, out, tiny(), Session())
    before = records(out)
    assert train(tokens, out, tiny(optim={"lr": 0.02}), Session(), rerun=True).fresh
    assert records(out) != before
    assert not train(tokens, out, tiny(optim={"lr": 0.02}), Session(), rerun=True).fresh, "nothing has changed since"


def test_how_it_is_computed_may_change_between_halves(tokens: Place, out: Place, undisturbed: Place) -> None:
    """Another micro-batch and other checkpoints: the same batches in the same order, losses equal but for rounding."""
    config = {**CONFIG, "model": {"dropout": 0.0}}
    whole = Place.of(out.path + "-whole")
    train(tokens, whole, tiny(**config), Session())
    with pytest.raises(StoppedEarly):
        train(tokens, out, tiny(**config), stopping(step=20))
    train(tokens, out, tiny(**config, data={"micro_batch": 3}, keep_last=1), Session())
    losses = [
        [line["loss"] for line in read_lines(place / "metrics.jsonl") if "loss" in line] for place in (whole, out)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert len((out / "checkpoints").children()) <= 2


def test_shards_that_disagree_with_the_index(out: Place, tmp_path: Path) -> None:
    folder = Place.of(tmp_path / "tokens")
    write_tokens(folder, SENTENCES)
    path = (folder / "train-00001.bin").local()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"train-00001\.bin: sha256"):
        train(folder, out, tiny(), Session())
    assert not out.exists()


@pytest.mark.parametrize("what", ["not the tokenizer", "a vocabulary of"])
def test_a_tokenizer_that_disagrees_with_the_index(out: Place, tmp_path: Path, what: str) -> None:
    folder = Place.of(tmp_path / "tokens")
    index = write_tokens(folder, SENTENCES)
    if what == "not the tokenizer":
        wrong = replace(index, tokenizer_digest="0" * 64)
    else:
        wrong = replace(index, vocab_size=index.vocab_size - 1)
    wrong.save(folder)
    for config in (tiny(), TrainConfig.model_validate({"model": "ngram"})):
        with pytest.raises(InputError, match=what):
            train(folder, out, config, Session())
        assert not out.exists()


def test_last_and_best_checkpoints_are_kept(tokens: Place, out: Place) -> None:
    train(tokens, out, tiny(keep_last=1, keep_best=True), Session())
    kept = (out / "checkpoints").children()
    losses = {line["step"]: line["val_loss"] for line in read_lines(out / "metrics.jsonl") if "val_loss" in line}
    best = min((loss, step) for step, loss in losses.items() if step)[1]
    assert {place.name for place in kept} == {f"step-{best:06d}", "step-000040"}


def poisoned(tmp_path: Path) -> Place:
    """Tokens with noise in the middle: a batch of it is a spike once the sentences are learned."""
    import random

    letters = sorted(set("".join(SENTENCES)))
    noise = ["".join(random.Random(i).choices(letters, k=40)) for i in range(60)]
    folder = Place.of(tmp_path / "poisoned")
    write_tokens(folder, [*SENTENCES * 4, *noise, *SENTENCES * 12])
    return folder


@pytest.mark.parametrize(
    ("policy", "total", "checkpoint_every"),
    [
        ("stop", 300, 50),
        ("skip", 300, 50),
        ("rollback", 300, 50),
        pytest.param("rollback", 100, 100, id="back to before the first step"),
    ],
)
def test_spikes_are_dealt_with_and_told(tmp_path: Path, policy: str, total: int, checkpoint_every: int) -> None:
    folder = poisoned(tmp_path)
    # One window a batch, so that noise is alone in it.
    config = tiny(
        data={"batch_tokens": 32},
        checkpoint_every=checkpoint_every,
        loop={"steps": total, "on_spike": policy, "spike": 1.5},
        optim={"lr": 0.005, "schedule": "wsd"},
    )
    out, again = Place.of(tmp_path / policy), Place.of(tmp_path / "again")
    if policy == "stop":
        with pytest.raises(LlmdataError, match="broken away"):
            train(folder, out, config, Session())
        return
    train(folder, out, config, Session())
    lines = list(read_lines(out / "metrics.jsonl"))
    if policy == "skip":
        assert any(line.get("skipped") for line in lines)
        return
    events = [line for line in lines if line.get("event") == "rollback"]
    assert events
    steps = [line["step"] for line in lines if "event" not in line]
    assert steps == list(range(total + 1))
    with pytest.raises(StoppedEarly):
        train(folder, again, config, stopping(step=events[0]["step"]))
    train(folder, again, config, Session())
    assert records(again) == records(out)


def test_settings_that_cannot_be_leave_nothing_that_has_to_be_overruled(tokens: Place, out: Place) -> None:
    with pytest.raises(LlmdataError, match="vocabulary"):
        train(tokens, out, tiny(model={"vocab_size": 5}), Session())
    assert train(tokens, out, tiny(loop={"steps": 2}), Session()).fresh


def test_without_a_validation_split(tmp_path: Path, out: Place) -> None:
    folder = Place.of(tmp_path / "tokens")
    index = write_tokens(folder, SENTENCES)
    del index.splits["val"]
    index.save(folder)
    assert train(folder, out, tiny(loop={"steps": 3}), Session()).val_loss is None
