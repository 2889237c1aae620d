"""A long text is encoded in pieces: their words and ids are those of the whole."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmdata.storage.encoding import load_encoding
from llmdata.storage.encoding_names import PATTERNS
from llmdata.storage.place import Place
from llmdata.tokenizer.pieces import batches_of, cut_long
from tests.tokenizer.corpus import PHRASES

PARTS = (
    *" \n\t\r\x0b\x1c\x85\xa0\u1680\u2003\u2028\u3000\u200b\ufeff",
    *"aBé中жǅʰ\u0301٣1½.!/'’\"😀",
    *("  ", "\n\n", "\r\n", " \n", "\n ", "\n/", "./\n", "'s", "'LL", "a b", "1\n2", ".\n中", "b\u088f", "\U0001e6c0"),
)
TEXTS = st.lists(st.sampled_from([*PARTS, *PHRASES]) | st.text(max_size=3), max_size=12).map("".join)


def cut(texts: list[str], size: int) -> tuple[list[str], list[int]]:
    """The pieces of `texts`, and which text each is of; `texts` lie in a longer column."""
    column = pa.array(["before", *texts, "after"], pa.large_string()).slice(1, len(texts))
    pieces, owners = cut_long(column, size)
    pieces.validate(full=True)
    return pieces.to_pylist(), owners.tolist()


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, max_size=3), st.integers(3, 12))
@example(["aaaa.\n/a"], 4)
def test_pieces_have_the_words_of_the_whole(texts: list[str], size: int) -> None:
    pieces, owners = cut(texts, size)
    for number, text in enumerate(texts):
        mine = [piece for piece, owner in zip(pieces, owners, strict=True) if owner == number]
        assert "".join(mine) == text
        for pattern in PATTERNS.values():
            words = regex.compile(pattern)
            assert [word for piece in mine for word in words.findall(piece)] == words.findall(text)


@pytest.mark.parametrize("name", ["bpe", "gpt2", "o200k", "char"])
def test_pieces_have_the_ids_of_the_whole(tokenizers: dict[str, Place], name: str) -> None:
    encoding = load_encoding(tokenizers[name])
    assert encoding.by_words

    @settings(max_examples=40, deadline=None)
    @given(TEXTS, st.integers(3, 12))
    def check(text: str, size: int) -> None:
        pieces, _ = cut([text], size)
        ids = [encoding.encode_arrow(pa.array([part], pa.large_string()))[0].tolist() for part in pieces]
        assert list(itertools.chain(*ids)) == encoding.encode(text)

    check()


@pytest.mark.parametrize("name", ["own", "word"])
def test_other_patterns_may_need_the_whole(tokenizers: dict[str, Place], name: str) -> None:
    assert not load_encoding(tokenizers[name]).by_words


@pytest.mark.parametrize(
    ("text", "longest"),
    [
        ("some words " * 200_000, 1_000_100),
        ("行です。\n字" * 200_000, 1_000_100),
        ("Жа\n" * 300_000, 1_000_100),
        ("a" * 2_500_000 + " b" * 500_000, 3_000_100),  # nowhere to cut in the first
        (" " * 2_500_000, 2_500_000),
    ],
)
def test_a_piece_ends_soon_where_it_can(text: str, longest: int) -> None:
    pieces, _ = cut([text], 1_000_000)
    assert "".join(pieces) == text
    assert max(len(piece.encode()) for piece in pieces) <= longest


@given(st.lists(st.sampled_from(["", "a", "bcd", "e" * 10]), max_size=12), st.integers(1, 6))
def test_batches_hold_no_more_than_their_size_or_one_piece(texts: list[str], size: int) -> None:
    column = pa.array(["x", *texts], pa.large_string()).slice(1)
    parts = [column[part].to_pylist() for part in batches_of(column, size)]
    assert [text for part in parts for text in part] == texts
    for part in parts:
        assert part
        assert len("".join(part)) <= size or len(part) == 1


def test_pieces_lie_where_the_texts_do() -> None:
    column = pa.array(["a b " * 1000, "", "c"], pa.large_string())
    pieces, owners = cut_long(column, 100)
    assert pieces.buffers()[2].address == column.buffers()[2].address
    assert np.array_equal(np.unique(owners), [0, 1, 2])
