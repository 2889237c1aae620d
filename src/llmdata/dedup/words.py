"""Words and shingles of many texts at once, as 64-bit hashes, without a Python object a word.

Texts are looked at as arrays of code points. A table maps each code point to its normal form (lower case, without
accents, `0` for digits, a separator for punctuation), so that normalising is one gather; the hash of a word is a
difference of two prefix sums. It is why words are not taken from the document's `TextView`, which makes strings.
`native/shingles.c` does the same in one walk over the characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from llmdata import native

if TYPE_CHECKING:
    from llmdata.dedup.config import MinhashConfig

    Array = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]
    Codes = np.ndarray[tuple[int, ...], np.dtype[np.uint32]]
    Counts = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

CHUNK = 1 << 16
"""Characters looked at together: the arrays made from them stay in the second-level cache."""

UNKNOWN, SEPARATOR, DELETED = 0, 1, 3
ZERO, POINT, COMMA = ord("0"), ord("."), ord(",")
ALONE = np.uint32(1 << 31)
"""Set in the code of characters that are words by themselves, in scripts that put no blanks between words."""

_ALONE_RANGES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x9FFF),  # Han
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFT = (np.uint64(30), np.uint64(27), np.uint64(31))


def mix(values: Array) -> Array:
    """Spread 64-bit values over the whole range, one to one (the finaliser of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> _SHIFT[0])) * _MIX[0]
    values = (values ^ (values >> _SHIFT[1])) * _MIX[1]
    return values ^ (values >> _SHIFT[2])


