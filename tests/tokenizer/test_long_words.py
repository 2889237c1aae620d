"""Long words: found where the patterns have them, and encoded as tiktoken does."""

from __future__ import annotations

import itertools
import unicodedata

import pyarrow as pa
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmdata import native
from llmdata.storage.encoding import load_encoding
from llmdata.storage.encoding_kinds import BpeEncoding
from llmdata.storage.encoding_names import PATTERNS
from llmdata.storage.long_words import find_long, word_tables
from llmdata.storage.place import Place
from tests.tokenizer.corpus import PHRASES

built = pytest.mark.skipif(native.library() is None, reason="no C library was built")
RUNS = st.builds(
    str.__mul__,
    st.sampled_from([*"aAZé中ʰ\u0301٣1=/\n\t\u3000'ſ😀", "ab", "Ab", "中A", "\r\n", "=/", "'s", "'ſ", *PHRASES]),
    st.integers(1, 40),
)
TEXTS = st.lists(RUNS | st.text(max_size=3), max_size=6).map("".join)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(4, 30))
@example("a" * 40 + " b\n" + "中" * 20 + "'s" + "A" * 40 + "b", 16)
def test_they_are_the_words_of_the_pattern(text: str, long: int) -> None:
    text = "".join(character for character in text if unicodedata.category(character) != "Cn")
    for name, pattern in PATTERNS.items():
        expected, at = [], 0
        for word in regex.findall(pattern, text):
            size = len(word.encode())
            if size >= long:
                expected.append((at, at + size))
            at += size
        assert find_long(text.encode(), name, long) == expected


@built
@pytest.mark.parametrize("name", ["bpe", "gpt2", "o200k"])
def test_their_ids_are_those_of_tiktoken(tokenizers: dict[str, Place], name: str) -> None:
    encoding = load_encoding(tokenizers[name])
    assert isinstance(encoding, BpeEncoding)
    encoding.long_word = 8

    @settings(max_examples=80, deadline=None)
    @given(st.lists(TEXTS, max_size=3))
    def check(texts: list[str]) -> None:
        ids, offsets = encoding.encode_arrow(pa.array(["a" * 40, *texts], pa.large_string())[1:])
        found = [ids[start:end].tolist() for start, end in itertools.pairwise(offsets.tolist())]
        assert found == [encoding.tiktoken.encode_ordinary(text) for text in texts]

    check()


@built
@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=24),
    st.lists(st.sampled_from(b"ab"), max_size=60),
)
def test_any_vocabulary_of_merges_does(pairs: list[tuple[int, int]], letters: list[int]) -> None:
    """Against merging step by step, with vocabularies that prefer odd pairs."""
    tokens = [bytes([byte]) for byte in range(256)]
    merges: list[tuple[bytes, bytes]] = []
    known = [b"a", b"b"]
    for first, second in pairs:
        left, right = known[first % len(known)], known[second % len(known)]
        if merge(left + right, merges) == [left, right]:
            merges.append((left, right))
            known.append(left + right)
    tokens += known[2:]
    word = bytes(letters)
    found = word_tables(tokens, merges).encode(word)
    assert [tokens[number] for number in found] == merge(word, merges)


def merge(word: bytes, merges: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Byte pairs as tiktoken merges them: of all neighbours that together are a token, the first of the lowest rank."""
    ranks = {left + right: rank for rank, (left, right) in enumerate(merges)}
    parts = [word[at : at + 1] for at in range(len(word))]
    while True:
        joined = [ranks.get(one + two, len(ranks)) for one, two in itertools.pairwise(parts)]
        if not joined or min(joined) == len(ranks):
            return parts
        at = joined.index(min(joined))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


@built
def test_a_word_among_others_in_one_text(tokenizers: dict[str, Place]) -> None:
    encoding = load_encoding(tokenizers["gpt2"])
    assert isinstance(encoding, BpeEncoding)
    encoding.long_word = 1 << 18
    text = "Some words, " + "etaoinshrdlu" * 30_000 + "! 中" + "中" * 100_000 + "\nand " + "=" * 300_000
    ids, _ = encoding.encode_arrow(pa.array(["before", text], pa.large_string())[1:])
    assert ids.tolist() == encoding.encode(text)
