"""Words of a megabyte: found by the published patterns, and encoded in linear time by C (`native/bpe.c`).

gigatoken and tiktoken merge a word by a heap, n log n, and where it leaves the processor's cache each step costs more.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llmdata import native
from llmdata.errors import LlmdataError
from llmdata.storage.encoding_names import PATTERNS

Numbers = npt.NDArray[np.uint32]

LONG = 1 << 20
"""Bytes from which a word goes to the tables, which take 0.3 to 1 s to make: shorter ones merge within the cache."""
_NEAR, _FAR = 1 << 10, 1 << 16
"""Bytes in which a break is looked for, first and at most."""
_INSIDE = bytes(range(0x80, 0xC0))

_BREAK = re.compile(r"\S(?:(?= )|\n(?=[^\s/]))")
r"""Where each of our patterns ends a word whatever comes before and after: before a blank that follows no blank, and
after a line feed between two other characters.

A blank is the first character of a word or within a run of blanks, and no run begins before it. A line feed is a word
by itself or ends one of signs, which o200k goes on with `/`. What lies to the left keeps its words, as the patterns
look ahead from a run of blanks alone, and behind it there still is the character before the break; what lies to the
right does, as they never look back.
"""


def breaks(raw: memoryview, start: int, end: int, size: int) -> Iterator[int]:
    """Where the text raw[start:end] may be cut, once every `size` bytes if there is a break soon."""
    for target in range(start + size, end, size):
        for width in (_NEAR, _FAR):
            window = bytes(raw[target : min(target + min(width, size), end)])
            whole = window.lstrip(_INSIDE)  # of a character that began before it
            if found := _BREAK.search(text := whole.decode("utf-8", "ignore")):
                yield target + len(window) - len(whole) + len(text[: found.end()].encode())
                break


def find_long(text: bytes, pattern: str, long: int = LONG) -> list[tuple[int, int]]:
    """Where the words of `text` are, by the pattern of `PATTERNS` with that name, that have `long` bytes or more.

    None are looked for where characters are too new to be told letters or signs by all libraries alike.
    """
    import regex  # type: ignore[import-untyped]

    # Some versions of regex count \x1c to \x1f as \s; Unicode and Rust do not.
    words = PATTERNS[pattern].replace(r"\s", r"\p{White_Space}").replace(r"\S", r"\P{White_Space}")
    step = max(1, long // 4)
    edges = [0, *breaks(memoryview(text), 0, len(text), step), len(text)]
    found = []
    for start, end in itertools.pairwise(edges):
        if end - start < long or not _has_run(text[start:end], pattern, long - _AROUND):
            continue
        at, part = start, text[start:end].decode()
        if any(unicodedata.category(character) == "Cn" for character in set(part)):
            continue
        for word in regex.finditer(words, part):
            size = len(word[0].encode())
            if size >= long:
                found.append((at, at + size))
            at += size
    return found


def _has_run(text: bytes, pattern: str, size: int) -> bool:
    """Whether `text` may have so many letters, digits, signs (with line breaks) or blanks one after the other."""
    numbers = [_DIGIT] if pattern == "gpt2" else []  # the others take three digits for a word
    kinds = np.frombuffer(text.translate(_KINDS), np.uint8)
    ends = (np.flatnonzero(kinds & kind == 0) for kind in (_LETTER, _SIGN, _BLANK, *numbers))
    return any(int(np.diff(found, prepend=-1, append=len(text)).max()) > size for found in ends)


_AROUND = 8
"""Bytes that a word may have around letters, at most: a sign before, a contraction behind."""
_LETTER, _DIGIT, _SIGN, _BLANK = 1, 2, 4, 8


def _kind(byte: int) -> int:
    character = chr(byte)
    if byte > 0x7F:
        return _LETTER | _DIGIT | _SIGN | _BLANK
    if character.isalnum():
        return _LETTER if character.isalpha() else _DIGIT
    return _SIGN | _BLANK if character in "\r\n" else _BLANK if character in " \t\v\f" else _SIGN


_KINDS = bytes(map(_kind, range(256)))


@dataclass(frozen=True, slots=True)
class WordTables:
    """A vocabulary as `bpe.c` needs it; tokens go by number, in the order of ranks. Made by `word_tables`."""

    vocabulary: tuple[npt.NDArray[np.int64], Numbers, Numbers]
    """Where each token ends in all their bytes, and the two that it is merged from."""
    trie: tuple[npt.NDArray[np.uint64], Numbers, int, Numbers, Numbers]
    pairs: tuple[npt.NDArray[np.uint64], Numbers, int]

    def encode(self, word: bytes) -> Numbers:
        """The numbers of the tokens of `word`, as merging it by ranks gives.

        Raises LlmdataError if the vocabulary's tokens are not each merged from two others.
        """
        encode = native.function("bpe_encode", f"bytes int {_VOCABULARY} {_TRIE} {_PAIRS} uint8[] uint32[]")
        assert encode is not None
        out, dead = np.empty(len(word), np.uint32), np.zeros(len(word) // 8 + 1, np.uint8)
        count = encode(word, len(word), *self.vocabulary, *self.trie, *self.pairs, dead, out)
        if count < 0:
            raise LlmdataError(
                f"a word of {len(word):,} bytes has no tokens: the vocabulary's merges do not lead to them"
            )
        return out[:count].copy()


_VOCABULARY = "int64[] uint32[] uint32[]"
_TRIE = "uint64[] uint32[] int uint32[] uint32[]"
_PAIRS = "uint64[] uint32[] int"


def word_tables(tokens: Sequence[bytes], merges: Sequence[tuple[bytes, bytes]]) -> WordTables:
    """The tables for `tokens` in the order of their ranks, every byte among them, and the two that each of the longer
    ones is merged from, in the same order. There has to be a C library."""
    build = native.function("bpe_build", f"bytes int {_VOCABULARY} {_TRIE} {_PAIRS}")
    assert build is not None
    numbers = {token: number for number, token in enumerate(tokens)}
    merged = np.array([numbers[left + right] for left, right in merges], np.int64)
    left = np.arange(len(tokens), dtype=np.uint32)
    right = left.copy()
    left[merged] = [numbers[pair[0]] for pair in merges]
    right[merged] = [numbers[pair[1]] for pair in merges]
    whole = b"".join(tokens)
    vocabulary = np.cumsum([len(token) for token in tokens], dtype=np.int64), left, right
    size = 1 << (2 * len(tokens)).bit_length()
    pairs = np.zeros(size, np.uint64), np.empty(size, np.uint32), size
    nodes, shorter = np.empty(len(whole) + 1, np.uint32), np.empty(len(tokens), np.uint32)
    while True:
        trie = np.zeros(size, np.uint64), np.empty(size, np.uint32), size, nodes, shorter
        if build(whole, len(tokens), *vocabulary, *trie, *pairs) > 0:
            return WordTables(vocabulary, trie, pairs)
        size *= 2  # more than half full
