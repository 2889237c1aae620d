"""What lies between the ASCII white space of texts, by numbers: a look-up costs a fraction of cutting it anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from typing import TYPE_CHECKING, TypeVar

from llmdata import native
from llmdata.words import UNITS, class_of, cut_piece, exceptions, hash_of, kind_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.int64]

_T = TypeVar("_T", bound="np.generic")

MOST_TOGETHER = 1 << 18
"""Bytes of a text whose pieces are numbered at once, or one longer piece: more could fill the memory with one text."""
_MOST_KEPT = 1 << 25  # bytes, for pieces and what is kept of them
_PER_PIECE = 350  # bytes, with the columns of all who keep some
_SLOTS = 1 << 19  # twice the pieces that _MOST_KEPT and MOST_TOGETHER can bring
_LONGEST_IN_C = 2000  # bytes; longer pieces are never cut there


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a text in order, punctuation among them, as columns of the same length."""

    hashes: npt.NDArray[np.uint64]
    """XXH3-64 of each token in UTF-8: the same on every machine and in every run."""
    lengths: npt.NDArray[np.int64]
    """In characters."""
    kinds: npt.NDArray[np.uint8]
    """LETTERS, PUNCTUATION_ONLY or WORD."""

    def __len__(self) -> int:
        return len(self.hashes)


class Pieces:
    """The pieces met so far, numbered as they turned up.

    All that looks at the words of a text shares the numbers, and keeps columns of its own by them: here the tokens of
    each piece, in `clean.language_model` the n-grams. Numbers hold for one `generation`: once there are too many
    pieces, they are forgotten and a new one begins.
    """

    def __init__(self) -> None:
        import numpy as np

        self.generation = 0
        self._number = _number_in_c()
        self._gather = native.function(
            "pieces_tokens", "int64[] int int64[] int64[] uint64[] int64[] uint8[] uint64[] int64[] uint8[]"
        )
        self._cut_in_c = native.function(
            "words_cut",
            "int64[] int uint8[] int64[] uint16[] uint8[] int bytes int64[] int64[] uint64[] int64[] uint8[] int"
            " int64[] int64[] int64[]",
        )
        # Which slot a piece gets is chance, lest pages have pieces made to crowd the table. Nothing else goes by it.
        self._seed = int.from_bytes(os.urandom(7), "little")
        self._classes = np.zeros(0x110000 if self._cut_in_c else 0, np.uint16)  # 0: not yet looked at
        if self._cut_in_c:
            self._learn("".join(map(chr, range(128))))
        self._begin()

    def _begin(self) -> None:
        import numpy as np

        self.generation += 1
        self._count = np.zeros(1, np.int64)
        self._known: dict[bytes, int] = {}  # where there is no C
        self._table = np.zeros(2 * _SLOTS if self._number else 0, np.uint64)
        self.data, self.ends = np.zeros(0, np.uint8), np.zeros(1, np.int64)
        self._first, self._counts = np.zeros((2, 0), np.int64)  # where a piece's tokens stand below; -1: not yet cut
        self._used = np.zeros(1, np.int64)
        self._hashes, self._lengths, self._kinds = np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return int(self._count[0])

    def since(self, first: int) -> list[bytes]:
        """The pieces from number `first` on."""
        bounds = self.ends[first : len(self) + 1].tolist()
        data = self.data[bounds[0] : bounds[-1]].tobytes()
        return [data[start - bounds[0] : end - bounds[0]] for start, end in pairwise(bounds)]

    def numbers(self, data: bytes) -> Numbers:
        """The numbers of the pieces of `data`."""
        if int(self.ends[len(self)]) + _PER_PIECE * len(self) > _MOST_KEPT:
            self._begin()
        return self._numbers(data)

    def number_of(self, piece: bytes) -> int:
        """The number of one piece, in this generation."""
        return int(self._numbers(piece)[0])

    def _numbers(self, data: bytes) -> Numbers:
        import numpy as np

        count, most = len(self), len(data) // 2 + 1
        self.data = _longer(self.data, int(self.ends[count]) + len(data))
        self.ends = _longer(self.ends, count + 1 + most)
        if self._number:
            found = np.empty(most, np.int64)
            table = self._table, _SLOTS, self.data, self.ends, self._count
            return found[: self._number(data, len(data), self._seed, *table, found)]
        pieces = data.split()
        new = [piece for piece in dict.fromkeys(pieces) if piece not in self._known]
        self._known.update(zip(new, range(count, count + len(new)), strict=True))
        ends = self.ends[count] + np.cumsum([0, *map(len, new)])
        self.data[ends[0] : ends[-1]] = np.frombuffer(b"".join(new), np.uint8)
        self.ends[count : count + len(ends)] = ends
        self._count += len(new)
        return np.fromiter(map(self._known.__getitem__, pieces), np.int64, len(pieces))

    def tokens(self, numbers: Numbers) -> Tokens:
        """The tokens of the pieces one after the other."""
        import numpy as np

        before = len(self._first)
        if before < len(self):
            self._first, self._counts = _longer(self._first, len(self)), _longer(self._counts, len(self))
            self._first[before:] = -1
        self._cut(numbers)
        counts = self._counts.take(numbers)
        count = int(counts.sum())
        kept = self._hashes, self._lengths, self._kinds
        if self._gather:
            found = Tokens(np.empty(count, np.uint64), np.empty(count, np.int64), np.empty(count, np.uint8))
            self._gather(
                numbers, len(numbers), self._first, self._counts, *kept, found.hashes, found.lengths, found.kinds
            )
            return found
        places = np.repeat(self._first.take(numbers) - np.cumsum(counts) + counts, counts) + np.arange(count)
        return Tokens(self._hashes.take(places), self._lengths.take(places), self._kinds.take(places))

    def _cut(self, numbers: Numbers) -> None:
        """Cut those that were not yet."""
        import numpy as np

        if self._cut_in_c:
            left, done = np.empty(len(numbers), np.int64), np.zeros(1, np.int64)
            rules = self._classes, exceptions().view(np.uint8), len(exceptions()), UNITS
            found = 0
            while True:
                columns = self._first, self._counts, self._hashes, self._lengths, self._kinds, len(self._kinds)
                found += self._cut_in_c(
                    numbers, len(numbers), self.data, self.ends, *rules, *columns, self._used, left[found:], done
                )
                if done[0] == len(numbers):
                    break
                self._make_room(_LONGEST_IN_C)
            numbers = left[:found]
        else:
            numbers = numbers[self._first.take(numbers) < 0]
        if len(numbers):
            self._cut_by_rules(np.unique(numbers))

    def _cut_by_rules(self, numbers: Numbers) -> None:
        import numpy as np

        pieces = [self.data[self.ends[n] : self.ends[n + 1]].tobytes() for n in numbers.tolist()]
        texts = [piece.decode("utf-8", "surrogatepass") for piece in pieces]
        if self._cut_in_c:
            self._learn("".join(texts))
        found = list(map(cut_piece, texts))
        counts = np.fromiter(map(len, found), np.int64, len(found))
        tokens = list(chain.from_iterable(found))
        self._make_room(len(tokens))
        start, end = int(self._used[0]), int(self._used[0]) + len(tokens)
        self._hashes[start:end] = np.fromiter(map(hash_of, tokens), np.uint64, len(tokens))
        self._lengths[start:end] = np.fromiter(map(len, tokens), np.int64, len(tokens))
        self._kinds[start:end] = np.fromiter(map(kind_of, tokens), np.uint8, len(tokens))
        self._counts[numbers] = counts
        self._first[numbers] = start + np.cumsum(counts) - counts
        self._used[0] = end

    def _learn(self, characters: str) -> None:
        for character in set(characters):
            self._classes[ord(character)] = class_of(character)

    def _make_room(self, more: int) -> None:
        size = int(self._used[0]) + more
        self._hashes, self._lengths = _longer(self._hashes, size), _longer(self._lengths, size)
        self._kinds = _longer(self._kinds, size)


