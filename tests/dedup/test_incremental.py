"""New documents against what earlier runs kept, without these being read again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from llmdata.cli.app import app

from .helpers import edited, text_of


def dedup(source: Path, out: Path, *more: str) -> tuple[int, str]:
    arguments = ["dedup", str(source), "--out", str(out), "-w", "1", *more]
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output


def write(path: Path, rows: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in rows.items()))
    return path


def kept(out: Path) -> list[str]:
    names: list[str] = pq.read_table(out / "final").column("id").to_pylist()
    return names


def gone(out: Path) -> dict[str, str]:
    rows = pq.read_table(out / "rejected").to_pylist()
    return {row["id"]: row["detail"].removeprefix("duplicate of ") for row in rows}


BASE = {n: text_of(80, n) for n in range(12)}
TWIN = edited(BASE[0], 1, 1)[:-40]
EARLIER = {f"old{n}": text for n, text in BASE.items()} | {"twin": TWIN}
LATER = {
    "copy": BASE[3] + " and longer than the other",
    "of-twin": TWIN,
    "new": text_of(80, 50),
    "new-copy": text_of(80, 50) + " more",
    "other": text_of(80, 51),
}


@pytest.mark.parametrize("settings", [(), ("--set", "dedup.minhash.verify_jaccard=0.6")])
def test_what_an_earlier_run_kept_stays(tmp_path: Path, settings: tuple[str, ...]) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert dedup(write(tmp_path / "a.jsonl", EARLIER), first, *settings)[0] == 0
    assert gone(first) == {"twin": "old0"}
    for path in (tmp_path / "a.jsonl", first / "final", first / "rejected", first / "01-read"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()  # keys and drops are all that is read
    against = json.dumps([str(first)])
    code, said = dedup(
        write(tmp_path / "b.jsonl", LATER), second, *settings, "--set", f"dedup.minhash.against={against}"
    )
    assert code == 0, said
    assert kept(second) == ["new-copy", "other"]
    assert gone(second) == {"copy": "old3", "of-twin": "old0", "new": "new-copy"}
    sizes = [json.loads(row["metadata"]).get("minhash") for row in pq.read_table(second / "final").to_pylist()]
    assert sizes == [{"cluster_size": 2}, None]

    against = json.dumps([str(first), str(second)])
    last = write(tmp_path / "c.jsonl", {"x": LATER["new"], "y": BASE[5], "z": text_of(80, 99)})
    assert dedup(last, third, *settings, "--against", str(first), "--against", str(second))[0] == 0
    assert (kept(third), gone(third)) == (["z"], {"x": "new-copy", "y": "old5"})


@pytest.mark.parametrize("method", ["url", "exact", "lines"])
def test_other_methods(tmp_path: Path, method: str) -> None:
    texts = [f"This is line {n}.\nAnd another {n}.\nThird of {n}." for n in range(4)]
    rows = [{"id": f"d{n}", "text": text, "url": f"https://e.org/{n}"} for n, text in enumerate(texts)]
    for name, some in (("a", rows[:3]), ("b", [{**rows[1], "id": "again"}, rows[3]])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    assert dedup(tmp_path / "a.jsonl", tmp_path / "a", "--method", method)[0] == 0
    assert dedup(tmp_path / "b.jsonl", tmp_path / "b", "--method", method, "--against", str(tmp_path / "a"))[0] == 0
    assert kept(tmp_path / "b") == ["d3"]
    assert list(gone(tmp_path / "b")) == ["again"]


@pytest.mark.parametrize("method", ["exact", "lines"])
def test_an_earlier_run_that_has_changed_is_noticed(tmp_path: Path, method: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    new = write(tmp_path / "new.jsonl", {"x": "one", "y": "two"})
    against = ("--method", method, "--against", str(first), *SHORT)
    assert dedup(write(tmp_path / "old.jsonl", {"a": "one"}), first, "--method", method, *SHORT)[0] == 0
    assert dedup(new, second, *against)[0] == 0
    assert kept(second) == ["y"]
    assert "nothing to do" in dedup(new, second, *against)[1]
    assert dedup(write(tmp_path / "old.jsonl", {"a": "two"}), first, "--method", method, *SHORT, "--rerun")[0] == 0
    code, said = dedup(new, second, *against)
    assert (code, f"a file that {METHOD[method]} reads has changed" in " ".join(said.split())) == (2, True)
    assert dedup(new, second, *against, "--rerun")[0] == 0
    assert kept(second) == ["x"]


SHORT = ("--set", "dedup.line_dedup.min_sentences=0")
METHOD = {"exact": "exact_dedup", "lines": "line_dedup"}


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", EARLIER)
    assert dedup(source, tmp_path / "a", "--set", "dedup.minhash.seed=2")[0] == 0
    code, said = dedup(source, tmp_path / "b", "--against", str(tmp_path / "a"))
    assert (code, "was made with another seed" in " ".join(said.split())) == (2, True)
    code, said = dedup(source, tmp_path / "c", "--against", str(tmp_path))
    assert (code, "holds no keys of a finished minhash" in " ".join(said.split())) == (2, True)
