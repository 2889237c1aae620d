"""Connected components of a graph that comes as a stream of edges, in 4 or 8 bytes a node."""

from __future__ import annotations

from typing import Any

import numpy as np

BLOCK = 1 << 20


class UnionFind:
    """Disjoint sets over the nodes 0 … size − 1. The root of a set is its least node.

    All edges of a batch are handled at once: the greater root of each edge is hung under the smaller, until no edge
    connects two trees. Which order edges come in does not matter to the result.
    """

    def __init__(self, size: int) -> None:
        self.parents = np.arange(size, dtype=np.uint32 if size <= 1 << 32 else np.int64)

    def union(self, left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> None:
        """Join the sets of each pair of nodes."""
        while len(left):
            left, right = self.find(left), self.find(right)
            apart = left != right
            left, right = left[apart], right[apart]
            # The least of several new parents: with any one, a star of n edges could take n rounds; so it is O(log n).
            np.minimum.at(self.parents, np.maximum(left, right), np.minimum(left, right))

    def find(self, nodes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The root of each node; paths are halved on the way."""
        parents = self.parents
        while True:
            above = parents[nodes]
            top = parents[above]
            if np.array_equal(above, top):
                found: np.ndarray[Any, Any] = above
                return found
            parents[nodes] = top
            nodes = top

    def flatten(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Hang every node directly under its root: `parents` then holds the root of each.

        Returns which roots have other nodes under them.
        """
        shared = np.zeros(len(self.parents), bool)
        for begin in range(0, len(self.parents), BLOCK):
            nodes = np.arange(begin, min(begin + BLOCK, len(self.parents)))
            roots = self.parents[nodes] = self.find(nodes)
            shared[roots[roots != nodes]] = True
        return shared
