"""Gopher's repetition rules (arXiv 2112.11446, table A1): pages that say the same thing again and again.

All shares of characters are of the characters of the text. N-grams are compared by 64-bit hashes of their words
(`native/repetition.c`, or NumPy, in which the same is written below).
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from pydantic import Field

from llmdata import native
from llmdata.config import Section
from llmdata.document import Document, Rejection
from llmdata.text import TextView

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_ODD = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: multiplier of the rolling hash

Share = float | None


class GopherRepetitionConfig(Section):
    """Reject a page where a share is above its threshold; `null` switches a rule off."""

    duplicate_paragraphs: Share = Field(0.30, ge=0, le=1)
    """Share of paragraphs (cut at blank lines) that occurred before."""
    duplicate_paragraph_characters: Share = Field(0.20, ge=0, le=1)
    """Share of characters in such paragraphs."""
    duplicate_lines: Share = Field(0.30, ge=0, le=1)
    """Share of lines that occurred before."""
    duplicate_line_characters: Share = Field(0.20, ge=0, le=1)
    """Share of characters in such lines."""
    top_2_gram: Share = Field(0.20, ge=0, le=1)
    """Share of characters in the most frequent pair of words: its length, spaces included, times its count."""
    top_3_gram: Share = Field(0.18, ge=0, le=1)
    """The same for three words."""
    top_4_gram: Share = Field(0.16, ge=0, le=1)
    """The same for four words."""
    duplicate_5_gram: Share = Field(0.15, ge=0, le=1)
    """Share of characters in runs of 5 words that occurred before, no word counted twice."""
    duplicate_6_gram: Share = Field(0.14, ge=0, le=1)
    """The same for 6 words."""
    duplicate_7_gram: Share = Field(0.13, ge=0, le=1)
    """The same for 7 words."""
    duplicate_8_gram: Share = Field(0.12, ge=0, le=1)
    """The same for 8 words."""
    duplicate_9_gram: Share = Field(0.11, ge=0, le=1)
    """The same for 9 words."""
    duplicate_10_gram: Share = Field(0.10, ge=0, le=1)
    """The same for 10 words."""


class GopherRepetition:
    """Rejects repetitive pages; the reason is the name of the threshold that was exceeded first."""

    name = "gopher_repetition"
    version = 2

    def __init__(self, config: GopherRepetitionConfig) -> None:
        self._config = config
        self._limits: dict[str, Share] = config.model_dump()
        self._least_duplicate_limit = min(
            (
                limit
                for rule, limit in self._limits.items()
                if rule.endswith("_gram") and rule[0] == "d" and limit is not None
            ),
            default=1.0,
        )
        self._n_grams_in_c = native.function(
            "repetition_n_grams", "uint64[] int64[] int int float64[] int uint64[] int64[]"
        )
        limits = [limit for rule, limit in self._limits.items() if rule.endswith("_gram")]
        self._n_gram_limits = [math.inf if limit is None else limit for limit in limits]
        self._odd = int.from_bytes(os.urandom(7), "little") | 1

    def __call__(self, doc: Document) -> Document | Rejection:
        text = doc.text
        if not text:
            return Rejection(doc, self.name, "empty")
        view = doc.view
        return (
            self._duplicates(doc, "duplicate_paragraph", view.paragraphs)
            or self._duplicates(doc, "duplicate_line", _filled_lines(view))
            or self._n_grams(doc, view)
            or doc
        )

    def _duplicates(self, doc: Document, what: str, parts: list[str]) -> Rejection | None:
        distinct = set(parts)
        if len(distinct) == len(parts):
            return None
        characters = sum(map(len, parts)) - sum(map(len, distinct))
        return self._above(doc, f"{what}s", (len(parts) - len(distinct)) / len(parts)) or self._above(
            doc, f"{what}_characters", characters / len(doc.text)
        )

    def _n_grams(self, doc: Document, view: TextView) -> Rejection | None:
        import numpy as np

        words = view.tokens.hashes
        if len(words) < 2:
            return None
        if self._n_grams_in_c and len(words) < 1 << 31:
            limits, found = np.array([*self._n_gram_limits, self._least_duplicate_limit]), np.zeros(1, np.int64)
            scratch = np.empty(6 * len(words) + 1, np.uint64)
            text = words, view.tokens.lengths, len(words), len(doc.text)
            n = self._n_grams_in_c(*text, limits, self._odd, scratch, found)
            rule = f"top_{n}_gram" if n <= 4 else f"duplicate_{n}_gram"
            return self._above(doc, rule, int(found[0]) / len(doc.text)) if n else None
        # ends[i] is the number of characters of the words before word i
        ends = np.zeros(len(words) + 1, np.int64)
        np.cumsum(view.tokens.lengths, out=ends[1:])
        hashes = words
        # What occurs twice as an n-gram occurs twice as an (n-1)-gram: only those positions need another look.
        repeated: npt.NDArray[np.intp] | None = None
        for n in range(2, 11):
            if len(words) < n:
                return None
            hashes = hashes[:-1] * np.uint64(_ODD) + words[n - 1 :]
            repeated, top, count = _repeated(hashes, repeated)
            if n <= 4:
                characters = int(ends[top + n] - ends[top] + n - 1) * count
                rejection = self._above(doc, f"top_{n}_gram", characters / len(doc.text))
            else:
                characters = _duplicate_characters(hashes, repeated, ends, n)
                rejection = self._above(doc, f"duplicate_{n}_gram", characters / len(doc.text))
            if rejection:
                return rejection
            if n >= 4 and _covered(repeated, ends, n) / len(doc.text) <= self._least_duplicate_limit:
                return None  # longer repeated n-grams lie within these
        return None

    def _above(self, doc: Document, rule: str, share: float) -> Rejection | None:
        limit = self._limits[rule]
        if limit is None or share <= limit:
            return None
        return Rejection(doc, self.name, rule, f"{share:.4g} > {limit:g}")


def _filled_lines(view: TextView) -> list[str]:
    """Lines as cut at runs of newlines: blank lines vanish, but for one at either end."""
    lines = view.lines
    if "\n\n" not in view.text:
        return lines
    return [lines[0], *filter(None, lines[1:-1]), lines[-1]]


def _repeated(
    hashes: npt.NDArray[np.uint64], among: npt.NDArray[np.intp] | None
) -> tuple[npt.NDArray[np.intp], int, int]:
    """Positions whose hash occurs more than once, and the most frequent hash: its first position and its count.

    `among` are the positions that can be repeated (None: all).
    """
    import numpy as np

    if among is None:
        positions = hashes.argsort()
        values = hashes[positions]
    else:
        among = among[among < len(hashes)]
        values = hashes[among]
        order = values.argsort()
        positions, values = among[order], values[order]
        del order
    equal = values[1:] == values[:-1]
    if not equal.any():
        return positions[:0], 0, 1
    starts = np.flatnonzero(np.concatenate(([True], ~equal)))
    counts = np.concatenate((starts[1:], [len(values)])) - starts
    # Of equally frequent ones the first in the text counts, as in a Python Counter.
    most = int(counts.max())
    top = int(np.minimum.reduceat(positions, starts)[counts == most].min())
    in_group = np.zeros(len(values), bool)
    in_group[1:] = equal
    in_group[:-1] |= equal
    repeated = positions[in_group]
    repeated.sort()
    return repeated, top, most


def _covered(repeated: npt.NDArray[np.intp], ends: npt.NDArray[np.int64], n: int) -> int:
    """Characters of the words that lie in a repeated n-gram."""
    import numpy as np

    if not len(repeated):
        return 0
    starts, stops = ends[repeated], ends[repeated + n]
    overlap = np.maximum(stops[:-1] - starts[1:], 0)
    return int((stops - starts).sum() - overlap.sum())


def _duplicate_characters(
    hashes: npt.NDArray[np.uint64], repeated: npt.NDArray[np.intp], ends: npt.NDArray[np.int64], n: int
) -> int:
    """Characters of n-grams that were read before, reading on behind each such n-gram."""
    seen: set[int] = set()
    characters, free = 0, 0
    for position, value, length in zip(
        repeated.tolist(),
        hashes[repeated].tolist(),
        (ends[repeated + n] - ends[repeated]).tolist(),
        strict=True,
    ):
        if position < free:
            continue
        if value in seen:
            characters += length
            free = position + n
        else:
            seen.add(value)
    return characters
