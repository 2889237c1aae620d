"""Words and shingles against the plain way to make them."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdata import native
from llmdata.dedup import words as module
from llmdata.dedup.words import Normal, Words, shingles


def plain_words(text: str) -> list[str]:
    """The words of `text`, by strings and regular expressions."""
    letters = []
    for letter in unicodedata.normalize("NFC", text):
        kind = unicodedata.category(letter)
        if letter in ".,":
            letters.append(letter)
        elif letter.isspace() or kind[0] in "PSZ" or kind in ("Cc", "Cs", "Co", "Cn"):
            letters.append(" ")
        elif kind == "Cf":
            letters.append("\x03")
        elif kind == "Nd":
            letters.append("0")
        else:
            plain = "".join(
                part for part in unicodedata.normalize("NFD", letter.lower()) if unicodedata.category(part) != "Mn"
            )
            plain = unicodedata.normalize("NFC", plain) if plain else "\x03"
            letters.append(plain if len(plain) == 1 else letter)
    joined = re.sub(r"0(?:[.,]?0)*", "0", "".join(letters)).replace("\x03", "")
    alone = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
    spaced = re.sub(f"([{alone}])", r" \1 ", joined)
    return re.split("[ .,]+", spaced.strip(" .,")) if spaced.strip(" .,") else []


def hashes_of(text: str, normal: Normal | None = None) -> list[int]:
    found, counts = Words(normal or Normal()).hashes([text])
    assert counts.tolist() == [len(found)]
    return found.tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The quick, brown FOX!", ["the", "quick", "brown", "fox"]),
        ("it's “quoted” — e-mail", ["it", "s", "quoted", "e", "mail"]),
        ("1,234.56 and 7. Then 8,x", ["0", "and", "0", "then", "0", "x"]),
        ("room 101a", ["room", "0a"]),
        ("café cafe\u0301 CAFE", ["cafe", "cafe", "cafe"]),
        ("soft\u00adhyphen zero\u200bwidth", ["softhyphen", "zerowidth"]),
        ("我爱你 abc", ["我", "爱", "你", "abc"]),
        ("你abc好", ["你", "abc", "好"]),
        ("0\ufa0e", ["0", "\ufa0e"]),
        ("한국어 한국어", ["한국어", "한국어"]),
        ("a\x00b\tc\u2028d", ["a", "b", "c", "d"]),
        ("\ud800 x \udfff", ["x"]),
        ("", []),
        (" \n.,!", []),
        ("0", ["0"]),
    ],
)
def test_normalisation(text: str, expected: list[str]) -> None:
    assert plain_words(text) == expected
    assert hashes_of(text) == [hashes_of(word)[0] for word in expected]


@given(st.text(st.characters(max_codepoint=0xFFFF), max_size=60))
def test_any_text_has_the_words_of_the_plain_way(text: str) -> None:
    expected = plain_words(text)
    found = hashes_of(text)
    assert len(found) == len(expected)
    assert len(set(zip(found, expected, strict=True))) == len(set(found)) == len(set(expected))


@given(st.lists(st.text(max_size=30), max_size=8))
def test_texts_together_as_each_by_itself(texts: list[str]) -> None:
    found, counts = Words(Normal()).hashes(texts)
    alone = [hashes_of(text) for text in texts]
    assert counts.tolist() == [len(part) for part in alone]
    assert found.tolist() == [value for part in alone for value in part]


PIECES = [
    "0",
    "7",
    ".",
    ",",
    "1,2.5",
    "١",
    "a",
    "É",
    "e\u0301",
    "\u0301",
    "\u00ad",
    "漢",
    "ไ",
    " ",
    "\n",
    "\ud800",
    "\x00",
    "-",
]


@pytest.mark.skipif(native.library() is None, reason="no C library was built")
@given(
    texts=st.lists(st.lists(st.sampled_from(PIECES) | st.text(max_size=9), max_size=20).map("".join), max_size=8),
    normal=st.builds(Normal, st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    chunk=st.integers(1, 60),
    n=st.integers(1, 12),
)
def test_the_same_in_c_as_in_numpy(texts: list[str], normal: Normal, chunk: int, n: int) -> None:
    def found() -> list[list[int]]:
        words, counts = Words(normal).hashes(texts)
        runs, sizes = shingles(words, counts, n)
        return [part.tolist() for part in (words, counts, runs, sizes)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", chunk)
        in_c = found()
        patch.setattr(native, "function", lambda *_: None)
        assert found() == in_c


@pytest.mark.parametrize(
    ("normal", "left", "right"),
    [
        (Normal(lower_case=False), "Word", "word"),
        (Normal(numbers=False), "12", "34"),
        (Normal(accents=False), "é", "e"),
        (Normal(punctuation=False), "end.", "end"),
        (Normal(punctuation=False, numbers=False), "3.5", "3,5"),
    ],
)
def test_each_switch_can_be_turned_off(normal: Normal, left: str, right: str) -> None:
    assert hashes_of(left, normal) != hashes_of(right, normal)


def test_numbers_collapse_where_punctuation_stays() -> None:
    assert hashes_of("1,000.5", Normal(punctuation=False)) == hashes_of("7", Normal(punctuation=False))


def test_long_texts_are_cut_at_white_space_only(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(f"w{number % 97}x" for number in range(5000))
    whole = hashes_of(text)
    monkeypatch.setattr(module, "CHUNK", 100)
    assert hashes_of(text) == whole


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_shingles_against_tuples_of_words(n: int) -> None:
    texts = ["", "one", "a b c", "a b c", "a b c d e f g h", "b c d e f g h", "x " * 50]
    words, counts = Words(Normal()).hashes(texts)
    found, sizes = shingles(words, counts, n)
    expected = []
    for text in texts:
        split = text.split()
        runs = [tuple(split[at : at + n]) for at in range(len(split) - n + 1)]
        expected.append(runs or ([tuple(split)] if split else []))
    assert sizes.tolist() == [len(runs) for runs in expected]
    flat = [run for runs in expected for run in runs]
    assert len(set(zip(found.tolist(), flat, strict=True))) == len(set(found.tolist())) == len(set(flat))


@pytest.mark.parametrize(
    "text", ["word " * 1_000_000, "x" * 3_000_000, "\x00" * 100_000, "é" * 200_000, "漢" * 200_000]
)
def test_enormous_texts(text: str) -> None:
    words, counts = Words(Normal()).hashes(["before", text, "after"])
    assert counts[0] == counts[2] == 1
    assert words[0] == hashes_of("before")[0]
    assert words[-1] == hashes_of("after")[0]
    _, sizes = shingles(words, counts, 5)
    assert sizes.sum() == 2 + max(min(1, counts[1]), counts[1] - 4)


def test_hashes_are_the_same_on_every_machine() -> None:
    """Keys of earlier shards stay valid: a change here needs a new version of the stage."""
    found, counts = Words(Normal()).hashes(["The first 3 words", "été"])
    assert (found & np.uint64(0xFFFF)).tolist() == [45412, 52488, 61796, 56266, 40663]
    assert (shingles(found, counts, 3)[0] & np.uint64(0xFFFF)).tolist() == [44087, 32913, 64627]
