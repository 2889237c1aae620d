"""A stage made anew with the bytes that it had: the stage behind it need not be."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.conftest import Llmdata


def test_the_next_stage_has_nothing_to_do(warcs: Path, llmdata: Llmdata) -> None:
    clean = ("clean", warcs, "--out", "documents", "--stages", "extract,url_dedup", "--set")
    dedup = ("dedup", "documents", "--out", "distinct", "--method", "exact")
    llmdata(*clean, "clean.limits.cpu_seconds=40")
    llmdata(*dedup)
    assert "--rerun" in llmdata(*clean, "clean.limits.cpu_seconds=50", check=2).stderr
    llmdata(*clean, "clean.limits.cpu_seconds=50", "--rerun")
    assert "nothing to do" in llmdata(*dedup).stderr
