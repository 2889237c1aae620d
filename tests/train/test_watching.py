"""What a run tells while it goes, and the forms in which tokens may come."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmdata.audit.training import terminal_curve
from llmdata.engine.session import Session
from llmdata.errors import ChangedError, InputError, LlmdataError, StoppedEarly
from llmdata.storage.encoding import load_encoding
from llmdata.storage.manifest import sha256_of
from llmdata.storage.place import Place
from llmdata.storage.token_index import Shard, Split, TokenIndex, load_index
from llmdata.train import train
from llmdata.train.gpus import find_gpu
from llmdata.train.loop import Trainer
from llmdata.train.metrics import Log, read_lines
from tests.train.corpus import SENTENCES, tiny, write_shard, write_tokens
from tests.train.test_resume import CONFIG, At, records


def losses(out: Place) -> list[float]:
    return [line["loss"] for line in read_lines(out / "metrics.jsonl") if "loss" in line]


def test_mfu_is_told_where_the_peak_is_known(tokens: Place, out: Place) -> None:
    train(tokens, out, tiny(loop={"steps": 4}, peak_flops=1e12), Session())
    last = list(read_lines(out / "metrics.jsonl"))[-1]
    parameters = json.loads((out / "model.json").read_bytes())["parameters"]
    flops = 6 * parameters + 12 * 2 * 32 * 32
    assert last["mfu"] == pytest.approx(last["tokens_per_second"] * flops / 1e12, abs=1e-4)
    gpu = find_gpu("NVIDIA H200")
    assert gpu is not None
    assert gpu.flops == 989e12


def test_tensorboard_reads_what_was_told(tokens: Place, out: Place) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    session = Session()
    session.progress = At(20, lambda: setattr(session.stop, "signal", 15))
    with pytest.raises(StoppedEarly):
        train(tokens, out, tiny(track=["tensorboard"]), session)
    train(tokens, out, tiny(track=["tensorboard"]), Session())
    events = accumulator.EventAccumulator((out / "tensorboard").path).Reload()
    told = [(event.step, event.value) for event in events.Scalars("loss")]
    lines = [(line["step"], line["loss"]) for line in read_lines(out / "metrics.jsonl") if "loss" in line]
    assert [step for step, _ in told] == [step for step, _ in lines]
    assert [value for _, value in told] == pytest.approx([loss for _, loss in lines])
    assert "val_loss" in events.Tags()["scalars"]


def test_weights_and_biases_offline(tokens: Place, out: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(tokens, out, tiny(loop={"steps": 4}, track=["wandb"]), Session())
    assert list(Path(out.path, "wandb").rglob("*.wandb"))


def test_shards_of_nanogpt_and_parquet_train_the_same(tokens: Place, tmp_path: Path) -> None:
    """One file a split without a header, and rows of token ids."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    index = load_index(tokens)
    expected = Place.of(tmp_path / "expected")
    train(tokens, expected, tiny(loop={"steps": 5}), Session())
    for form in ("nanogpt", "parquet"):
        folder = Place.of(tmp_path / form).mkdir()
        splits = {}
        for name, split in index.splits.items():
            ids = np.concatenate([np.fromfile((tokens / s.path).path, "<u2")[512:] for s in split.shards])
            place = folder / f"{name}.{'bin' if form == 'nanogpt' else 'parquet'}"
            if form == "nanogpt":
                place.write_bytes(ids.tobytes())
            else:
                pq.write_table(pa.table({"tokens": [ids[:500], ids[500:]]}), place.path)
            shard = Shard(place.name, len(ids), sha256_of(place), place.size())
            splits[name] = Split(split.tokens, split.documents, split.bytes, [shard])
        for file in (tokens / "tokenizer").walk():
            (folder / "tokenizer" / file.name).write_bytes(file.read_bytes())
        TokenIndex(index.tokenizer_digest, index.vocab_size, index.eot, "uint16", form, splits).save(folder)
        out = Place.of(tmp_path / f"{form}-model")
        train(folder, out, tiny(loop={"steps": 5}), Session())
        assert losses(out) == losses(expected)
    bin_file = Place.of(tmp_path / "nanogpt") / "train.bin"
    bin_file.write_bytes(bin_file.read_bytes()[:-2])
    with pytest.raises(InputError, match=r"train\.bin.*the index says"):
        train(Place.of(tmp_path / "nanogpt"), Place.of(tmp_path / "x"), tiny(), Session())