def random_numbers(seed: int, count: int) -> Array:
    """`count` 64-bit numbers by splitmix64: the same for a seed on any machine and with any NumPy."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_BASE)
    return mix(steps + np.uint64(seed))


@lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Array, Array]:
    """Powers of the base, and of its inverse, modulo 2**64."""
    tables = []
    for base in (_BASE, pow(_BASE, -1, 1 << 64)):
        table = np.full(count, base, np.uint64)
        table[0] = 1
        tables.append(np.multiply.accumulate(table))
    return tables[0], tables[1]


@dataclass(frozen=True, slots=True)
class Normal:
    """Which differences between texts do not count."""

    lower_case: bool = True
    numbers: bool = True
    punctuation: bool = True
    accents: bool = True

    @classmethod
    def of(cls, config: MinhashConfig) -> Normal:
        return cls(config.lower_case, config.numbers, config.punctuation, config.accents)


class Words:
    """Hashes of the words of texts, under one normalisation."""

    def __init__(self, normal: Normal) -> None:
        self._normal = normal
        self._table = np.zeros(0x110000, np.uint32)  # filled as characters turn up: all of Unicode would take seconds
        self._first_letter = np.uint32(ZERO if normal.punctuation else SEPARATOR + 1)

    def hashes(self, texts: Sequence[str]) -> tuple[Array, Counts]:
        """The hashes of the words of all texts in one array, and how many each text has."""
        found = []
        counts = np.zeros(len(texts), np.int64)
        for group, owners in _groups(texts):
            words, per_text = self._group(group)
            found.append(words)
            np.add.at(counts, owners, per_text)
        return np.concatenate(found) if found else np.zeros(0, np.uint64), counts

    def spans(self, text: str) -> tuple[str, list[tuple[int, int]]]:
        """`text` composed (NFC), and where in it each word begins and ends."""
        pieces: list[str] = []
        found: list[tuple[int, int]] = []
        before = 0
        for group, _ in _groups([text]):
            for piece in group:
                codes = self._codes(_points([piece]))
                left = np.flatnonzero(~self._is_deleted(codes))
                starts, ends = self._bounds(codes[left])
                # The first code is the separator before the text.
                found += zip(
                    (left[starts] - 1 + before).tolist(),
                    (left[ends] + before).tolist(),
                    strict=True,
                )
                pieces.append(piece)
                before += len(piece)
        return "".join(pieces), found

    def _group(self, texts: Sequence[str]) -> tuple[Array, Counts]:
        points = _points(texts)
        ends = np.cumsum([len(text) + 1 for text in texts])
        if find := native.function("find_words", "uint32[] int64[] int uint32[] int int uint64[] int64[]"):
            words: Array = np.empty(len(points), np.uint64)
            counts = np.empty(len(texts), np.int64)
            settings = int(self._normal.numbers), int(self._first_letter)
            while (found := find(points, ends, len(ends), self._table, *settings, words, counts)) < 0:
                self._learn(points)
            return words[:found], counts
        codes = self._codes(points)
        begins = np.append(0, ends[:-1])
        deleted = np.flatnonzero(self._is_deleted(codes))
        if len(deleted):
            codes = np.delete(codes, deleted)
            begins -= np.searchsorted(deleted, begins)
        starts, ends = self._bounds(codes)
        power, inverse = _powers(max(CHUNK * 2, 1 << len(codes).bit_length()))
        sums = np.cumsum(codes * power[: len(codes)], dtype=np.uint64)
        before = sums[starts - 1]  # a text never begins the array: see _points
        words = mix((sums[ends] - before) * inverse[starts])
        bounds = np.append(np.searchsorted(starts, begins), len(starts))
        return words, np.diff(bounds)

    def _bounds(self, codes: Codes) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """First and last character of each word."""
        letter = codes >= self._first_letter
        starts_here, ends_here = letter.copy(), letter.copy()
        starts_here[1:] &= ~letter[:-1]
        ends_here[:-1] &= ~letter[1:]
        if (alone := codes >= ALONE).any():
            starts_here |= alone
            starts_here[1:] |= letter[1:] & alone[:-1]
            ends_here |= alone
            ends_here[:-1] |= letter[:-1] & alone[1:]
        return np.flatnonzero(starts_here), np.flatnonzero(ends_here)

    def _codes(self, points: Codes) -> Codes:
        """Normal forms of characters."""
        codes = self._table[points]
        if not codes.all():
            self._learn(points)
            codes = self._table[points]
        return codes

    def _learn(self, points: Codes) -> None:
        """Fill the table for characters that have not been seen before."""
        for point in np.unique(points[self._table[points] == UNKNOWN]).tolist():
            self._table[point] = self._normal_code(point)

    def _is_deleted(self, codes: Codes) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Combining marks, and of a number all but its first digit."""
        deleted = codes == DELETED
        if self._normal.numbers:
            digit = codes == ZERO
            joint = (codes == POINT) | (codes == COMMA)
            joint[1:] &= digit[:-1]
            joint[:-1] &= digit[1:]
            joint[-1] = False
            number = digit | joint
            deleted[1:] |= number[1:] & number[:-1]
        result: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = deleted
        return result

    def _normal_code(self, point: int) -> int:
        normal = self._normal
        letter = chr(point)
        kind = unicodedata.category(letter)
        if letter.isspace() or kind in ("Cc", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"):
            return SEPARATOR
        if kind == "Cf":
            return DELETED
        if normal.numbers and kind == "Nd":
            return ZERO
        if kind[0] in "PS" and normal.punctuation:
            return point if point in (POINT, COMMA) and normal.numbers else SEPARATOR
        if normal.lower_case:
            letter = letter.lower()
        if normal.accents:
            letter = "".join(c for c in unicodedata.normalize("NFD", letter) if unicodedata.category(c) != "Mn")
            if not letter:
                return DELETED
        # What is more than one character in its normal form (a Hangul syllable in NFD) stands for itself.
        letter = unicodedata.normalize("NFC", letter)
        code = ord(letter) if len(letter) == 1 else point
        return code | int(ALONE) if any(low <= code <= high for low, high in _ALONE_RANGES) else code


def _groups(texts: Sequence[str]) -> Iterator[tuple[list[str], list[int]]]:
    """Texts in groups of about CHUNK characters, long ones cut at white space; with the number of the text of each."""
    group: list[str] = []
    owners: list[int] = []
    size = 0
    for number, text in enumerate(texts):
        for piece in (text,) if len(text) <= CHUNK else _pieces(text):
            if size + len(piece) > CHUNK and group:
                yield group, owners
                group, owners, size = [], [], 0
            # Composed and decomposed spellings are the same text; ASCII has only one.
            group.append(piece if piece.isascii() else unicodedata.normalize("NFC", piece))
            owners.append(number)
            size += len(piece) + 1
    if group:
        yield group, owners


def _pieces(text: str) -> Iterator[str]:
    begin = 0
    while len(text) - begin > CHUNK:
        end = max(text.rfind(" ", begin + 1, begin + CHUNK), text.rfind("\n", begin + 1, begin + CHUNK))
        end = end if end > 0 else begin + CHUNK
        yield text[begin:end]
        begin = end
    yield text[begin:] if begin else text


def _points(texts: Sequence[str]) -> Codes:
    """All characters, a separator before each text."""
    joined = "\n" + "\n".join(texts)
    return np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)


def shingles(words: Array, counts: Counts, n: int) -> tuple[Array, Counts]:
    """Hashes of the runs of `n` words of each text, and how many each text has.

    A text of fewer words has one shingle, of all its words; a text without words has none.
    """
    if not len(words):
        return words, np.zeros_like(counts)
    factors = random_numbers(n, n) | np.uint64(1)
    sizes = np.where(counts >= n, counts - n + 1, np.minimum(counts, 1))
    if find := native.function("find_shingles", "uint64[] int64[] int uint64[] int uint64[]"):
        found = np.empty(sizes.sum(), np.uint64)
        find(words, counts, len(counts), factors, n, found)
        return found, sizes
    text = np.repeat(np.arange(len(counts)), counts)
    sums = words * factors[0]
    inside = np.ones(len(words), bool)
    for distance in range(1, min(n, len(words))):
        inside = text[distance:] == text[:-distance]
        sums[:-distance] += np.where(inside, words[distance:] * factors[distance], np.uint64(0))
    chosen = np.zeros(len(words), bool)
    if n <= len(words):
        chosen[: len(inside)] = inside
    first = np.cumsum(counts) - counts
    chosen[first[counts > 0]] = True
    return mix(sums[chosen]), sizes
