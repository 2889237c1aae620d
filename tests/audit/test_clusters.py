"""`llmdata inspect --clusters`: what was taken for the same, side by side."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from llmdata.audit.clusters import differences
from llmdata.cli.app import app


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "120"})
    return result.exit_code, result.output


def test_the_largest_clusters_come_first_with_their_texts(tmp_path: Path) -> None:
    source, out = tmp_path / "pages.jsonl", tmp_path / "out"
    texts = ["one text", "one  text", "one text ", "other text", "other\ntext", "alone"]
    rows = [{"id": f"d{n}", "text": text, "url": f"https://e.org/{n}"} for n, text in enumerate(texts)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("dedup", str(source), "--method", "exact", "--keep", "first", "--out", str(out), "-w", "1")[0] == 0
    code, printed = run("inspect", str(out), "--clusters", "--json")
    assert code == 0
    clusters = json.loads(printed)["clusters"]
    assert [(cluster["stage"], cluster["kept"], cluster["size"]) for cluster in clusters] == [
        ("exact_dedup", "d0", 3),
        ("exact_dedup", "d3", 2),
    ]
    assert [(member["id"], member["kept"]) for member in clusters[0]["members"]] == [
        ("d0", True),
        ("d1", False),
        ("d2", False),
    ]
    assert [member["text"] for member in clusters[1]["members"]] == ["other text", "other\ntext"]
    code, printed = run("inspect", str(out), "--clusters")
    assert code == 0
    assert "exact_dedup: 3 documents" in printed
    assert "https://e.org/0 (kept)" in printed


def test_nothing_to_show(tmp_path: Path) -> None:
    source, out = tmp_path / "pages.jsonl", tmp_path / "out"
    source.write_text(json.dumps({"text": "one"}) + "\n")
    assert run("dedup", str(source), "--method", "exact", "--out", str(out), "-w", "1")[0] == 0
    code, printed = run("inspect", str(out), "--clusters")
    assert (code, printed.strip()) == (0, "No document was dropped as the duplicate of another.")
    code, printed = run("inspect", str(source), "--clusters")
    assert (code, "--clusters reads a run or a folder that" in " ".join(printed.split())) == (1, True)


def test_differences_are_word_by_word() -> None:
    assert differences("a b c d", "a x c d e") == [("a", False), ("x", True), ("c d", False), ("e", True)]
    assert differences("", "") == []
