"""Marked texts under the patterns without lookahead have the words that the published patterns find."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest
import regex
import rustbpe
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdata import native
from llmdata.storage.encoding_names import PATTERNS
from llmdata.tokenizer.lookahead import MARK, counting_pattern, mark
from tests.tokenizer.corpus import texts

BLANKS = [*"\t\n\v\f\r \x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000"]
OTHERS = [*"aÉ1²'.-/!“’日é\u0301😀\x1c\x1f\0\u200b\ufeff\u180e\u0080\u00a1\u2010\u3001", "'s", "'LL", "ll"]


def words(pattern: str, text: str) -> list[str]:
    # regex counts \x1c to \x1f as blanks, as Python does; Rust and Unicode do not.
    found: list[Any] = regex.findall(
        pattern.replace(r"\s", r"\p{White_Space}").replace(r"\S", r"\P{White_Space}"), text
    )
    return found


@pytest.mark.parametrize("name", PATTERNS)
def test_the_same_words(name: str) -> None:
    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(st.lists(st.sampled_from([*BLANKS, *BLANKS, *OTHERS]), max_size=12).map("".join), max_size=4),
        st.integers(1, 50),
    )
    def check(group: list[str], size: int) -> None:
        parts = mark(pa.array(["  skipped  ", *group], pa.large_string())[1:], name, size)
        assert "".join(parts).replace(MARK, "") == "".join(group)
        found = [word for part in parts for word in words(counting_pattern(name), part)]
        expected = [word for text in group for word in words(PATTERNS[name], text)]
        # A letter of one byte may be found: it has no pair either.
        assert longer(found) == longer(expected)
        assert all(word.isalpha() for word in found if len(word.encode()) == 1)

    check()


@pytest.mark.skipif(native.library() is None, reason="no C library was built")
@pytest.mark.parametrize("name", PATTERNS)
def test_c_and_numpy_mark_alike(name: str) -> None:
    part = st.sampled_from(
        [*BLANKS, *BLANKS, *OTHERS, "a" * 20_000, "é" * 9_000, "中\u3000" * 9_000, "1" * 17_000, "ﾐ "]
    )

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.lists(part, max_size=12).map("".join), max_size=4), st.integers(1, 30_000))
    def check(group: list[str], size: int) -> None:
        column = pa.array(["  skipped  ", *group], pa.large_string())[1:]
        found = mark(column, name, size)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "function", lambda *_: None)
            assert mark(column, name, size) == found

    check()


def longer(found: list[str]) -> list[str]:
    return [word for word in found if len(word.encode()) > 1]


@pytest.mark.parametrize("name", PATTERNS)
def test_the_same_vocabulary(name: str) -> None:
    rng = random.Random(5)
    corpus = ["".join(rng.choices([*BLANKS, *OTHERS, *texts(5)], k=40)) for _ in range(300)]
    found = []
    for pattern, inputs in (
        (PATTERNS[name], corpus),
        (counting_pattern(name), mark(pa.array(corpus, pa.large_string()), name, 1000)),
    ):
        trainer = rustbpe.Tokenizer()
        trainer.train_from_iterator(iter(inputs), 700, pattern=pattern)
        found.append(trainer.get_mergeable_ranks())
    assert found[0] == found[1]
    assert len(found[0]) > 400


def test_no_text_and_no_characters() -> None:
    for group, marked in (
        ([], []),
        ([""], []),
        (["", "a", ""], ["a"]),
        ([" "], [" "]),
        (["  ", "", "b"], [f"  {MARK}b"]),
    ):
        assert mark(pa.array(group, pa.large_string()), "cl100k", 100) == marked


def test_a_long_document_is_cut_and_short_ones_are_joined() -> None:
    long, short = "one line  and its indentation\n" * 1000, ["a few words"] * 1000
    for group in ([long], short):
        parts = mark(pa.array(group, pa.large_string()), "cl100k", 1000)
        assert len(parts) > 10
        assert max(map(len, parts)) < 1100


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("a" * 40_000, True),
        ("é" * 20_000, True),
        ("aé字" * 8_000, True),
        ("1" * 40_000, True),
        ("-=" * 20_000, True),
        ("a" * 16_000, False),
        (" " * 40_000, False),
        ("字。\n" * 6_000, False),
        ("some words, " * 4_000, False),
    ],
)
def test_words_of_over_16_kb_are_cut_between_characters(text: str, cut: bool) -> None:
    around = f"before {text} behind"
    parts = mark(pa.array([around], pa.large_string()), "cl100k", 1 << 20)
    found = [word for part in parts for word in part.split(MARK)]
    assert "".join(found) == around
    assert (len(found) > 10) == cut
    if cut:
        assert max(len(word.encode()) for word in found) < 3 * 2048 + 10
