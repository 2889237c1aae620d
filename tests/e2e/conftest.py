"""Running real commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.corpus import write_warc

Llmdata = Callable[..., "subprocess.CompletedProcess[str]"]

PATIENCE = 600
"""Seconds that no command takes, however busy the machine: who has not ended by then hangs."""

RECIPE = """\
name: tiny
clean:
  input: [{warcs}]
  task_bytes: 20KB
  part_bytes: 50KB
tokenizer: {{vocab_size: 512}}
tokenize: {{val: "hash:0.1", shard_tokens: 5K}}
train:
  model: {{layers: 1, heads: 2, width: 32, context: 32}}
  data: {{batch_tokens: 256}}
  loop: {{steps: 60}}
  threads: 1
  eval_every: 20
  eval_tokens: 2K
  sample_every: 30
  sample_tokens: 8
  checkpoint_every: 15
"""


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "llmdata", *map(str, arguments)]


def environment(**extra: str) -> dict[str, str]:
    """The environment of a command under test: no terminal, no colours."""
    return {**os.environ, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "140", **extra}


@pytest.fixture
def llmdata(tmp_path: Path) -> Llmdata:
    """Run `llmdata …` in an empty folder; fails if it prints a traceback or ends otherwise than with `check`."""

    def call(*arguments: str | Path, check: int | None = 0, **extra: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command(*arguments),
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(**extra),
            timeout=PATIENCE,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        if check is not None:
            assert done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return call


@pytest.fixture(scope="session")
def warcs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three WARC files of forty pages each."""
    folder = tmp_path_factory.mktemp("warcs")
    for number in range(3):
        write_warc(folder / f"pages-{number}.warc.gz", range(number * 40, number * 40 + 40))
    return folder


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory, warcs: Path) -> Path:
    """A recipe from those WARC files to a very small model."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE.format(warcs=warcs))
    return path


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, recipe: Path) -> Path:
    """The folder of a run of that recipe that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    subprocess.run(
        command("run", recipe, "--workdir", workdir, "--workers", "2"), check=True, env=environment(), timeout=PATIENCE
    )
    return workdir


SUFFIXES = {".parquet", ".bin", ".tiktoken", ".safetensors"}
NAMES = {"funnel.json", "index.json", "tokenizer.json"}


def data_files(run: Path) -> dict[str, bytes]:
    """Every file of a run whose bytes may not depend on workers, kills or the clock, by its path in the run."""
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and ".llmdata" not in path.parts]
    wanted = [path for path in files if path.suffix in SUFFIXES or path.name in NAMES]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in wanted}


def losses(run: Path) -> list[dict[str, object]]:
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "model/metrics.jsonl").read_text().splitlines()]
    clock = ("seconds", "tokens_per_second", "time", "mfu")
    return [{key: value for key, value in line.items() if key not in clock} for line in lines]
