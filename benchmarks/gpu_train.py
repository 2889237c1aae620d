"""Training on one GPU: tokens a second and MFU of GPT-2's smallest and largest, the kernels, and a kill with resume.

    python benchmarks/gpu_train.py [--minutes 8]
    python benchmarks/gpu_train.py --device cpu --tiny      # the same program in half a minute, without a GPU

Tokens are random: their values change no kernel's time. Needs the trainer alone, not the packages of the data stages.
Prints one JSON line for each part.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from llmdata.engine.session import Session
from llmdata.storage import token_shards
from llmdata.storage.encoding_kinds import CharEncoding
from llmdata.storage.manifest import sha256_of
from llmdata.storage.place import Place
from llmdata.storage.token_index import Shard, Split, TokenIndex
from llmdata.train import TrainConfig, train
from llmdata.train.device import reproducible
from llmdata.train.loop import Trainer
from llmdata.train.metrics import Log, read_lines, without_times

VOCABULARY = 50_257  # GPT-2's


def write_tokens(folder: Place, count: int, vocabulary: int) -> TokenIndex:
    """A folder of `count` random tokens; their characters are beyond the surrogates, which are none."""
    from llmdata.tokenizer.files import save_encoding

    special = {"<|endoftext|>": vocabulary - 2, "<|unk|>": vocabulary - 1}
    encoding = CharEncoding([chr(0x10000 + i) for i in range(vocabulary - 2)], special)
    save_encoding(encoding, folder / "tokenizer", {})
    splits = {}
    for number, (name, tokens) in enumerate({"train": count, "val": 20_000}.items()):
        data = np.random.default_rng(number).integers(0, vocabulary - 2, tokens).astype("<u2")
        place = folder / f"{name}.bin"
        place.write_bytes(token_shards.header(data.dtype, len(data)) + data.tobytes())
        splits[name] = Split(tokens, 1, 2 * tokens, [Shard(place.name, tokens, sha256_of(place), place.size())])
    index = TokenIndex(encoding.digest, vocabulary, vocabulary - 2, "uint16", "llmc", splits)
    index.save(folder)
    return index


def settings(arguments: argparse.Namespace, preset: str, batch_tokens: int = 2**19, **changes: Any) -> dict[str, Any]:
    """Settings of a run of `preset`, or of a model of two layers where all is tiny."""
    model: Any = preset
    if arguments.tiny:
        model = {"layers": 2, "heads": 2, "width": 32, "context": 32}
        batch_tokens = 256
    data = {"batch_tokens": batch_tokens}
    return {"model": model, "data": data, "device": arguments.device, "sample_tokens": 0, "eval_tokens": 8192} | changes


def measure(tokens: Place, index: TokenIndex, config: dict[str, Any], steps: int, profile: Path | None = None) -> None:
    """Tokens a second over `steps` steps after the first two, which compile; print them with MFU and memory."""
    _measure(tokens, index, config, steps, profile)
    gc.collect()  # a trainer and what was compiled for it are in cycles; the next one needs the memory
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _measure(tokens: Place, index: TokenIndex, config: dict[str, Any], steps: int, profile: Path | None) -> None:
    parsed = TrainConfig.model_validate(config | {"loop": {"steps": 10_000}})
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, reproducible(os.cpu_count() or 1):
        trainer = Trainer(tokens, index, Place.of(folder), parsed, Session(), os.cpu_count() or 1)
        trainer.metrics = Log(Place.of(folder) / "metrics.jsonl", 0)
        for _ in range(2):
            trainer._train_step()
        trainer._look()
        starting = time.perf_counter() - began
        began = time.perf_counter()
        for _ in range(steps):
            trainer._train_step()
        trainer._look()
        rate = steps * parsed.data.batch_tokens / (time.perf_counter() - began)
        report = {
            "model": config["model"],
            "compiled": trainer.forward is not trainer.model,
            "recompute": parsed.recompute,
            "parameters": trainer.parameters,
            "micro_batch": trainer.micro,
            "starting_s": round(starting, 1),  # the search for a micro-batch, and two steps that compile
            "tokens_per_second": round(rate),
            "mfu": round(rate * trainer.flops / trainer.peak, 4) if trainer.peak else None,
            "peak_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 1) if torch.cuda.is_available() else None,
        }
        print(json.dumps(report), flush=True)
        if profile is not None:
            print(json.dumps({"profile": profiled(trainer, profile)}), flush=True)


def profiled(trainer: Trainer, out: Path) -> list[list[Any]]:
    """The twelve operations that take longest in one step: name, share of the time; the whole table goes to `out`."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        trainer._train_step()
        trainer._look()
    averages = profiler.key_averages()
    on_gpu = trainer.device.type == "cuda"
    key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    out.write_text(averages.table(sort_by=key, row_limit=60, max_name_column_width=100))
    # Operations of the CPU have the time of the kernels that they started, too.
    kind = "CUDA" if on_gpu else "CPU"
    chosen = [event for event in averages if event.device_type.name == kind]
    times = sorted(((getattr(event, key), event.key) for event in chosen), reverse=True)
    total = sum(value for value, _ in times)
    return [[name[:80], round(value / total, 3)] for value, name in times[:12]]


