"""Which document goes where: the split, the order and the shard of every document, decided for all at once.

Pure arithmetic on arrays, one entry a document: some 60 bytes for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SPLITS = ("train", "val")

ENTRY = np.dtype(
    [
        ("part", "<i4"),  # which encoded piece
        ("row", "<i4"),  # which of its documents
        ("offset", "<i8"),  # its first token there
        ("length", "<i8"),  # tokens
        ("bytes", "<i8"),  # UTF-8 bytes of its text
        ("split", "<i4"),  # index in SPLITS
        ("shard", "<i4"),
        ("first", "<i8"),  # its first token in the shard
    ]
)
Entries = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Cut:
    """Where `tail` cuts: the entry, and how many of its tokens are still for training."""

    entry: int
    tokens: int


def entries_of(parts: list[dict[str, npt.NDArray[Any]]]) -> Entries:
    """An entry for each document, in the order of the input. `parts`: columns tokens, bytes and val of each piece."""
    made = []
    for number, part in enumerate(parts):
        entries = np.zeros(len(part["tokens"]), dtype=ENTRY)
        entries["part"], entries["row"] = number, np.arange(len(entries))
        entries["length"], entries["bytes"] = part["tokens"], part["bytes"]
        entries["offset"] = np.cumsum(part["tokens"]) - part["tokens"]
        entries["split"] = part["val"]
        made.append(entries)
    return np.concatenate(made) if made else np.zeros(0, dtype=ENTRY)


def find_tail(entries: Entries, share: float) -> Cut:
    """Where the last `share` of all tokens begins."""
    ends = np.cumsum(entries["length"])
    train = int(ends[-1]) - round(int(ends[-1]) * share)
    entry = int(np.searchsorted(ends, train, side="right"))
    return Cut(entry, train - (int(ends[entry - 1]) if entry else 0))


def cut_tail(entries: Entries, cut: Cut, train_bytes: int) -> Entries:
    """Everything from `cut` on is for validation. The document that is cut becomes two entries.

    `train_bytes` is what the part before the cut has of its text.
    """
    entries = entries.copy()
    entries["split"][cut.entry :] = 1
    if cut.tokens <= 1 or cut.entry == len(entries):  # nothing but its end-of-text token would be left for training
        return entries
    head = entries[cut.entry : cut.entry + 1].copy()
    tail = entries[cut.entry]
    head["length"], head["bytes"], head["split"] = cut.tokens, train_bytes, 0
    tail["offset"] += cut.tokens
    tail["length"] -= cut.tokens
    tail["bytes"] -= train_bytes
    return np.insert(entries, cut.entry, head)


def place(entries: Entries, shard_tokens: int | None, shuffle_seed: int | None) -> Entries:
    """`entries` by split, each in its final order, with `shard` and `first` filled in.

    A shard ends before the document that would take it over `shard_tokens` (None: one shard a split); a longer
    document has a shard of its own.
    """
    placed = []
    for split in range(len(SPLITS)):
        chosen = np.flatnonzero(entries["split"] == split)
        if shuffle_seed is not None:
            chosen = chosen[np.argsort(_mix(chosen.astype(np.uint64), shuffle_seed), kind="stable")]
        part = entries[chosen]
        ends = np.cumsum(part["length"])
        begin = shard = 0
        while begin < len(part):
            base = int(ends[begin - 1]) if begin else 0
            end = len(part)
            if shard_tokens is not None:
                end = max(begin + 1, int(np.searchsorted(ends, base + shard_tokens, side="right")))
            part["shard"][begin:end] = shard
            part["first"][begin:end] = ends[begin:end] - part["length"][begin:end] - base
            begin, shard = end, shard + 1
        placed.append(part)
    return np.concatenate(placed)


def _mix(index: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea, Flood 2014) of each index: an order that no version of NumPy changes."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        mixed = (index + np.uint64(1)) * golden + np.uint64(seed % (1 << 64)) * np.uint64(0xD1342543DE82EF95)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)