def _longer(column: npt.NDArray[_T], size: int) -> npt.NDArray[_T]:
    """`column`, or a copy twice as long where it has not room for `size`."""
    import numpy as np

    if size <= len(column):
        return column
    longer = np.zeros(2 * size, column.dtype)
    longer[: len(column)] = column
    return longer


def _number_in_c() -> Callable[..., int] | None:
    return native.function("pieces_number", "bytes int int uint64[] int uint8[] int64[] int64[] int64[]")


class Lexicon:
    """Given words, and which pieces are among them. See `lexicon`."""

    def __init__(self, words: list[bytes], number: Callable[..., int], find: Callable[..., int]) -> None:
        import numpy as np

        joined, slots = b" ".join(words), 1 << (2 * len(words)).bit_length()
        self._find, self._place = find, (int.from_bytes(os.urandom(7), "little"), np.zeros(2 * slots, np.uint64), slots)
        columns = np.zeros(len(joined), np.uint8), np.zeros(len(words) + 1, np.int64), np.zeros(1, np.int64)
        number(joined, len(joined), *self._place, *columns, np.zeros(len(words), np.int64))

    def numbers(self, known: Pieces, first: int) -> Numbers:
        """For each piece from number `first` on which word it is, or -1."""
        import numpy as np

        found = np.empty(len(known) - first, np.int64)
        self._find(known.data, known.ends, first, len(known), *self._place, found)
        return found


def lexicon(words: list[bytes]) -> Lexicon | None:
    """Of words, all of them different. None where there is no C, or one has white space in it."""
    number = _number_in_c()
    find = native.function("pieces_find", "uint8[] int64[] int int int uint64[] int int64[]")
    return Lexicon(words, number, find) if number and find and b" ".join(words).split() == words else None


@cache
def pieces() -> Pieces:
    """Those of this process."""
    return Pieces()
