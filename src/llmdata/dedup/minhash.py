"""Near-duplicates by MinHash with banding, as FineWeb does it (arXiv 2406.17557): the map side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from llmdata import native
from llmdata.dedup.config import MinhashConfig
from llmdata.dedup.rank import ranks, scope_salts
from llmdata.dedup.shuffle import DocumentShuffle
from llmdata.dedup.words import Normal, Words, mix, random_numbers, shingles

if TYPE_CHECKING:
    import pyarrow as pa

    from llmdata.dedup.words import Array, Counts
    from llmdata.document import Document

BLOCK = 1 << 16
"""Shingles hashed together: their products stay in the second-level cache."""


def signatures(hashes: Array, counts: Counts, factors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """MinHash signatures: for each text and each factor the least of `shingle × factor` modulo the word size.

    `hashes` holds the shingles of one text after the other, `counts` how many each has, all at least 1. Multiplying by
    an odd number permutes the residues modulo 2**64, and shingles are already spread evenly: nothing need be added.
    """
    hashes = hashes if factors.dtype == np.uint64 else (hashes >> np.uint64(32)).astype(factors.dtype)
    ends = np.cumsum(counts)
    result = np.empty((len(counts), len(factors)), factors.dtype)
    word = f"{factors.dtype}[]"
    if native_signatures := native.function(f"minhash_{factors.itemsize * 8}", f"{word} int64[] int {word} int {word}"):
        native_signatures(hashes, ends, len(ends), factors, len(factors), result)
        return result
    first = 0
    while first < len(counts):
        begin = int(ends[first] - counts[first])
        last = max(first + 1, int(np.searchsorted(ends, begin + BLOCK, side="right")))
        block = hashes[begin : ends[last - 1]]
        offsets = ends[first:last] - counts[first:last] - begin
        products = np.empty_like(block)
        for column, factor in enumerate(factors):
            np.multiply(block, factor, out=products)
            result[first:last, column] = np.minimum.reduceat(products, offsets)
        first = last
    return result


def band_keys(values: np.ndarray[Any, Any], bands: int) -> Array:
    """One 64-bit key for each band of each signature: (texts, bands × rows) → (texts, bands)."""
    grouped = values.reshape(len(values), bands, values.shape[1] // bands).astype(np.uint64)
    weights = random_numbers(grouped.shape[2], grouped.shape[2]) | np.uint64(1)
    return mix((mix(grouped) * weights).sum(axis=2, dtype=np.uint64))


class Minhash(DocumentShuffle):
    """Drops all but one of each cluster of near-duplicates."""

    name = "minhash"
    version = 1

    def __init__(self, config: MinhashConfig) -> None:
        self.config: MinhashConfig = config
        self.bands = tuple((f"band_{number:02}",) for number in range(config.bands))
        self.verify = config.verify_jaccard
        dtype = np.uint64 if config.hash_bits == 64 else np.uint32
        factors = random_numbers(config.seed, config.bands * config.rows) | np.uint64(1 << 32 | 1)
        self._factors = factors if dtype is np.uint64 else (factors >> np.uint64(32)).astype(dtype)

    @cached_property
    def schema(self) -> pa.Schema:
        import pyarrow as pa

        columns = [("id", pa.string()), ("rank", pa.int64()), *((band, pa.uint64()) for (band,) in self.bands)]
        if self.verify:
            columns.append(("shingles", pa.list_(pa.uint32())))
        return pa.schema(columns)

    def keys(self, docs: Sequence[Document]) -> pa.RecordBatch:
        import pyarrow as pa

        words, word_counts = self._words.hashes([doc.text for doc in docs])
        hashes, counts = shingles(words, word_counts, self.config.n_grams)
        some = np.flatnonzero(counts)
        keys = np.zeros((len(docs), len(self.bands)), np.uint64)
        values = signatures(hashes, counts[some], self._factors)
        keys[some] = band_keys(values, len(self.bands)) ^ scope_salts(docs, self.config.scope)[some, None]
        columns: list[Any] = [
            pa.array([doc.id for doc in docs], pa.string()),
            pa.array(ranks(docs, self.config)),
            *(pa.array(keys[:, band], mask=counts == 0) for band in range(len(self.bands))),
        ]
        if self.verify:
            columns.append(_sets(hashes, counts))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    @cached_property
    def _words(self) -> Words:
        return Words(Normal.of(self.config))


def _sets(hashes: Array, counts: Counts) -> pa.ListArray:
    """The shingles of each text as a sorted set of 32-bit hashes, from which its true similarity can be told.

    Two shingles out of a thousand fall together once in ten thousand texts: nothing next to a threshold.
    """
    import pyarrow as pa

    text = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
    pairs = np.unique(text << np.uint64(32) | hashes >> np.uint64(32))
    sizes = np.bincount((pairs >> np.uint64(32)).astype(np.int64), minlength=len(counts))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(pairs.astype(np.uint32)))
