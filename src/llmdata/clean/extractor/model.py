"""Boosted oblivious trees.

Oblivious trees (CatBoost's) ask the same question of every row at the same depth, so a tree of depth 6 is six
comparisons of whole columns and one look-up in a table of 64 leaves: 300 blocks through 200 trees take half a
millisecond in NumPy, less in C, and no training library is needed. Leaves are integers, so the sum does not depend on
its order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from llmdata import native
from llmdata.clean.extractor.lexicon import Lexicon

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

LEAF_UNIT = 1 << 16
"""Leaves are log-odds in units of one part in 65,536."""
P_UNIT = 1 << 12
"""Probabilities are multiples of one part in 4,096, so that what is summed from them is exact."""


@dataclass(frozen=True, slots=True)
class Trees:
    """An ensemble of T trees of depth D; `predict` wants features as (features, rows)."""

    features: Array
    """(T · D) of int32: the row of the feature that each level asks about."""
    borders: Array
    """(T · D) of float32: the answer is 1 above the border."""
    leaves: Array
    """(T, 2^D) of int32; level d of a tree is bit d of the leaf's number. The sum over trees fits 31 bits."""
    bias: int

    def predict(self, columns: Array) -> Array:
        """Probabilities, (rows) of float64, of features (features, rows) of float32."""
        import numpy as np

        n_trees, n_leaves = self.leaves.shape
        depth = n_leaves.bit_length() - 1
        if native_sum := native.function("trees_sum", "float32[] int int32[] float32[] int32[] int int int32[]"):
            if self.features.view(np.uint32).max() >= len(columns):
                raise IndexError(f"trees that ask about more than the {len(columns)} features at hand")
            sums = np.full(columns.shape[1], self.bias, np.int32)
            rows = np.ascontiguousarray(columns)
            native_sum(rows, len(sums), self.features, self.borders, self.leaves, n_trees, depth, sums)
            return _probability(sums)
        out = np.empty(columns.shape[1])
        flat = self.leaves.ravel()
        base = (np.arange(n_trees, dtype=np.intp) * n_leaves)[:, None]
        # Pages of any size in memory that fits the cache.
        for first in range(0, columns.shape[1], _ROWS):
            part = columns[:, first : first + _ROWS]
            above = (
                (np.take(part, self.features, axis=0) > self.borders[:, None])
                .view(np.uint8)
                .reshape(n_trees, depth, -1)
            )
            leaf = above[:, depth - 1].copy()  # of one byte: depth is 8 at most
            for level in range(depth - 2, -1, -1):
                leaf += leaf
                leaf += above[:, level]
            score = np.take(flat, leaf + base).sum(axis=0, dtype=np.int32) + self.bias
            out[first : first + _ROWS] = _probability(score)
        return out


_ROWS = 512


def _probability(score: Array) -> Array:
    import numpy as np

    return np.rint(P_UNIT / (1 + np.exp(score / -LEAF_UNIT))) / P_UNIT


@dataclass(frozen=True, slots=True)
class Weights:
    """All that training leaves: two ensembles, the features that they ask about, and the log-odds of words."""

    first: Trees
    second: Trees
    features: tuple[str, ...]
    """Those of the page, which the first reads and the second too."""
    context: tuple[str, ...]
    """Those that the first's opinion makes, which only the second reads: their rows follow the others'."""
    names: Lexicon
    words: Lexicon
    breadth: float
    """How far below the best cut of a page a block may lie (see `choose`)."""


def pack(weights: Weights) -> dict[str, Array]:
    """`weights` as named arrays, for `numpy.savez_compressed`."""
    import numpy as np

    texts = {
        "features": weights.features,
        "context": weights.context,
        **{kind: sorted(getattr(weights, kind)) for kind in _VOCABULARIES},
    }
    out = {
        name: np.frombuffer(json.dumps(list(value), ensure_ascii=False).encode(), np.uint8)
        for name, value in texts.items()
    }
    for kind in _VOCABULARIES:
        table = getattr(weights, kind)
        out[f"{kind}_scores"] = np.array([round(table[token] * SCORE_UNIT) for token in texts[kind]], np.int16)
    for stage in ("first", "second"):
        trees: Trees = getattr(weights, stage)
        out |= {f"{stage}_{part}": getattr(trees, part) for part in ("borders", "leaves")}
        out[f"{stage}_asks"] = trees.features
        out[f"{stage}_bias"] = np.array(trees.bias, np.int64)
    out["breadth"] = np.array(weights.breadth)
    return out


_VOCABULARIES = ("names", "words")
SCORE_UNIT = 256
"""Log-odds of words are kept in multiples of one part in 256."""


def unpack(stored: dict[str, Array]) -> Weights:
    """The inverse of `pack`, but for log-odds of words, which are rounded to 1/256."""

    def strings(name: str) -> list[str]:
        return json.loads(stored[name].tobytes())  # type: ignore[no-any-return]

    def trees(stage: str) -> Trees:
        return Trees(
            features=stored[f"{stage}_asks"],
            borders=stored[f"{stage}_borders"],
            leaves=stored[f"{stage}_leaves"],
            bias=int(stored[f"{stage}_bias"]),
        )

    tables = {
        kind: Lexicon(zip(strings(kind), (stored[f"{kind}_scores"] / SCORE_UNIT).tolist(), strict=True))
        for kind in _VOCABULARIES
    }
    return Weights(
        first=trees("first"),
        second=trees("second"),
        features=tuple(strings("features")),
        context=tuple(strings("context")),
        breadth=float(stored["breadth"]),
        **tables,
    )


@cache
def shipped() -> Weights:
    """The weights in the package; `weights.json` beside them says what they were trained on."""
    import numpy as np

    with (
        (files("llmdata.clean.extractor") / "weights.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        return unpack(dict(stored))


def choose(p: Array, words: Array, breadth: float) -> Array:
    """Which blocks to keep: those that make the expected word F1 of the page best.

    For blocks kept in the order of their probability, F1 = 2 Σ kept p·words / (Σ kept words + Σ all p·words); it is
    largest where p falls below half of itself (Lipton, Elkan and Narayanaswamy 2014, arXiv 1402.1892). On a page where
    much is unsure the cut lies low, on a clear one near a half. `breadth` below 1 lowers it, above 1 raises it.
    """
    import numpy as np

    order = np.argsort(-p, kind="stable")
    mass, size = np.cumsum((p * words)[order]), np.cumsum(words[order])
    if mass[-1] <= 0:
        return np.zeros(len(p), bool)
    best = float((2 * mass / (size + mass[-1])).max())
    return p >= min(best / 2 * breadth, float(p.max()))
