"""One text as filters look at it: its lines, paragraphs and words, each made once for all of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from llmdata.pieces import MOST_TOGETHER, Tokens, pieces
from llmdata.words import HAS_UNSPACED, SENTENCE_END, is_punctuation, split_words, words_of

if TYPE_CHECKING:
    from llmdata.pieces import Numbers

_BLANK = re.compile(r"\s")
_BLANKS = bytes(32 if byte in b"\t\n\v\f\r" else byte for byte in range(256))


def _slices(text: str) -> Iterator[bytes]:
    """`text` cut between pieces, some 200,000 bytes at a time or one longer piece, so that memory is bounded."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= MOST_TOGETHER:
        yield data
        return
    data = data.translate(_BLANKS)
    at = 0
    while at < len(data):
        end = data.find(b" ", at + MOST_TOGETHER)
        end = end if end >= 0 else len(data)
        yield data[at:end]
        at = end


def portions(text: str) -> Iterator[str]:
    """`text` in parts of some 200,000 characters, cut before white space.

    The words of a line of 50 MB, as a list, would take 600 MB.
    """
    at = 0
    while blank := _BLANK.search(text, at + MOST_TOGETHER) if len(text) - at > MOST_TOGETHER else None:
        yield text[at : blank.start()]
        at = blank.start()
    yield text[at:] if at else text


def count_sentences(line: str, enough: float = math.inf) -> int:
    """Sentences of `line`, at least 1: a new one begins at the first word after a token that ends one.

    It stops counting at `enough`.
    """
    count, ended = 1, False
    for word in chain.from_iterable(map(words_of, portions(line))):
        if count >= enough:
            break
        if word in SENTENCE_END:
            ended = True
        elif ended and not is_punctuation(word):
            count, ended = count + 1, False
    return count


def count_words(line: str) -> int:
    """Words of `line` between white space; in scripts without spaces, those of `split_words` but punctuation."""
    if line.isascii() or not HAS_UNSPACED.search(line):
        return len(line.split()) if len(line) <= MOST_TOGETHER else sum(len(part.split()) for part in portions(line))
    return sum(not is_punctuation(word) for part in portions(line) for word in split_words(part))


class TextView:
    """One text and what filters need of it, made on demand and kept. Do not change what it hands out."""

    __slots__ = ("_lines", "_numbers", "_paragraphs", "_tokens", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines: list[str] | None = None
        self._paragraphs: list[str] | None = None
        self._tokens: Tokens | None = None
        self._numbers: tuple[int, Numbers] | None = None

    @property
    def lines(self) -> list[str]:
        """`text` cut at every newline."""
        if self._lines is None:
            self._lines = self.text.split("\n")
        return self._lines

    @property
    def paragraphs(self) -> list[str]:
        """`text` without white space around it, cut at two or more newlines."""
        if self._paragraphs is None:
            self._paragraphs = re.split(r"\n\n+", self.text.strip())
        return self._paragraphs

    def numbers(self) -> Iterator[Numbers]:
        """The numbers of the pieces of `text`, in slices: each holds until the next is asked for."""
        if self._numbers and self._numbers[0] == pieces().generation:
            yield self._numbers[1]
            return
        for part in _slices(self.text):
            numbers = pieces().numbers(part)
            if len(self.text) < MOST_TOGETHER // 4:  # then this is all of it
                self._numbers = (pieces().generation, numbers)
            yield numbers

    @property
    def tokens(self) -> Tokens:
        """Hashes, lengths and kinds of all tokens, in order: those of `split_words(text)`."""
        if self._tokens is None:
            self._tokens = _joined([pieces().tokens(numbers) for numbers in self.numbers()])
        return self._tokens


def _joined(parts: list[Tokens]) -> Tokens:
    import numpy as np

    if len(parts) == 1:
        return parts[0]
    return Tokens(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("hashes", "lengths", "kinds")))
