from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdata import native
from llmdata.pieces import Pieces, lexicon
from llmdata.text import TextView


def in_numpy() -> Pieces:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "function", lambda *_: None)
        return Pieces()


both = pytest.mark.parametrize("make", [Pieces, in_numpy], ids=["C", "NumPy"])


def found_pieces(known: Pieces, text: str) -> list[bytes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmdata.text.pieces", lambda: known)
        parts = list(TextView(text).numbers())
    all_known = known.since(0)
    return [all_known[number] for numbers in parts for number in numbers.tolist()]


@both
@given(text=st.text(st.sampled_from("ab\0 \n\t\v\x1c\u3000é他"), max_size=200))
def test_each_piece_between_white_space_has_its_number(make: Callable[[], Pieces], text: str) -> None:
    known = make()
    assert found_pieces(known, text) == text.encode().split()
    assert found_pieces(known, text) == text.encode().split()  # now all are known


@both
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
def test_long_texts_have_all_their_pieces(make: Callable[[], Pieces], text: str) -> None:
    known = make()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmdata.text.pieces", lambda: known)
        found = []
        for numbers in TextView(text).numbers():
            all_known = known.since(0)
            found += [all_known[number] for number in numbers.tolist()]
    assert found == text.encode().split()


@given(st.lists(st.text(st.sampled_from("ab.é中'"), min_size=1, max_size=5), max_size=60))
def test_numbers_and_tokens_are_those_of_numpy(words: list[str]) -> None:
    pieces, plain = Pieces(), in_numpy()
    for part in (words[:20], words):
        data = " ".join(part).encode()
        numbers, expected = pieces.numbers(data), plain.numbers(data)
        assert numbers.tolist() == expected.tolist()
        tokens, plain_tokens = pieces.tokens(numbers), plain.tokens(expected)
        for column in ("hashes", "lengths", "kinds"):
            assert getattr(tokens, column).tolist() == getattr(plain_tokens, column).tolist()
    assert pieces.since(0) == plain.since(0)


@both
def test_a_generation_ends_when_too_much_is_known(make: Callable[[], Pieces], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmdata.pieces._MOST_KEPT", 1100)
    known = make()
    assert known.numbers(b"a b c").tolist() == [0, 1, 2]
    assert known.numbers(b"d c").tolist() == [3, 2]
    generation = known.generation
    assert known.tokens(known.numbers(b"d c")).lengths.tolist() == [1, 1]
    assert (known.generation, len(known), known.since(0)) == (generation + 1, 2, [b"d", b"c"])


def test_pieces_in_a_crowded_table_are_all_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmdata.pieces._SLOTS", 256)
    known = Pieces()
    data = " ".join(map(str, range(250))).encode()
    assert known.numbers(data).tolist() == list(range(250))
    assert known.numbers(b"249 7 " + data)[:3].tolist() == [249, 7, 0]


@both
@pytest.mark.parametrize("doublings", [4, 7, 10, 11])
def test_words_of_thue_and_morse_are_told_apart(make: Callable[[], Pieces], doublings: int) -> None:
    """Sums of powers, a common hash, are the same modulo 2**64 for the two of 1,024 letters, whatever the base."""
    one, other = b"a", b"b"
    for _ in range(doublings):
        one, other = one + other, other + one
    assert make().numbers(one + b" " + other + b" " + one).tolist() == [0, 1, 0]


@pytest.mark.skipif(native.library() is None, reason="no C library was built")
def test_a_lexicon_tells_which_pieces_are_its_words() -> None:
    known = Pieces()
    known.numbers(b"the old bridge the end")
    words = lexicon([b"bridge", b"the", b"x" * 300])
    assert words
    assert words.numbers(known, 0).tolist() == [1, -1, 0, -1]
    known.numbers(b"x" * 300 + b" The")
    assert words.numbers(known, 3).tolist() == [-1, 2, -1]
    assert lexicon([b"two words"]) is None
