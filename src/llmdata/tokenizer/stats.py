"""Figures of an encoding on a sample of text: `stats.json`."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from llmdata.storage.encoding_kinds import UNKNOWN, BpeEncoding, Encoding


def measure(encoding: Encoding, texts: Sequence[str]) -> dict[str, Any]:
    """Compression on `texts` and use of the vocabulary there, and the longest tokens."""
    data = [text.encode("utf-8", "replace") for text in texts]
    ids, _ = encoding.encode_batch(data)
    size, characters = sum(map(len, data)), sum(map(len, texts))
    stats: dict[str, Any] = {"kind": encoding.kind, "n_vocab": encoding.n_vocab}
    if len(ids):
        stats["sample"] = {
            "documents": len(texts),
            "bytes": size,
            "tokens": len(ids),
            "bytes_per_token": round(size / len(ids), 4),
            "characters_per_token": round(characters / len(ids), 4),
            "vocabulary_used": round(len(np.unique(ids)) / encoding.n_vocab, 4),
        }
        if UNKNOWN in encoding.special_tokens:
            stats["sample"]["unknown"] = int((ids == encoding.special_tokens[UNKNOWN]).sum())
    stats["longest_tokens"] = _longest(encoding, 20)
    return stats


def _longest(encoding: Encoding, count: int) -> list[str]:
    tokens = heapq.nsmallest(count, ordinary_tokens(encoding).values(), key=lambda token: (-len(token), token))
    return [token.decode("utf-8", "backslashreplace") for token in tokens]


def ordinary_tokens(encoding: Encoding) -> dict[int, bytes]:
    """What every token but the special ones stands for."""
    if isinstance(encoding, BpeEncoding):
        return dict(sorted((rank, token) for token, rank in encoding.ranks.items()))
    special = set(encoding.special_tokens.values())
    tokens = {}
    for token in range(encoding.n_vocab):
        try:
            if token not in special:
                tokens[token] = encoding.token_bytes(token)
        except ValueError:
            continue  # some vocabularies leave ids unused
    return tokens
