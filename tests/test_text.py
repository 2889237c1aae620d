import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdata.document import Document
from llmdata.text import TextView, count_sentences, count_words, portions
from llmdata.words import LETTERS, PUNCTUATION_ONLY, WORD, hash_of, split_words


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("", 1),
        ("no end", 1),
        ("One. Two! Three?", 3),
        ("He said: “Stop.” Then he left.", 2),
        ("Dr. Smith paid $3.50.", 1),
        ("Wait... what", 1),
        ("我喜欢书。他不喜欢。", 2),
    ],
)
def test_sentences(line, count):
    assert count_sentences(line) == count


def test_a_view_cuts_lines_and_paragraphs():
    view = TextView("\none\n\ntwo\n three\n\n\nfour\n")
    assert view.lines == ["", "one", "", "two", " three", "", "", "four", ""]
    assert view.paragraphs == ["one", "two\n three", "four"]


def test_equal_tokens_have_equal_hashes():
    tokens = TextView("the cat, the \ud800 \ud800").tokens
    hashes = tokens.hashes.tolist()
    assert [hashes.index(value) for value in hashes] == [0, 1, 2, 0, 4, 4]
    assert tokens.lengths.tolist() == [3, 3, 1, 3, 1, 1]
    assert hashes[0] == hash_of("the")
    assert len(TextView("").tokens) == len(TextView(" \n").tokens) == 0


@pytest.mark.parametrize(
    ("token", "kind"),
    [("word", LETTERS), ("a1", LETTERS), ("'s", LETTERS), ("42", WORD), ("•", WORD), ("!", PUNCTUATION_ONLY)],
)
def test_tokens_are_of_three_kinds(token: str, kind: int) -> None:
    assert TextView(token).tokens.kinds.tolist() == [kind]


def test_a_text_of_more_pieces_than_are_remembered_has_all_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmdata.pieces._MOST_KEPT", 200)
    monkeypatch.setattr("llmdata.text.MOST_TOGETHER", 7)
    text = " ".join(f"{number % 60}, x" for number in range(200))
    assert TextView(text).tokens.hashes.tolist() == list(map(hash_of, split_words(text)))


def test_hashes_are_the_same_in_every_process():
    code = "from llmdata.text import TextView; print(TextView('stable words').tokens.hashes.tolist())"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert runs == {f"{TextView('stable words').tokens.hashes.tolist()}\n"}


def test_filters_share_a_view_until_the_text_changes():
    doc = Document(text="one two")
    tokens = doc.view.tokens
    assert doc.view.tokens is tokens
    doc.text = "three"
    assert doc.view.tokens.lengths.tolist() == [5]


@given(st.text(st.sampled_from("ab.! \n\t\x1c\u3000é他"), max_size=60), st.integers(1, 12))
def test_portions_are_the_text_and_cut_no_word(line: str, most: int) -> None:
    words, sentences = count_words(line), count_sentences(line)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmdata.text.MOST_TOGETHER", most)
        parts = list(portions(line))
        assert "".join(parts) == line
        assert [word for part in parts for word in part.split()] == line.split()
        assert all(len(part) <= most + max(map(len, line.split()), default=0) for part in parts)
        assert (count_words(line), count_sentences(line)) == (words, sentences)
