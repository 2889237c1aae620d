"""Placement: every token of every document lands in one shard, once, and shards keep their size."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmdata.tokenizer.placement import Entries, cut_tail, entries_of, find_tail, place

PARTS = st.lists(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=12), min_size=1, max_size=5)


def made(parts: list[list[tuple[int, bool]]]) -> Entries:
    def column(part: list[tuple[int, bool]], index: int, kind: Any) -> Any:
        return np.array([doc[index] for doc in part], dtype=kind)

    return entries_of(
        [
            {"tokens": column(part, 0, np.int64), "bytes": column(part, 0, np.int64) * 4, "val": column(part, 1, bool)}
            for part in parts
        ]
    )


def pieces(entries: Entries) -> list[tuple[int, int]]:
    """(part, token) of every token there is."""
    return sorted(
        (int(entry["part"]), int(entry["offset"]) + at) for entry in entries for at in range(int(entry["length"]))
    )


@given(PARTS, st.integers(1, 100), st.none() | st.integers(-5, 2**70))
def test_nothing_is_lost_and_shards_are_full(
    parts: list[list[tuple[int, bool]]], shard_tokens: int, seed: int | None
) -> None:
    entries = made(parts)
    placed = place(entries, shard_tokens, seed)
    assert pieces(placed) == pieces(entries)
    for split in (0, 1):
        chosen = placed[placed["split"] == split]
        assert sorted(zip(chosen["part"], chosen["row"], strict=True)) == sorted(
            (number, row) for number, part in enumerate(parts) for row, doc in enumerate(part) if doc[1] == split
        )
        shards = chosen["shard"].tolist()
        assert shards == sorted(shards)
        assert sorted(set(shards)) == list(range(len(set(shards))))
        sizes = []
        for shard in range(len(set(shards))):
            inside = chosen[chosen["shard"] == shard]
            assert inside["first"].tolist() == (np.cumsum(inside["length"]) - inside["length"]).tolist()
            sizes.append(int(inside["length"].sum()))
            assert sizes[-1] <= shard_tokens or len(inside) == 1
            following = chosen[chosen["shard"] == shard + 1]
            assert not len(following) or sizes[-1] + following["length"][0] > shard_tokens


@given(PARTS.filter(lambda parts: any(parts)), st.floats(0.001, 0.999))
def test_the_tail_is_as_long_as_asked(parts: list[list[tuple[int, bool]]], share: float) -> None:
    entries = made([[(tokens, False) for tokens, _ in part] for part in parts])
    cut = find_tail(entries, share)
    after = cut_tail(entries, cut, 0)
    assert pieces(after) == pieces(entries)
    assert after["split"].tolist() == sorted(after["split"].tolist())
    assert after["bytes"].sum() == entries["bytes"].sum()
    total = int(entries["length"].sum())
    val = int(after["length"][after["split"] == 1].sum())
    assert val - round(total * share) in (0, 1), "one more where only an end-of-text token would stay behind"


def test_a_seed_is_a_permutation_of_its_own() -> None:
    entries = made([[(1, False)] * 500])
    orders = {seed: place(entries, None, seed)["row"].tolist() for seed in (None, 0, 1, 2)}
    assert orders[None] == list(range(500))
    assert len({tuple(order) for order in orders.values()}) == 4
    assert all(sorted(order) == list(range(500)) for order in orders.values())
    # The order is part of the format: it may not change with NumPy or with us.
    assert orders[1][:8] == place(entries, 7, 1)["row"].tolist()[:8]
