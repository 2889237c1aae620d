"""Long texts in pieces whose ids, one after the other, are those of the whole: memory is bounded by a piece."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llmdata.storage.long_words import breaks

if TYPE_CHECKING:
    import pyarrow as pa

PIECE = 1_000_000
"""Bytes of text that are encoded at once, about; a word is never cut. Where each byte is a token, its ids take several
times as much in turn: as gigatoken's, in the width of the shards, and with the end of text."""


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
        found = [start, *breaks(raw, start, end, size)]
        starts += found
        owners += [number] * len(found)
    offsets = pa.py_buffer(np.array([*starts, int(bounds[-1])], np.int64))
    return pa.LargeStringArray.from_buffers(len(starts), offsets, data), np.array(owners)


def batches_of(pieces: pa.LargeStringArray, size: int = PIECE) -> Iterator[slice]:
    """Neighbours of at most `size` bytes together, or one piece that is longer."""
    _, ends, _ = pieces.buffers()
    bounds = np.frombuffer(ends, np.int64)[pieces.offset : pieces.offset + len(pieces) + 1]
    start = 0
    while start < len(pieces):
        end = max(start + 1, int(np.searchsorted(bounds, bounds[start] + size, "right")) - 1)
        yield slice(start, end)
        start = end