def kill_and_resume(tokens: Place, folder: Place, config: dict[str, Any]) -> None:
    """A run killed by SIGKILL behind its second checkpoint and gone on with, beside one that was not."""
    config |= {"loop": {"steps": 24}, "checkpoint_every": 6, "eval_every": 12}
    path = Path(folder.path) / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    killed = folder / "killed"
    command = [sys.executable, __file__, "--child", str(path), tokens.path, killed.path]
    child = subprocess.Popen(command)
    checkpoint = Path(killed.path) / "checkpoints" / "step-000012" / "state.json"
    while child.poll() is None and not checkpoint.exists():
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    died = child.wait()
    subprocess.run(command, check=True)
    whole = folder / "whole"
    train(tokens, whole, TrainConfig.model_validate(config), Session())
    lines = [[without_times(line) for line in read_lines(place / "metrics.jsonl")] for place in (killed, whole)]
    differences = [
        abs(a["loss"] - b["loss"]) / b["loss"] for a, b in zip(*lines, strict=True) if "loss" in a and "loss" in b
    ]
    report = {"died": died, "lines": len(lines[0]), "same": lines[0] == lines[1], "relative": max(differences)}
    print(json.dumps({"kill_and_resume": report}), flush=True)


def attempted(part: Callable[..., None], *arguments: Any) -> bool:
    """Whether `part` went through: a machine with a GPU is dear, and what else there is to measure does not wait."""
    try:
        part(*arguments)
    except Exception:
        traceback.print_exc()
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a model of two layers instead of GPT-2")
    parser.add_argument("--minutes", type=float, default=8, help="leave parts out that would end later")
    parser.add_argument("--profile", type=Path, default=Path("profile.txt"), help="where the table of kernels goes")
    parser.add_argument("--child", nargs=3, metavar=("CONFIG", "TOKENS", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        config, tokens, out = arguments.child
        parsed = TrainConfig.model_validate(yaml.safe_load(Path(config).read_text()))
        train(Place.of(tokens), Place.of(out), parsed, Session())
        return
    began = time.monotonic()

    def left() -> float:
        return 60 * arguments.minutes - (time.monotonic() - began)

    name = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else "cpu"
    print(json.dumps({"device": name, "torch": torch.__version__, "python": sys.version.split()[0]}), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Place.of(temporary)
        tokens = folder / "tokens"
        index = write_tokens(tokens, *(100_000, 300) if arguments.tiny else (50_000_000, VOCABULARY))
        steps = 4 if arguments.tiny else 20
        worked = [attempted(measure, tokens, index, settings(arguments, "gpt2-124m"), steps, arguments.profile)]
        # A batch as small as shows the speed: the optimiser's share of a step is 1 %. Compiling takes most of the time.
        large = settings(arguments, "gpt2-1558m", 2**17)
        before = time.monotonic()
        worked.append(attempted(measure, tokens, index, large, 2 if arguments.tiny else 4))
        took = time.monotonic() - before
        if left() > 60:
            small = settings(arguments, "gpt2-124m", 2**15, compile=False)
            worked.append(attempted(kill_and_resume, tokens, folder, small))
        if left() > 1.7 * took:
            again = large | {"recompute": True}
            worked.append(attempted(measure, tokens, index, again, 2 if arguments.tiny else 4))
    print(json.dumps({"minutes": round((time.monotonic() - began) / 60, 2)}), flush=True)
    sys.exit(0 if all(worked) else 1)


if __name__ == "__main__":
    main()
