"""Checking true similarity inside clusters, because bands link documents that are not alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

LEADERS = 200
"""Documents that stay of one cluster against which later ones are compared; it bounds the cost of a cluster of
thousands of documents that are all different. A document that is like none of these stays."""


@dataclass(slots=True)
class _Leader:
    doc: int
    id: str
    shingles: np.ndarray[Any, Any]


class Verifier:
    """Splits clusters: each document joins the first one that stays and is at least `least` similar, or stays too.

    Documents come cluster by cluster, within a cluster in the order of the keep rule.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._label = -1
        self._leaders: list[_Leader] = []

    def assign(
        self, labels: np.ndarray[Any, Any], docs: np.ndarray[Any, Any], ids: list[str], shingles: Any
    ) -> tuple[np.ndarray[Any, Any], list[str]]:
        """Number and id of the document that stays for each of `docs`; `shingles` is a list array of sorted sets."""
        leaders, leader_ids = docs.copy(), list(ids)
        offsets = np.asarray(shingles.offsets)
        values = np.asarray(shingles.values)
        bounds = np.flatnonzero(np.diff(labels)) + 1
        for begin, end in zip([0, *bounds.tolist()], [*bounds.tolist(), len(labels)], strict=True):
            if begin == end:
                continue
            if labels[begin] != self._label:
                self._label, self._leaders = int(labels[begin]), []
            rest = np.arange(begin, end)
            for leader in self._leaders:
                rest = self._join(leader, rest, offsets, values, leaders, leader_ids)
            while len(rest) and len(self._leaders) < LEADERS:
                first, rest = int(rest[0]), rest[1:]
                own = values[offsets[first] : offsets[first + 1]].copy()
                leader = _Leader(int(docs[first]), ids[first], own)
                self._leaders.append(leader)
                rest = self._join(leader, rest, offsets, values, leaders, leader_ids)
        return leaders, leader_ids

    def _join(
        self,
        leader: _Leader,
        rest: np.ndarray[Any, Any],
        offsets: np.ndarray[Any, Any],
        values: np.ndarray[Any, Any],
        leaders: np.ndarray[Any, Any],
        leader_ids: list[str],
    ) -> np.ndarray[Any, Any]:
        """Give `leader` the rows of `rest` that are like it; returns the others."""
        alike = np.zeros(len(rest), bool)
        for at, row in enumerate(rest.tolist()):
            alike[at] = jaccard(leader.shingles, values[offsets[row] : offsets[row + 1]]) >= self._least
        for row in rest[alike].tolist():
            leaders[row], leader_ids[row] = leader.doc, leader.id
        return rest[~alike]


def jaccard(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    """Jaccard similarity of two sorted sets: what they share over what they have together."""
    if not len(left) or not len(right):
        return 0.0
    shared = np.count_nonzero(left[np.minimum(np.searchsorted(left, right), len(left) - 1)] == right)
    return shared / (len(left) + len(right) - shared)