def test_a_mixture_goes_on_exactly_and_notices_other_tokens(tokens: Place, tmp_path: Path) -> None:
    second = Place.of(tmp_path / "second")
    write_tokens(second, SENTENCES[::-1] * 3)
    config = tiny(**CONFIG, data={"mix": [{"tokens": second.path, "weight": 0.5}]})
    whole, out = Place.of(tmp_path / "whole"), Place.of(tmp_path / "out")
    train(tokens, whole, config, Session())
    session = Session()
    session.progress = At(20, lambda: setattr(session.stop, "signal", 15))
    with pytest.raises(StoppedEarly):
        train(tokens, out, config, session)
    train(tokens, out, config, Session())
    assert records(out) == records(whole)
    alone = Place.of(tmp_path / "alone")
    train(tokens, alone, tiny(**CONFIG), Session())
    assert losses(alone) != losses(whole)
    write_tokens(second, SENTENCES * 2)
    with pytest.raises(ChangedError, match="tokens"):
        train(tokens, out, config, Session())
    write_tokens(second, ["other letters: xyzXYZ"] * 50)
    with pytest.raises(InputError, match="another tokenizer"):
        train(tokens, Place.of(tmp_path / "new"), config, Session())


def test_what_a_model_writes_may_end_lines_elsewhere(tokens: Place, out: Place) -> None:
    """U+2028 and U+0085 stand in JSON as they are; only a line feed ends a line of it."""
    config = tiny(sample_prompts=["a\u2028b\u0085c"])
    session = Session()
    session.progress = At(20, lambda: setattr(session.stop, "signal", 15))
    with pytest.raises(StoppedEarly):
        train(tokens, out, config, session)
    assert (train(tokens, out, config, Session()).sample_after or "").startswith("a\u2028b\u0085c")
    assert [line["step"] for line in read_lines(out / "samples.jsonl")] == [0, 20, 40]


@pytest.mark.parametrize("line", [b"\0\0", b"5", b'{"loss": 1}', b"\xff"])
def test_a_line_of_metrics_that_is_none_is_named(out: Place, line: bytes) -> None:
    place = out / "metrics.jsonl"
    place.write_bytes(b'{"step": 0}\n' + line + b'\n{"step": 1')
    with pytest.raises(InputError, match=r"metrics\.jsonl:2: not a line"):
        Log(place, 1)


def test_a_model_larger_than_memory_ends_with_what_to_do(tokens: Place, out: Place) -> None:
    config = tiny(model={"width": 10_000_000, "layers": 1})  # 5 PB, more than an address space has
    with pytest.raises(LlmdataError, match=r"not enough memory .* at \d+ bytes more: `llmdata plan`"):
        train(tokens, out, config, Session())


def test_a_learning_rate_that_breaks_the_model_ends_with_what_to_do(tokens: Place, out: Place) -> None:
    with pytest.raises(LlmdataError, match=r"lower|Lower train\.optim\.lr"):
        train(tokens, out, tiny(optim={"lr": 1e9, "warmup": 0}, loop={"steps": 100}), Session())


def test_context_longer_than_the_text_and_a_batch_larger_than_it(tmp_path: Path) -> None:
    folder = Place.of(tmp_path / "tokens")
    index = write_tokens(folder, SENTENCES[:4])
    count = index.splits["train"].tokens
    result = train(folder, Place.of(tmp_path / "a"), tiny(data={"batch_tokens": 32 * 20}, loop={"steps": 2}), Session())
    assert result.tokens > count
    with pytest.raises(Exception, match="shorter context"):
        train(folder, Place.of(tmp_path / "b"), tiny(model={"context": 256}, data={"batch_tokens": 256}), Session())
    assert not torch.is_autocast_enabled("cpu")


