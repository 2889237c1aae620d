"""`llmdata dedup` killed at random moments, all processes at once, and started again: the same bytes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from llmdata.storage.lock import PRIVATE

from .helpers import edited, text_of

KILLS = 20


def data_of(folder: Path) -> dict[str, bytes]:
    """All files of data; manifests say how long things took."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and PRIVATE not in path.parts
    }


def start(source: Path, out: Path, method: str) -> subprocess.Popen[bytes]:
    command = ["dedup", str(source), "--out", str(out), "--method", method, "--workers", "2"]
    more = ["--memory", "500MB"]
    return subprocess.Popen(
        [sys.executable, "-m", "llmdata", *command, *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


@pytest.mark.chaos
@pytest.mark.parametrize("method", ["minhash", "paragraphs"])
def test_killed_twenty_times(tmp_path: Path, method: str) -> None:
    source = tmp_path / "texts"
    source.mkdir()
    for number in range(6):
        texts = [text_of(120, 1000 * number + n) for n in range(1500)]
        texts += [f"{edited(text, 2, n)}\nsame line" for n, text in enumerate(texts[:400])]
        (source / f"{number}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    whole = tmp_path / "whole"
    assert start(source, whole, method).wait() == 0
    rng, out, killed, longest = random.Random(11), tmp_path / "killed", 0, 12.0
    for _ in range(200):
        run = start(source, out, method)
        family = psutil.Process(run.pid)
        try:
            run.wait(rng.uniform(0.5, longest))
        except subprocess.TimeoutExpired:
            for process in [*family.children(recursive=True), family]:
                process.kill()
            run.wait()
            killed += 1
        else:
            # It was finished before: begin anew, and strike sooner.
            assert run.returncode == 0, run.stderr.read().decode() if run.stderr else ""
            assert data_of(out) == data_of(whole)
            longest = max(2.0, longest * 0.8)
            subprocess.run(["rm", "-r", str(out)], check=True)
        if killed >= KILLS:
            break
    assert killed == KILLS
    assert start(source, out, method).wait() == 0
    assert data_of(out) == data_of(whole)
