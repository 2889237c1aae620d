"""Union–find against brute force."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdata.dedup.clusters import UnionFind


def least_reachable(size: int, edges: list[tuple[int, int]]) -> list[int]:
    roots = list(range(size))
    for _ in range(size):
        for left, right in edges:
            roots[left] = roots[right] = min(roots[left], roots[right])
    return roots


def components(size: int, edges: list[tuple[int, int]], batch: int) -> tuple[list[int], list[bool]]:
    sets = UnionFind(size)
    for at in range(0, len(edges), batch):
        left, right = np.array(edges[at : at + batch], np.int64).T
        sets.union(left, right)
    shared = sets.flatten()
    return sets.parents.tolist(), shared.tolist()


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40), st.integers(1, 50))
def test_roots_are_the_least_that_can_be_reached(edges: list[tuple[int, int]], batch: int) -> None:
    expected = least_reachable(20, edges)
    roots, shared = components(20, edges, batch)
    assert roots == expected
    assert shared == [expected.count(node) > 1 for node in range(20)]


@pytest.mark.parametrize("shape", ["chain", "star from the greatest", "shuffled chain", "comb"])
def test_hard_shapes_of_100000_nodes(shape: str) -> None:
    size = 100_000
    chain = [(node, node + 1) for node in range(size - 1)]
    edges = {
        "chain": chain,
        "star from the greatest": [(size - 1, node) for node in range(size - 1)],
        "shuffled chain": random.Random(1).sample(chain, len(chain)),
        "comb": [(node % (size // 2) + size // 2, node % 7 + node // 2) for node in range(size - 20)],
    }[shape]
    roots, _ = components(size, edges, len(edges))
    assert shape == "comb" or set(roots) == {0}
    assert all(roots[root] == root for root in set(roots))
