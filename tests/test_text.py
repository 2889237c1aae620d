import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdata.document import Document
from llmdata.text import (
    LETTERS,
    PUNCTUATION_ONLY,
    SENTENCE_END,
    WORD,
    Pieces,
    TextView,
    count_sentences,
    count_words,
    hash_of,
    is_punctuation,
    pieces,
    portions,
    split_words,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \t\n\u00a0\u3000", []),
        ("Hello, world!", ["Hello", ",", "world", "!"]),
        ("I don't, you’re not.", ["I", "do", "n't", ",", "you", "’re", "not", "."]),
        ("We cannot say it's Anna's.", ["We", "can", "not", "say", "it", "'s", "Anna", "'s", "."]),
        ("Mr. Smith, e.g. at 9am", ["Mr.", "Smith", ",", "e.g.", "at", "9", "am"]),
        ("a well-known and/or thing", ["a", "well", "-", "known", "and/or", "thing"]),
        ("wait... what…", ["wait", "...", "what", "…"]),
        ("(see [1], “quoted”)", ["(", "see", "[", "1", "]", ",", "“", "quoted", "”", ")"]),
        ("costs $1,000 or 50% of 3km", ["costs", "$", "1,000", "or", "50", "%", "of", "3", "km"]),
        ("https://example.com/a-b?c=d, ok", ["https://example.com/a-b?c=d", ",", "ok"]),
        ("end.Start", ["end", ".", "Start"]),
        ("the USA. So", ["the", "USA", ".", "So"]),
        ("- item", ["-", "item"]),
        ("x\0y \ud800z", ["x\0y", "\ud800z"]),
    ],
)
def test_words(text, words):
    assert split_words(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("我喜欢书。", ["我", "喜欢", "书", "。"]),
        ("カタカナと漢字", ["カタカナ", "と", "漢字"]),
        ("ภาษาไทย", ["ภาษา", "ไทย"]),
        ("ພາສາລາວ", ["ພາສາ", "ລາວ"]),
        ("ខ្ញុំទៅ", ["ខ្ញុំ", "ទៅ"]),
        ("ខ្ញុំ\u200bទៅ", ["ខ្ញុំ", "ទៅ"]),
        ("မြန်မာ", ["မြန်မာ"]),
        ("GPT-4用于中文, ok", ["GPT-4", "用于", "中文", ",", "ok"]),
        ("ไทย5.5บาท", ["ไทย", "5.5", "บาท"]),
    ],
)
def test_scripts_without_spaces_have_words(text, words):
    assert split_words(text) == words


@given(st.text(alphabet=st.characters(exclude_categories=(), exclude_characters="\u200b"), max_size=200))
def test_words_are_the_text_without_white_space(text):
    assert "".join(split_words(text)) == "".join(text.split())


@pytest.mark.parametrize(
    "piece", ["(" * 600 + "a", "a." * 20_000, "'\"" * 300, "漢" * 50_000, "ก" * 2_000_000, "):" * 400]
)
def test_a_piece_of_any_length_is_cut_whole(piece):
    assert "".join(split_words(piece)) == piece


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


def test_punctuation():
    assert is_punctuation("?!")
    assert is_punctuation("。")
    assert not is_punctuation("a.")
    assert not is_punctuation("•")
    assert "؟" in SENTENCE_END


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


@given(st.lists(st.text(st.sampled_from("aB1.,'!-\u0e01\u4e2dé"), max_size=8), max_size=40))
def test_tokens_are_those_that_words_are_split_into(pieces: list[str]) -> None:
    text = " ".join(pieces)
    words = split_words(text)
    tokens = TextView(text).tokens
    assert tokens.hashes.tolist() == list(map(hash_of, words))
    assert tokens.lengths.tolist() == list(map(len, words))


def test_a_text_of_more_pieces_than_are_remembered_has_all_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmdata.text._MOST_CACHED", 200)
    monkeypatch.setattr("llmdata.text._MOST_TOGETHER", 7)
    text = " ".join(f"{number % 60}, x" for number in range(200))
    assert TextView(text).tokens.hashes.tolist() == list(map(hash_of, split_words(text)))


def found_pieces(text: str) -> list[bytes]:
    known = pieces()
    return [known.all[number] for numbers in TextView(text).numbers() for number in numbers.tolist()]


@given(st.text(st.sampled_from("ab\0 \n\t\v\x1c\u3000é他"), max_size=200))
def test_each_piece_between_white_space_has_its_number(text: str) -> None:
    assert found_pieces(text) == text.encode().split()
    assert found_pieces(text) == text.encode().split()  # now all are known


@pytest.mark.parametrize(
    "text",
    [
        " ".join(map(str, range(150_000))),  # more in one text than are remembered, and a crowded table
        f"short {'x' * 300_000}  {'é' * 300_000} short x {'y' * 270_000}",
        f"{'x' * 300_000} end",
        " " * 600_000 + "end",
        "one of " * 100_000,
    ],
    ids=["many", "long", "long first", "blank", "again"],
)
def test_long_texts_have_all_their_pieces(text: str) -> None:
    known = pieces()
    parts = [[known.all[number] for number in numbers.tolist()] for numbers in TextView(text).numbers()]
    assert [piece for part in parts for piece in part] == text.encode().split()


def test_hashes_that_want_the_same_slot_all_find_one() -> None:
    known = Pieces()
    crowd = (np.arange(1, 300, dtype=np.uint64) << np.uint64(32)) | np.uint64(7)
    known._add(crowd, known._find(crowd))
    assert known._number[known._find(crowd)].tolist() == list(range(299))


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
        patch.setattr("llmdata.text._MOST_TOGETHER", most)
        parts = list(portions(line))
        assert "".join(parts) == line
        assert [word for part in parts for word in part.split()] == line.split()
        assert all(len(part) <= most + max(map(len, line.split()), default=0) for part in parts)
        assert (count_words(line), count_sentences(line)) == (words, sentences)


@pytest.mark.parametrize("doublings", [4, 7, 10, 11])
def test_words_of_thue_and_morse_are_told_apart(doublings):
    """Whatever the base, sums of powers modulo 2**64 are the same for the two of 1,024 letters."""
    one, other = b"a", b"b"
    for _ in range(doublings):
        one, other = one + other, other + one
    assert Pieces().numbers(one + b" " + other + b" " + one).tolist() == [0, 1, 0]
