"""Paragraphs, lines and spans of sentences that stand in several documents."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from llmdata.cli.app import app
from llmdata.dedup import passages, repeats
from llmdata.dedup.config import LineDedupConfig, ParagraphDedupConfig, SpanDedupConfig
from llmdata.dedup.passages import LineDedup, ParagraphDedup, PassageDedup, SpanDedup
from llmdata.document import Document, Rejection
from llmdata.engine.session import Session
from llmdata.storage.parquet import write_table
from llmdata.storage.place import Place

from .helpers import cut, text_of

LINES = LineDedup(LineDedupConfig(min_sentences=0))
PARAGRAPHS = ParagraphDedup(ParagraphDedupConfig())
SPANS = SpanDedup(SpanDedupConfig(min_sentences=0))


def run(shuffle: PassageDedup, parts: Sequence[Sequence[Document]], folder: Any) -> list[Document | Rejection]:
    out = Place.of(folder)
    for number, docs in enumerate(parts):
        batches = [shuffle.keys(docs[at : at + 7]) for at in range(0, len(docs), 7)]
        write_table(out / "keys" / f"part-{number:05}.parquet", batches, shuffle.schema)
    shuffle.resolve(out / "keys", out, Session(1))
    made = []
    for number, docs in enumerate(parts):
        verdicts = shuffle.load(out / "drops" / f"part-{number:05}.parquet")
        copies = [Document(id=doc.id, text=doc.text, dump=doc.dump) for doc in docs]
        made += [verdicts.apply(doc, row) for row, doc in enumerate(copies)]
    return made


def left(shuffle: PassageDedup, texts: Sequence[str], folder: Any) -> list[str]:
    """The texts that stay; of a rejected document, its reason in brackets."""
    docs = [Document(id=str(number), text=text) for number, text in enumerate(texts)]
    found = run(shuffle, [docs], folder)
    return [item.text if isinstance(item, Document) else f"<{item.reason}>" for item in found]


def test_lines_stay_on_the_first_page_that_has_them(tmp_path: Path) -> None:
    texts = [
        "Menu\nFirst story.\nFooter",
        "  MENU \nSecond story.\nfooter\n",
        "menu\n\nFooter",
        "Alone",
        "a\nb\na\nc",
        "",
    ]
    assert left(LINES, texts, tmp_path) == [
        "Menu\nFirst story.\nFooter",
        "Second story.",
        "<duplicate>",
        "Alone",
        "a\nb\nc",
        "",
    ]


def test_what_was_removed_is_counted_and_said(tmp_path: Path) -> None:
    docs = [Document(id="a", text="w\nw\ny"), Document(id="b", text="x\nz\nz"), Document(id="c", text="y\nx\nx")]
    docs += [Document(id="d", text="x\n\ny")]
    first, second, *others = run(LINES, [docs[:1], docs[1:3], docs[3:]], tmp_path)
    assert first == Document(id="a", text="w\ny", metadata={"line_dedup": {"removed": 1, "of": 3}})
    assert second == Document(id="b", text="x\nz", metadata={"line_dedup": {"removed": 1, "of": 3}})
    assert others == [
        Rejection(docs[2], "line_dedup", "duplicate", "3 of 3 lines stand in other places, the first in a"),
        Rejection(docs[3], "line_dedup", "duplicate", "2 of 2 lines stand in other places, the first in b"),
    ]


def test_pages_left_too_short_go(tmp_path: Path) -> None:
    shared = "One. Two. Three."
    texts = [shared, f"{shared}\nFour. Five.", f"{shared}\nSix. Seven. Eight!", "Short."]
    assert left(LineDedup(LineDedupConfig()), texts, tmp_path / "c4") == [
        shared,
        "<too_few_sentences>",
        "Six. Seven. Eight!",
        "Short.",  # lost nothing: not this stage's business
    ]
    long = LineDedup(LineDedupConfig(min_sentences=0, min_characters=12))
    assert left(long, texts, tmp_path / "long")[1] == "<too_short>"


def test_paragraphs_are_compared_as_ccnet_does(tmp_path: Path) -> None:
    texts = ["Café, 12 Euro!\n—\nnew", "cafe\u0301 99 euro\n—\nnewer", "Cafés 1 Euro"]
    assert left(PARAGRAPHS, texts, tmp_path) == [texts[0], "—\nnewer", "Cafés 1 Euro"]


def test_paragraphs_between_blank_lines(tmp_path: Path) -> None:
    blank = ParagraphDedup(ParagraphDedupConfig(separator="blank_line"))
    texts = ["one\ntwo\n\nthree", "one\n\none\ntwo\n \nfour\n\nthree\n"]
    assert left(blank, texts, tmp_path) == [texts[0], "one\n\nfour"]


def test_spans_of_three_sentences(tmp_path: Path) -> None:
    texts = [
        "A one. B two! C three? D four.",
        "X nine. b two! c  three? d four. Y ten.",
        "Z. A one. B two! W.",  # two sentences are no span
        "他来了。她走了。天黑了。",
        "雨。他来了。她走了。天黑了。风。",
        "Same. Same. Same. Same. Same. Same. Same.",
    ]
    assert left(SPANS, texts, tmp_path) == [
        texts[0],
        "X nine. Y ten.",
        texts[2],
        texts[3],
        "雨。风。",
        "Same. Same. Same.",
    ]


def test_the_keep_rule_chooses_the_page(tmp_path: Path) -> None:
    docs = [
        Document(id="a", text="shared\nshort"),
        Document(id="b", text="shared\nmuch longer than the other", metadata={"edu": {"score": 1}}),
        Document(id="c", text="shared\nbest", metadata={"edu": {"score": 2.5}}),
    ]
    for keep, score, stays in (("longest", "", 1), ("best", "edu.score", 2), ("first", "", 0)):
        shuffle = LineDedup(LineDedupConfig(min_sentences=0, keep=keep, score=score))  # type: ignore[arg-type]
        found = run(shuffle, [docs], tmp_path / keep)
        assert [isinstance(doc, Document) and "shared" in doc.text for doc in found] == [n == stays for n in range(3)]


def test_scope_is_the_dump(tmp_path: Path) -> None:
    docs = [Document(id=dump, text="same", dump=dump) for dump in ("x", "y", "x")]
    shuffle = LineDedup(LineDedupConfig(scope="dump", min_sentences=0))
    assert [isinstance(item, Document) for item in run(shuffle, [docs], tmp_path)] == [True, True, False]


def corpus(size: int = 120) -> list[Document]:
    rng = random.Random(3)
    pool = [" ".join(f"{text_of(4, 9 * n + m)}." for m in range(1 + n % 5)) for n in range(80)]
    texts = ["\n".join(rng.choices(pool, k=rng.randint(0, 4))) for _ in range(size)]
    return [Document(id=str(n), text=text) for n, text in enumerate(texts)]


@pytest.mark.parametrize("shuffle", [LINES, PARAGRAPHS, SPANS], ids=lambda shuffle: shuffle.name)
def test_as_brute_force_finds_whatever_the_parts_and_buckets(
    tmp_path: Path, shuffle: PassageDedup, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = corpus()
    expected = run(shuffle, [docs], tmp_path / "one")
    seen: dict[tuple[str, ...], int] = {}
    at = 0
    for doc, found in zip(docs, expected, strict=True):
        units, gone = shuffle.units(doc.text), set()
        for start in range(len(units) - shuffle.length + 1):
            key = tuple(map(shuffle.normal, units[start : start + shuffle.length]))
            if at + start - seen.setdefault(key, at + start) >= shuffle.length:
                gone |= set(range(start, start + shuffle.length))
        at += len(units)
        kept = "".join(unit for n, unit in enumerate(units) if n not in gone)
        if not gone:
            assert found == doc
        elif isinstance(found, Document):
            assert found.text.rstrip() == kept.rstrip()
        else:
            assert not kept.strip()
    assert sum(item != doc for item, doc in zip(expected, docs, strict=True)) > 20
    monkeypatch.setattr(repeats, "BUCKET", 50)
    for name, ends in (("odd", (0, 1, 60)), ("many", tuple(range(1, 120, 11)))):
        assert run(shuffle, cut(docs, *ends), tmp_path / name) == expected


@given(st.text(alphabet=st.sampled_from("aB. !\n\t\r。？é\u2028\x00\ud800"), max_size=60))
def test_units_are_the_whole_text(text: str) -> None:
    blank = ParagraphDedup(ParagraphDedupConfig(separator="blank_line"))
    for shuffle in (LINES, PARAGRAPHS, SPANS, blank):
        units = shuffle.units(text)
        assert "".join(units) == text
        assert all(units)
    assert SPANS.keys([Document(text=text)]).num_rows == 1


@given(st.text(alphabet=st.sampled_from("ab1.!?…‼।。！｡\n \t\u3000\x1c\x85\"')]”’»」"), max_size=30))
def test_common_texts_are_cut_as_all_others(text: str) -> None:
    ends = [match.span() for match in passages._SENTENCES.finditer(text)]
    assert SPANS.units(text) == passages._cut(text, passages._SENTENCES)
    if passages._RARE.isdisjoint(text):
        assert [match.span() for match in passages._COMMON.finditer(text)] == ends


def test_as_a_user_meets_it(tmp_path: Path) -> None:
    rows = [{"text": f"Cookie notice\nStory {name} begins. It goes on. It ends."} for name in "abcde"]
    source = tmp_path / "pages.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"text": "Cookie notice"}]))
    for method, name in (("paragraphs", "paragraph_dedup"), ("lines", "line_dedup"), ("spans", "span_dedup")):
        out = tmp_path / method
        result = CliRunner().invoke(
            app, ["dedup", str(source), "--out", str(out), "--method", method, "-w", "1", "--json"]
        )
        assert result.exit_code == 0, result.output
        (stage,) = [
            row for row in json.loads(result.stdout.splitlines()[-1])["funnel"]["stages"] if row["stage"] == name
        ]
        kept = pq.read_table(out / "final").to_pylist()
        if method == "spans":
            assert (stage["kept"], stage["changed"]) == (6, 0)
            continue
        assert (stage["in"], stage["kept"], stage["rejected"]) == (6, 5, {"duplicate": 1})
        assert stage["changed"] == 4
        assert [row["text"].count("Cookie") for row in kept] == [1, 0, 0, 0, 0]
        assert json.loads(kept[1]["metadata"])[name] == {"removed": 1, "of": 2}
        verified = CliRunner().invoke(app, ["inspect", str(out), "--verify"])
        assert verified.exit_code == 0, verified.output
