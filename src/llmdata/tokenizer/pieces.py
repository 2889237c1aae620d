"""Long texts in pieces whose ids, one after the other, are those of the whole: memory is bounded by a piece."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

PIECE = 4_000_000
"""Bytes of text that are encoded at once, about; a word is never cut."""
_WINDOW = 1 << 16
"""Bytes in which a break is looked for; if there is none, the piece is one longer."""

_BREAK = re.compile(r"\S(?:(?= )|\n(?=[^\s/]))")
r"""Where each of our patterns ends a word whatever comes before and after: before a blank that follows no blank, and
after a line feed between two other characters.

A blank is the first character of a word or within a run of blanks, and no run begins before it. A line feed is a word
by itself or ends one of signs, which o200k goes on with `/`. What lies to the left keeps its words, as the patterns
look ahead from a run of blanks alone, and behind it there still is the character before the break; what lies to the
right does, as they never look back.
"""


def cut_long(texts: pa.LargeStringArray, size: int = PIECE) -> tuple[pa.LargeStringArray, npt.NDArray[np.int64]]:
    """`texts` (no nulls) in pieces of about `size` bytes, without a copy, and which text each piece is of."""
    import pyarrow as pa

    _, ends, data = texts.buffers()
    bounds = np.frombuffer(ends, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    if not len(texts) or int(np.diff(bounds).max()) <= size:
        return texts, np.arange(len(texts))
    raw = memoryview(data)
    starts: list[int] = []
    owners: list[int] = []
    for number, (start, end) in enumerate(itertools.pairwise(bounds.tolist())):
        found = [start, *_breaks(raw, start, end, size)]
        starts += found
        owners += [number] * len(found)
    offsets = pa.py_buffer(np.array([*starts, int(bounds[-1])], np.int64))
    return pa.LargeStringArray.from_buffers(len(starts), offsets, data), np.array(owners)


def _breaks(raw: memoryview, start: int, end: int, size: int) -> Iterator[int]:
    """Where to cut the text raw[start:end], once every `size` bytes if there is a break soon."""
    for target in range(start + size, end, size):
        window = bytes(raw[target : min(target + min(_WINDOW, size), end)])
        whole = window.lstrip(_INSIDE)  # of a character that began before it
        if found := _BREAK.search(text := whole.decode("utf-8", "ignore")):
            yield target + len(window) - len(whole) + len(text[: found.end()].encode())


_INSIDE = bytes(range(0x80, 0xC0))


def batches_of(pieces: pa.LargeStringArray, size: int = PIECE) -> Iterator[slice]:
    """Neighbours of at most `size` bytes together, or one piece that is longer."""
    _, ends, _ = pieces.buffers()
    bounds = np.frombuffer(ends, np.int64)[pieces.offset : pieces.offset + len(pieces) + 1]
    start = 0
    while start < len(pieces):
        end = max(start + 1, int(np.searchsorted(bounds, bounds[start] + size, "right")) - 1)
        yield slice(start, end)
        start = end
