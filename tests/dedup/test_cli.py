"""`llmdata dedup` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from llmdata.cli.app import app

from .helpers import edited, text_of


def llmdata(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_explain_prints_the_curve() -> None:
    code, printed, _ = llmdata("dedup", "--explain", "--set", "dedup.minhash.bands=20", "--set", "dedup.minhash.rows=5")
    assert code == 0
    assert "20 bands × 5 rows = 100 hash functions" in printed
    assert "47.01%" in printed  # 1 − (1 − 0.5^5)^20
    code, printed, _ = llmdata("dedup", "--explain", "--json")
    points = {point["jaccard"]: point["probability"] for point in json.loads(printed)["curve"]}
    assert points[0.75] == pytest.approx(0.7716, abs=5e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--method", "fuzzy"],
            "--method fuzzy: there is no such method; allowed: url, exact, minhash, paragraphs, lines, spans",
        ),
        (["--explain", "--method", "url"], "--explain shows what MinHash finds"),
        (
            ["--explain", "--keep", "shortest"],
            "--keep shortest: input should be 'longest', 'newest', 'best' or 'first'",
        ),
        (["--explain", "--keep", "best"], "`keep: best` and `score` go together"),
        (["--explain", "--set", "dedup.minhash.band=3"], "there is no such key (did you mean bands?)"),
        (["--explain", "--set", "dedup.minhash.rows=9999"], "rows"),
        (["--memory", "1MB", "x.jsonl", "--out", "OUT"], "--memory 1MB: input should be greater than or equal to"),
        (["--layout", "zip", "x.jsonl", "--out", "OUT"], "--layout"),
        ([], "name the INPUT to deduplicate and a folder for the results"),
    ],
)
def test_bad_usage_is_one_message_and_makes_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    out = tmp_path / "out"
    code, _, printed = llmdata("dedup", *(str(out) if argument == "OUT" else argument for argument in arguments))
    assert code == 2
    assert message in printed
    assert not out.exists()


def test_near_duplicates_of_a_file_go(tmp_path: Path) -> None:
    texts = [text_of(80, seed) for seed in range(30)]
    texts += [edited(text, 1, 1) + " longer" for text in texts[:7]]
    source = tmp_path / "texts.jsonl"
    source.write_text("".join(json.dumps({"content": text}) + "\n" for text in texts))
    out = tmp_path / "out"
    code, printed, _ = llmdata("dedup", str(source), "--out", str(out), "--text-column", "content", "--json", "-w", "1")
    assert code == 0
    funnel = json.loads(printed.splitlines()[-1])["funnel"]
    assert (funnel["in"], funnel["kept"]) == (37, 30)
    kept = pq.read_table(out / "final").to_pylist()
    assert [row["text"] for row in kept] == texts[7:]
    assert [json.loads(row["metadata"]).get("minhash") for row in kept[-7:]] == [{"cluster_size": 2}] * 7
    gone = pq.read_table(out / "rejected").to_pylist()
    assert [row["text"] for row in gone] == texts[:7]
    assert [row["detail"] for row in gone] == [f"duplicate of {row['id']}" for row in kept[-7:]]
    code, _, said = llmdata("dedup", str(source), "--out", str(out), "--text-column", "content")
    assert code == 0
    assert "nothing to do" in said
