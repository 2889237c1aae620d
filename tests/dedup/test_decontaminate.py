"""Evaluation sets in documents: found wherever 13 words in a row agree, and named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from llmdata.audit.folders import look_at
from llmdata.audit.verify import verify
from llmdata.cli.app import app
from llmdata.dedup.decontaminate import Decontaminate, DecontaminateConfig
from llmdata.dedup.words import Normal, Words
from llmdata.document import Document, Rejection
from llmdata.engine.session import Session
from llmdata.errors import ConfigError, InputError
from llmdata.pipeline.clean import run_clean
from llmdata.pipeline.clean_config import CleanConfig
from llmdata.storage.place import Place

from .helpers import VOCABULARY, text_of

QUESTION = "Which of the following statements about the migration of Arctic terns is known to be true today?"
ANSWER = "They travel from pole to pole and back again every single year of their long lives."


def judge(text: str, *sets: Path, **settings: Any) -> Document | Rejection:
    return Decontaminate(DecontaminateConfig(sets=[str(path) for path in sets], **settings))(Document(text=text))


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    path = tmp_path / "quiz.jsonl"
    rows = [{"question": text_of(20, 1)}, {"id": 7, "question": QUESTION, "choices": {"text": ["No.", ANSWER]}}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_thirteen_words_are_enough_and_twelve_are_not(sets: Path) -> None:
    words = QUESTION.split()
    found = judge(f"{text_of(50, 2)} {' '.join(words[2:15])} {text_of(50, 3)}", sets)
    assert isinstance(found, Rejection)
    assert (found.stage, found.reason) == ("decontaminate", "evaluation_set")
    assert found.detail == f"quiz.jsonl, item 2: “{' '.join(words[2:15])}”"
    assert isinstance(judge(f"{text_of(50, 2)} {' '.join(words[2:14])} {text_of(50, 3)}", sets), Document)


def test_case_punctuation_accents_and_white_space_do_not_count(sets: Path) -> None:
    loud = "— THEY travel,\n\nfrom   Pole to Pole (and báck again) every single year of their…"
    found = judge(f"Intro. {loud} The end.", sets)
    assert isinstance(found, Rejection)
    assert found.detail.endswith("“THEY travel, from Pole to Pole (and báck again) every single year of their”")


def test_runs_do_not_cross_from_question_to_answer(sets: Path) -> None:
    joined = " ".join(QUESTION.split()[-7:] + ANSWER.split()[:7])
    assert isinstance(judge(joined, sets), Document)


def test_flagged_documents_stay(sets: Path) -> None:
    kept = judge(f"{QUESTION} {ANSWER}", sets, action="flag")
    assert isinstance(kept, Document)
    runs = len(QUESTION.split()) - 12 + len(ANSWER.split()) - 12
    span = QUESTION.rstrip("?") if len(QUESTION.split()) > len(ANSWER.split()) else ANSWER.rstrip(".")
    assert kept.metadata == {"decontaminate": {"set": "quiz.jsonl", "item": 2, "runs": runs, "span": span}}


@pytest.mark.parametrize(("words", "gone"), [(20, True), (19, True), (16, True), (15, False), (9, False)])
def test_share_of_eight_grams(tmp_path: Path, words: int, gone: bool) -> None:
    """An item of 20 words has 13 runs of 8; of its first 16 words 9 are left, of 15 words 8."""
    item = text_of(20, 9)
    (tmp_path / "set.txt").write_text(item)
    text = f"{text_of(30, 1)} {' '.join(item.split()[:words])} {text_of(30, 2)}"
    found = judge(text, tmp_path / "set.txt", n_grams=8, min_share=0.65)
    assert isinstance(found, Rejection) is gone


def test_formats(tmp_path: Path) -> None:
    texts = [text_of(30, seed) for seed in range(6)]
    (tmp_path / "a.txt").write_text(f"\n\n{texts[0][:60]}\n{texts[0][60:]}\n \n{texts[1]}")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(json.dumps({"q": texts[2], "label": 3}).encode()))
    table = pa.table({"q": [texts[3], texts[4]], "other": [texts[5], None]})
    pq.write_table(table, tmp_path / "c.parquet")
    paths = [tmp_path / name for name in ("a.txt", "b.jsonl.gz", "c.parquet")]
    where = []
    for text in texts:
        found = judge(f"so {text}", *paths)
        assert isinstance(found, Rejection)
        where.append(found.detail.split(":")[0])
    assert where == [
        "a.txt, item 1", "a.txt, item 2", "b.jsonl.gz, item 1", "c.parquet, item 1", "c.parquet, item 2",
        "c.parquet, item 1",
    ]  # fmt: skip
    assert isinstance(judge(texts[5], tmp_path / "c.parquet", columns=["q"]), Document)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"decontaminate\.sets: name the evaluation sets"):
        judge("text")
    with pytest.raises(ConfigError, match="there is no file"):
        Decontaminate.files(DecontaminateConfig(sets=[str(tmp_path / "none.jsonl")]))
    (tmp_path / "bad.jsonl").write_text('{"q": "fine"}\nnot json\n')
    with pytest.raises(InputError, match=r"bad\.jsonl, line 2"):
        judge(text_of(20, 1), tmp_path / "bad.jsonl")
    (tmp_path / "empty.txt").write_text("too short")
    assert isinstance(judge(text_of(20, 1), tmp_path / "empty.txt"), Document)
    assert isinstance(judge("", tmp_path / "empty.txt"), Document)


@given(
    st.text(alphabet=st.sampled_from("aB cé\u0301.,1٣字か-\u00ad\n"), max_size=80),
    st.booleans(),
)
def test_words_are_where_they_are_said_to_be(text: str, numbers: bool) -> None:
    words = Words(Normal(numbers=numbers))
    hashes, counts = words.hashes([text])
    composed, spans = words.spans(text)
    assert len(spans) == counts[0]
    for (begin, end), expected in zip(spans, hashes, strict=True):
        again, found = words.hashes([composed[begin:end]])
        assert found[0] == 1
        assert again[0] == expected


def test_long_texts_are_quoted_right(tmp_path: Path) -> None:
    (tmp_path / "set.txt").write_text(QUESTION)
    text = " ".join(VOCABULARY * 10) + f" {QUESTION} end"
    found = judge(text, tmp_path / "set.txt")
    assert isinstance(found, Rejection)
    assert found.detail == f"set.txt, item 1: “{QUESTION.rstrip('?')}”"


def test_as_a_user_meets_it(tmp_path: Path, sets: Path) -> None:
    pages = [text_of(100, 5), f"Quiz! {QUESTION}", text_of(100, 3)]
    source, out = tmp_path / "pages.jsonl", tmp_path / "out"
    source.write_text("".join(json.dumps({"text": text, "id": str(n)}) + "\n" for n, text in enumerate(pages)))
    command = ["dedup", str(source), "--method", "decontaminate", "--evaluation", str(sets), "--out", str(out)]
    done = CliRunner().invoke(app, [*command, "-w", "1"])
    assert done.exit_code == 0, done.output
    (row,) = pq.read_table(out / "rejected").to_pylist()
    assert (row["id"], row["reason"]) == ("1", "evaluation_set")
    said = CliRunner().invoke(app, ["inspect", str(out), "--contamination"], env={"COLUMNS": "160"})
    assert "quiz.jsonl │ 2" in said.output
    sets.write_text(json.dumps({"question": text_of(20, 8)}))
    changed = CliRunner().invoke(app, [*command, "-w", "1"])
    assert changed.exit_code != 0
    assert "a file that decontaminate reads has changed" in " ".join(changed.output.split())


@pytest.mark.parametrize("action", ["dropped", "flagged"])
def test_the_report_names_document_set_item_and_span(tmp_path: Path, action: str) -> None:
    words = text_of(30, 1).split()
    pages = [text_of(40, 2), f"A {' '.join(words[3:20])} B", f"{' '.join(words[:13])}"]
    source, out = tmp_path / "pages.jsonl", tmp_path / "out"
    source.write_text("".join(json.dumps({"text": text, "id": str(n)}) + "\n" for n, text in enumerate(pages)))
    address = "memory://evaluation/set.txt"  # any storage will do; worker processes have no such memory, so one is here
    place = Place.of(address)
    with place.writer() as stream:
        stream.write(" ".join(words).encode())
    try:
        assert isinstance(Decontaminate(DecontaminateConfig(sets=[address]))(Document(text=pages[1])), Rejection)
        assert [str(file) for file in Decontaminate.files(DecontaminateConfig(sets=[address]))] == [str(place)]
    finally:
        place.parent.remove()
    (tmp_path / "set.txt").write_text(" ".join(words))
    more = ["--set", f"dedup.decontaminate.action={'drop' if action == 'dropped' else 'flag'}", "-w", "1"]
    command = ["dedup", str(source), "--method", "decontaminate", "--evaluation", str(tmp_path / "set.txt"), *more]
    done = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (out / "contamination.jsonl").read_text().splitlines()]
    assert rows == [
        {"id": name, "url": "", "action": action, "set": "set.txt", "item": 1, "runs": runs, "span": span}
        for name, runs, span in (("1", 5, " ".join(words[3:20])), ("2", 1, " ".join(words[:13])))
    ]
    assert pq.read_table(out / "final").num_rows == (1 if action == "dropped" else 3)
    done = CliRunner().invoke(app, [*command, "--out", str(out), "--method", "exact"])
    assert (done.exit_code, "--evaluation goes with --method decontaminate" in done.output) == (2, True)
    done = CliRunner().invoke(app, ["dedup", str(source), "--out", str(out), "--method", "exact", "--rerun", "-w", "1"])
    assert done.exit_code == 0, done.output
    assert not (out / "contamination.jsonl").exists()


@pytest.mark.parametrize("action", ["drop", "flag"])
def test_the_report_is_whole_where_rejected_documents_are_not_kept(tmp_path: Path, sets: Path, action: str) -> None:
    """Also of documents that are flagged here and rejected by a later stage."""
    pages = [text_of(50, 5), f"Quiz! {QUESTION}", f"Quiz! {QUESTION}", text_of(50, 5)]
    source = tmp_path / "pages.jsonl"
    source.write_text("".join(json.dumps({"text": text, "id": str(n)}) + "\n" for n, text in enumerate(pages)))
    reports, on_disk = [], {}
    for rejected in ("full", "ids", "none"):
        config = CleanConfig(
            input=[str(source)],
            stages=["decontaminate", "exact_dedup"],
            rejected=rejected,
            decontaminate={"sets": [str(sets)], "action": action},
        )
        out = Place.of(tmp_path / rejected)
        funnel = run_clean(out, config, Session(1)).funnel
        assert (funnel["in"], funnel["kept"]) == (4, 1 if action == "drop" else 2)
        reports.append((tmp_path / rejected / "contamination.jsonl").read_text())
        on_disk[rejected] = pq.read_table(tmp_path / rejected / "rejected").to_pylist()
        assert verify(look_at(str(out)), Session(1)).problems == []
    assert [json.loads(line)["id"] for line in sorted(reports[0].splitlines())] == ["1", "2"]
    assert len(set(reports)) == 1
    assert {row["id"] for row in on_disk["ids"]} == {row["id"] for row in on_disk["full"]}
    assert [(row["id"], row["text"]) for row in on_disk["none"]] == (
        [("1", ""), ("2", "")] if action == "drop" else [("2", "")]
    )
