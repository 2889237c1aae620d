"""Token shards: the format that llm.c and modded-nanogpt read, and the index beside Megatron-LM's.

A shard of llm.c's is a header of 256 little-endian int32 (magic, version, token count, zeros), then the tokens: uint16
with magic 20240520 and version 1 for vocabularies up to 65,536, uint32 with magic 20240801 and version 7 beyond. Each
document is preceded by the end-of-text token.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llmdata.errors import InputError
from llmdata.storage.place import Place

HEADER_BYTES = 1024
FORMATS: dict[tuple[int, int], Any] = {(20240520, 1): np.dtype("<u2"), (20240801, 7): np.dtype("<u4")}

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


def dtype_for(vocab_size: int) -> np.dtype[Any]:
    """uint16 where every id of the vocabulary fits, else uint32."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


def header(dtype: np.dtype[Any], count: int) -> bytes:
    """The 1,024 bytes before `count` tokens of `dtype`."""
    magic, version = next(key for key, value in FORMATS.items() if value == dtype)
    fields = np.zeros(256, dtype="<i4")
    fields[:3] = magic, version, count
    return fields.tobytes()


def megatron_index(dtype: np.dtype[Any], lengths: npt.NDArray[np.int64]) -> bytes:
    """The `.idx` beside a `.bin` of Megatron-LM: `lengths` are the tokens of its documents, each one sequence.

    Layout as in megatron/core/datasets/indexed_dataset.py (version 1): magic, version, code of the dtype, how many
    sequences and document bounds; lengths (int32), places in bytes (int64), first sequence of each document (int64).
    """
    codes = {"int32": 4, "uint16": 8}
    head = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, codes[dtype.name], len(lengths), len(lengths) + 1)
    places = (np.cumsum(lengths) - lengths) * dtype.itemsize
    bounds = np.arange(len(lengths) + 1)
    return head + lengths.astype("<i4").tobytes() + places.astype("<i8").tobytes() + bounds.astype("<i8").tobytes()


@dataclass(frozen=True, slots=True)
class ShardHeader:
    """What the header of a token shard says."""

    dtype: np.dtype[Any]
    tokens: int


def read_header(place: Place) -> ShardHeader:
    """Read and check a shard's header; raises InputError if it is not a shard or its length disagrees."""
    with place.open() as stream:
        raw = stream.read(HEADER_BYTES)
    if len(raw) < HEADER_BYTES:
        raise InputError(
            f"{place}: too short for a token shard ({len(raw)} bytes); make it again with `llmdata tokenize`"
        )
    magic, version, count = (int(value) for value in np.frombuffer(raw, dtype="<i4", count=3))
    dtype = FORMATS.get((magic, version))
    if dtype is None:
        raise InputError(f"{place}: not a token shard (magic {magic}, version {version})")
    expected = HEADER_BYTES + count * dtype.itemsize
    if place.size() != expected:
        raise InputError(f"{place}: {place.size()} bytes, but its header promises {count} tokens = {expected} bytes")
    return ShardHeader(dtype, count)


def open_tokens(place: Place) -> Tokens:
    """The tokens of a shard as a read-only memory map; one that lies elsewhere is fetched first."""
    head = read_header(place)
    return np.memmap(place.on_disk(), dtype=head.dtype, mode="r", offset=HEADER_BYTES, shape=(head.tokens,))