def test_training_imports_nothing_that_only_the_data_stages_need(tokens: Place, tmp_path: Path) -> None:
    """So that a GPU machine needs PyTorch, NumPy, pydantic, PyYAML, typer, safetensors, and no more."""
    config = tmp_path / "config.yaml"
    config.write_text(tiny(loop={"steps": 2}).model_dump_json())
    code = (
        "import atexit, sys\n"
        "from llmdata.cli import main\n"
        "names = sys.stdlib_module_names\n"
        "atexit.register(lambda: print(*{name.partition('.')[0] for name in sys.modules} - names))\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, "train", tokens.path, "--out", str(tmp_path / "out"), "--model", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {"torch", "llmdata"} <= loaded
    assert not loaded & {
        "awkward", "brotli", "duckdb", "fasttext", "fastwarc", "fsspec", "gigatoken", "lxml", "pandas", "phonenumbers",
        "presidio_analyzer", "pyarrow", "ray", "requests", "resiliparse", "rustbpe", "scipy", "spacy", "tensorboard",
        "tiktoken", "tldextract", "tokenizers", "trafilatura", "transformers", "wandb", "warcio", "zstandard",
    }  # fmt: skip


def test_the_gpu_benchmark_runs_without_a_gpu(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "gpu_train.py"
    command = [sys.executable, str(script), "--device", "cpu", "--tiny", "--profile", str(tmp_path / "profile.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    parts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [part["tokens_per_second"] > 0 for part in parts if "tokens_per_second" in part] == [True] * 3
    killed = next(part["kill_and_resume"] for part in parts if "kill_and_resume" in part)
    assert killed["same"]
    assert killed["died"] == -9
    assert "_CrossEntropy" in (tmp_path / "profile.txt").read_text()


def test_the_loss_curve_in_the_terminal() -> None:
    assert terminal_curve([{"step": 1, "loss": 3.0}]) == ""
    lines = [{"step": step, "loss": 4 - step / 50, "val_loss": 9.0} for step in range(1, 101)]
    rows = terminal_curve(lines, width=20, height=4).splitlines()
    assert [len(row) for row in rows] == [29] * 5
    assert rows[0].startswith("  3.9")
    assert rows[3].startswith("  2.0")
    assert "3" in rows[4]
    assert rows[4].endswith("100")
    dots = [[i for i, cell in enumerate(row[9:]) if cell != "\u2800"] for row in rows[:4]]
    assert dots[0][0] == 0
    assert dots[3][-1] == 19
    assert sum(map(len, dots)) < 30, "a line, not an area"
    flat = terminal_curve([{"step": step, "loss": 1.0} for step in range(10)])
    assert "1.000" in flat


def test_a_step_does_not_wait_for_the_device(tokens: Place, out: Place) -> None:
    """No value is read back (`item`, `bool`, `tolist`) between two looks at the losses, which take one copy."""
    from torch.utils._python_dispatch import TorchDispatchMode

    reads: list[str] = []

    class Reads(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "_local_scalar_dense" in str(func) or "nonzero" in str(func):
                reads.append(str(func))
            return func(*args, **(kwargs or {}))

    for optimizer in ("adamw", "muon"):
        config = tiny(optim={"name": optimizer}, data={"micro_batch": 3})
        trainer = Trainer(tokens, load_index(tokens), out, config, Session(), threads=1)
        trainer.metrics = Log(out / "metrics.jsonl", -1)
        with Reads():
            for _ in range(5):
                trainer._train_step()
            assert reads == []
        trainer._look()
        assert len(losses(out)) == 5


@pytest.mark.parametrize("text", ["", "t", "the "])
def test_hardly_any_text_to_validate_on(tmp_path: Path, text: str) -> None:
    folder = Place.of(tmp_path / "tokens")
    index = write_tokens(folder, SENTENCES)
    ids = [index.eot, *load_encoding(folder / "tokenizer").encode(text)]
    shard = write_shard(folder, "val-00000.bin", ids)
    index.splits["val"] = Split(len(ids), 1, len(text), [shard])
    index.save(folder)
    result = train(folder, Place.of(tmp_path / "out"), tiny(loop={"steps": 2}, eval_tokens=None), Session())
    assert (result.val_loss is None) == (len(ids) < 2)
