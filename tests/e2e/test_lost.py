"""A finished run that has lost a file: the same command makes it again, and no stage behind takes it for a new one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import Llmdata, data_files


@pytest.mark.parametrize(
    "lost",
    ["clean/final/part-*.parquet", "clean/rejected/part-*.parquet", "tokenizer/vocab.tiktoken", "tokens/train-*.bin"],
    ids=lambda name: name,
)
def test_a_lost_file_is_made_again_with_the_same_bytes(
    lost: str, llmdata: Llmdata, recipe: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    sorted(run.glob(lost))[0].unlink()

    llmdata("run", recipe, "--workdir", run, "--workers", "2")

    assert data_files(run) == data_files(undisturbed)
