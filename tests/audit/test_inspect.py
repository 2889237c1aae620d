"""`llmdata inspect` and `llmdata status`, as a user calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from llmdata.audit.look import printable
from llmdata.cli.app import app
from llmdata.document import Rejection
from llmdata.storage.place import Place
from tests.audit.folders import clean_folder, document, run_folder, write_documents, write_rejections


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answers(*arguments: str | Path) -> list[Any]:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_clean_folder_is_described_with_counts_schema_and_a_sample(tmp_path: Path) -> None:
    facts = answers("inspect", clean_folder(tmp_path).path, "--sample", "2")[0]
    assert (facts["kind"], facts["rows"], facts["rejected"], facts["read"]) == ("clean", 6, 4, 10)
    assert facts["columns"]["warc_offset"] == "BIGINT"
    assert [row["id"] for row in facts["sample"]] == ["doc-02", "doc-06"]
    shown = call("inspect", tmp_path)
    assert "http://example.org/2" in shown.stdout
    assert "Text number 2." in shown.stdout


def test_where_chooses_the_sample(tmp_path: Path) -> None:
    clean_folder(tmp_path)
    facts = answers("inspect", tmp_path / "final", "--where", "url LIKE '%/7'")[0]
    assert [row["id"] for row in facts["sample"]] == ["doc-07"]
    assert "No document satisfies" in call("inspect", tmp_path, "--where", "false").stdout


def test_sql_sees_documents_and_rejected_ones(tmp_path: Path) -> None:
    clean_folder(tmp_path)
    query = "SELECT (SELECT count(*) FROM docs) AS kept, (SELECT count(*) FROM rejected) AS lost"
    assert answers("inspect", tmp_path, "--sql", query) == [{"kept": 6, "lost": 4}]
    assert "doc-03" in call("inspect", tmp_path, "--sql", "SELECT id FROM docs ORDER BY id").stdout


def test_sql_reads_any_fsspec_address() -> None:
    folder = Place.of("memory://corpus")
    write_documents(folder, "part-00000.parquet", [document(1)])
    assert answers("inspect", "memory://corpus", "--sql", "SELECT id FROM docs") == [{"id": "doc-01"}]


def test_rejected_has_the_funnel_and_an_example_for_each_reason(tmp_path: Path) -> None:
    clean_folder(tmp_path)
    report = answers("inspect", tmp_path, "--rejected")[0]
    assert report["funnel"]["kept"] == 6
    assert [(row["stage"], row["reason"], row["documents"], row["share"]) for row in report["rejected"]] == [
        ("extract", "empty", 2, 0.2),
        ("language", "below_threshold", 1, 0.1),
        ("minhash", "duplicate", 1, 0.1),
    ]
    assert report["rejected"][1]["url"] == "http://example.org/1"
    assert report["rejected"][2]["detail"] == "of doc-08"
    assert "below_threshold" in call("inspect", tmp_path, "--rejected").stdout


def test_verify_ends_with_one_and_names_the_file(tmp_path: Path) -> None:
    clean_folder(tmp_path)
    assert call("inspect", tmp_path, "--verify").exit_code == 0
    (tmp_path / "final/part-00000.parquet").write_bytes(b"x")
    result = call("inspect", tmp_path, "--verify")
    assert result.exit_code == 1
    assert "final/part-00000.parquet: 1 bytes" in result.stderr
    report = json.loads(call("inspect", tmp_path, "--verify", "--json").stdout.splitlines()[0])
    assert report["ok"] is False


def test_a_whole_run_agrees_and_is_described(tmp_path: Path) -> None:
    run_folder(tmp_path)
    assert answers("inspect", tmp_path, "--verify")[0]["problems"] == []
    stages = answers("inspect", tmp_path)[0]["stages"]
    assert list(stages) == ["crawl", "clean", "tokens", "model"]
    assert stages["crawl"]["status"] == {"200": 1}
    assert stages["tokens"]["train"]["documents"] == 6
    assert stages["model"]["last"]["val_loss"] == 3.25
    assert call("inspect", tmp_path).exit_code == 0


def test_archives_and_shards_are_shown_to_be_read(tmp_path: Path) -> None:
    run_folder(tmp_path)
    facts = answers("inspect", tmp_path / "crawl/a.warc.gz")[0]
    assert facts["types"] == {"response": 1, "warcinfo": 1}
    assert facts["sample"][0]["text"] == "<p>Page two</p>"
    facts = answers("inspect", tmp_path / "tokens/train-00000.bin")[0]
    assert facts["tokens"] == 6 * len(f"_{document(2).text}")
    assert facts["sample"][0]["text"].startswith("<|endoftext|>Text number 2.")


def test_json_lines_are_documents_too(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one", "n": 1}\n{"text": "two", "n": 2}\n')
    assert answers("inspect", tmp_path, "--sql", "SELECT sum(n) AS n FROM docs") == [{"n": 3}]


def torn_parquet(path: Path) -> Path:
    write_documents(Place.of(path), "a.parquet", [document(1)])
    (path / "a.parquet").write_bytes((path / "a.parquet").read_bytes()[:-40])
    return path


def of_bytes(path: Path, name: str, data: bytes = b"nothing of the kind") -> Path:
    (path / name).write_bytes(data)
    return path / name


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda path: path / "none", [], "there is no such file or folder"),
        (lambda path: path, [], "holds nothing"),
        (lambda path: of_bytes(path, "a.zip"), [], "not a kind of file"),
        (lambda path: of_bytes(path, "a.parquet"), [], "a.parquet"),
        (lambda path: of_bytes(path, "a.parquet"), ["--sql", "SELECT 1"], "a.parquet"),
        (torn_parquet, [], "a.parquet"),
        (lambda path: of_bytes(path, "a.warc"), [], "a.warc"),
        (lambda path: of_bytes(path, "a.warc.gz", b""), [], "no record in 0 bytes"),
        (lambda path: of_bytes(path, "a.bin"), [], "too short for a token shard"),
        (lambda path: of_bytes(path, "a.jsonl"), [], "a.jsonl"),
        (clean_folder, ["--sql", "SELECT nothing FROM docs"], "nothing"),
        (clean_folder, ["--sql", "SELEC"], "syntax error"),
        (clean_folder, ["--where", "nothing = 1"], "nothing"),
        (clean_folder, ["--trace", "no-such-document"], "no document with the id or URL"),
        (clean_folder, ["--token", "train-00000.bin:1"], "no finished folder of tokens"),
        (run_folder, ["--token", "train-00000.bin"], "write SHARD:N"),
        (run_folder, ["--token", "other.bin:1"], "there is no shard other.bin"),
        (run_folder, ["--token", "train-00000.bin:999999"], "so none at 999999"),
        (run_folder, ["--rejected", "--verify"], "give one of these at a time"),
        (lambda path: run_folder(path) / "crawl/a.warc.gz", ["--rejected"], "this is warc"),
        (lambda path: run_folder(path) / "clean/final", ["--rejected"], "these are other documents"),
    ],
)
def test_what_cannot_be_done_is_one_clear_message(tmp_path: Path, make: Any, options: list[str], message: str) -> None:
    result = call("inspect", str(make(tmp_path)), *options)
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)
    assert message in result.stderr


def test_what_a_page_says_does_not_reach_the_terminal_raw(tmp_path: Path) -> None:
    evil = "\x1b[2J[red]\u202eevil\x9b"
    write_documents(Place.of(tmp_path), "final/part-00000.parquet", [document(1, text=evil, url=evil)])
    write_rejections(Place.of(tmp_path), "rejected/part-01-00000.parquet", [Rejection(document(2), "c4", evil, evil)])
    for options in ([], ["--sql", "SELECT * FROM docs"], ["--rejected"], ["--trace", "doc-01"]):
        shown = call("inspect", tmp_path, *options).stdout
        assert "\x1b[2J" not in shown
        assert "\x9b" not in shown
        assert "\u202e" not in shown
    assert "[red]" in call("inspect", tmp_path).stdout
    assert printable("a\tb\nc\x07\u2066") == "a\tb\nc\ufffd\ufffd"


def test_status_of_a_finished_run(tmp_path: Path) -> None:
    run_folder(tmp_path)
    stages = {stage["stage"]: stage for stage in answers("status", tmp_path)}
    clean = stages["clean"]
    assert (clean["state"], clean["done"], clean["tasks"]) == ("done", 3, 3)
    assert (clean["documents"], clean["kept"], clean["rejected"]) == (10, 6, 4)
    assert (clean["seconds"], clean["per_second"]) == (5.0, 2.0)
    assert stages["model"]["state"] == "done"
    assert stages["tokens"]["documents"] == 6
    shown = call("status", tmp_path)
    assert shown.exit_code == 0
    assert "3 of 3" in shown.stdout


def state_of(folder: Path, **changes: Any) -> None:
    state = {"stage": "clean 2/2", "tasks": 4, "done": 1, "running": ["pass-02-00001"], "failed": {}, "seconds": 3.0}
    (folder / ".llmdata/state.json").write_text(json.dumps(state | changes))
    stamp = json.loads((folder / ".llmdata/stage.json").read_text())
    (folder / ".llmdata/stage.json").write_text(json.dumps(stamp | {"finished": False}))
    (folder / "funnel.json").unlink()


def test_status_after_a_kill_and_after_a_failure(tmp_path: Path) -> None:
    clean_folder(tmp_path)
    state_of(tmp_path)
    stage = answers("status", tmp_path)[0]
    assert (stage["state"], stage["done"], stage["tasks"], stage["running"]) == ("stopped", 3, 6, [])
    assert stage["held_by"] is None


def test_status_names_failed_tasks(tmp_path: Path) -> None:
    clean_folder(tmp_path)
    state_of(tmp_path, running=[], failed={"pass-02-00001": "no space"})
    stage = answers("status", tmp_path)[0]
    assert (stage["state"], stage["failed"]) == ("failed", {"pass-02-00001": "no space"})
    assert "no space" in call("status", tmp_path).stdout


def test_status_while_another_process_holds_the_folder(tmp_path: Path) -> None:
    clean_folder(tmp_path)
    state_of(tmp_path)
    code = (
        "import sys; from llmdata.storage.lock import locked; from llmdata.storage.place import Place\n"
        "with locked(Place.of(sys.argv[1]), 'llmdata clean'): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        stage = answers("status", tmp_path)[0]
        other.communicate()
    assert stage["state"] == "running"
    assert stage["running"] == ["pass-02-00001"]
    assert f"process {other.pid}" in stage["held_by"]
    assert stage["facts"]["at"] == "clean 2/2"
    assert answers("status", tmp_path)[0]["state"] == "stopped"


def test_status_of_a_run_that_has_not_begun_names_its_stages(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: x\ncrawl: {}\nclean: {}\ntrain: null\n")
    os.mkdir(tmp_path / "crawl")
    assert [(stage["stage"], stage["state"]) for stage in answers("status", tmp_path)] == [
        ("crawl", "to do"),
        ("clean", "to do"),
    ]
