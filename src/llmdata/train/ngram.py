"""N-gram models with interpolated Kneser–Ney smoothing, counted by sorting: a baseline without a gradient.

For a token w after the tokens h = v₁ … v₍ₖ₋₁₎, and h′ = v₂ … v₍ₖ₋₁₎ (Chen and Goodman, "An empirical study of smoothing
techniques for language modeling", 1999, section 4):

    P(w | h) = (a(h w) − D(a(h w))) / Σᵤ a(h u) + γ(h) P(w | h′),    γ(h) = Σᵤ D(a(h u)) / Σᵤ a(h u)

down to P(w) = … + γ / V. What γ gives to shorter contexts is just what D took off, so that the sum over w is 1. a
counts how often h w occurs at the highest order, and below it in how many contexts, that is after how many different
tokens (Kneser and Ney, "Improved backing-off for m-gram language modeling", 1995): "Francisco" is frequent, but follows
only "San". An n-gram that begins with the end-of-text token, where a document starts, has nothing before it, and is
counted as it occurs at every order (Heafield et al., "Scalable modified Kneser–Ney language model estimation", 2013,
section 3). No n-gram reaches over a document's start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Grams:
    """All n-grams of one length, by number.

    keys: (number of the n-gram without its last token) × V + last token, ascending, so that what follows a context lies
    together; unigrams are their tokens, without keys. probability: P(last token | those before). backoff: γ of the
    n-gram as a context, 1 where nothing follows it; empty at the highest order.
    """

    keys: Ids
    probability: Floats
    backoff: Floats


@dataclass(slots=True)
class Texts:
    """What was read so far of each text that is being written."""

    rows: list[list[int]]
    length: int = 0


class NgramModel:
    """P(w | h) for a vocabulary of V tokens; `grams[k − 1]` are the n-grams of k tokens."""

    context = 1 << 62
    """Texts never have to be cut: the last few tokens are all that is looked at."""

    def __init__(self, vocab_size: int, eot: int, grams: Sequence[Grams]) -> None:
        self.vocab_size, self.eot, self.grams = vocab_size, eot, list(grams)

    @property
    def order(self) -> int:
        return len(self.grams)

    def parameter_count(self) -> int:
        """A probability for each n-gram and a weight for each context."""
        return sum(len(grams.probability) + len(grams.backoff) for grams in self.grams)

    def log_probabilities(self, tokens: Ids) -> Floats:
        """Nats of log P of each of `tokens` but the first, given those of the `order` − 1 before it that are there.

        An n-gram that was not counted has γ(h) P(w | h′); after a context that was not, P(w | h) is P(w | h′).
        """
        numbers, p = tokens, self.grams[0].probability[tokens]  # of the n-gram that ends at each position
        for shorter, grams in zip(self.grams, self.grams[1:], strict=False):
            context = _contexts(numbers, tokens, self.eot, shorter is self.grams[0])
            known = context >= 0
            found = np.full(len(tokens), -1, dtype=np.int64)
            found[known] = _find(grams.keys, context[known] * self.vocab_size + tokens[known])
            p[known] *= shorter.backoff[context[known]]
            p[found >= 0] = grams.probability[found[found >= 0]]
            numbers = found
        logs: Floats = np.log(p[1:])
        return logs

    def distribution(self, context: Sequence[int]) -> Floats:
        """P of every token of the vocabulary after `context`."""
        known = list(context[max(0, len(context) - self.order + 1) :])
        for place in reversed(range(len(known))):
            if known[place] == self.eot:
                known = known[place:]
                break
        p = self.grams[0].probability.copy()
        for length in range(1, len(known) + 1):
            number = self._number(known[-length:])
            if number < 0:
                break
            grams = self.grams[length]
            first, last = np.searchsorted(grams.keys, [number * self.vocab_size, (number + 1) * self.vocab_size])
            p *= self.grams[length - 1].backoff[number]
            p[grams.keys[first:last] % self.vocab_size] = grams.probability[first:last]
        return p

    def _number(self, tokens: Sequence[int]) -> int:
        number = tokens[0]
        for grams, token in zip(self.grams[1:], tokens[1:], strict=False):
            number = int(_find(grams.keys, np.array([number * self.vocab_size + token]))[0])
            if number < 0:
                break
        return number

    # -- as `sampling` writes with it

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cpu")

    def new_cache(self, batch: int) -> Texts:
        return Texts([[] for _ in range(batch)])

    def next_logits(self, ids: torch.Tensor, cache: Texts) -> torch.Tensor:
        """log P (B, V) of the token that follows what `cache` has read and `ids` (B, T)."""
        import torch

        read = cache.rows if cache.length else [[] for _ in cache.rows]
        cache.rows = [[*row, *new][-self.order :] for row, new in zip(read, ids.tolist(), strict=True)]
        cache.length += ids.shape[1]
        return torch.from_numpy(np.log(np.stack([self.distribution(row) for row in cache.rows])))

    # -- as it is stored

    def arrays(self) -> dict[str, npt.NDArray[np.int64 | np.float64]]:
        """Its arrays by name, as `of_arrays` takes them."""
        return {
            f"{length}.{name}": getattr(grams, name)
            for length, grams in enumerate(self.grams, 1)
            for name in ("keys", "probability", "backoff")
        }

    @classmethod
    def of_arrays(
        cls, vocab_size: int, eot: int, arrays: Mapping[str, npt.NDArray[np.int64 | np.float64]]
    ) -> NgramModel:
        order = len(arrays) // 3
        names = ("keys", "probability", "backoff")
        return cls(vocab_size, eot, [Grams(*(arrays[f"{k}.{name}"] for name in names)) for k in range(1, order + 1)])  # type: ignore[arg-type]


def count(
    tokens: Ids,
    vocab_size: int,
    eot: int,
    order: int,
    discounts: Literal[1, 3] = 3,
    counted: Callable[[int], None] = lambda length: None,
) -> NgramModel:
    """The model of `tokens`, documents with the end-of-text token `eot` between them.

    Each order is one sort of all positions: O(order × N log N). Memory: some 75 bytes a token and 55 for each different
    n-gram of any order. `counted(length)` is called after each order.
    """
    if not len(tokens) or tokens[0] != eot:
        tokens = np.concatenate([[eot], tokens])
    keys: list[Ids] = [np.empty(0, dtype=np.int64)]
    counts: list[Ids] = [np.bincount(tokens[1:], minlength=vocab_size)]
    suffixes: list[Ids] = [np.empty(0, dtype=np.int64)]  # the number of each n-gram without its first token
    begins = [np.arange(vocab_size) == eot]  # whether it begins with the end-of-text token
    numbers = tokens  # of the n-gram that ends at each position; −1: it would reach over a document's start
    for length in range(2, order + 1):
        context = _contexts(numbers, tokens, eot, length == 2)
        whole = context >= 0
        found, inverse, occurs = np.unique(
            context[whole] * vocab_size + tokens[whole], return_inverse=True, return_counts=True
        )
        numbers = np.full(len(tokens), -1, dtype=np.int64)
        numbers[whole] = inverse
        before, last = np.divmod(found, vocab_size)
        suffixes.append(last if length == 2 else _find(keys[-1], suffixes[-1][before] * vocab_size + last))
        begins.append(begins[-1][before])
        keys.append(found)
        counts.append(occurs)
        counted(length)
    for length in range(1, order):
        contexts = np.bincount(suffixes[length], minlength=len(counts[length - 1]))
        alone = begins[length - 1] & (length > 1)
        counts[length - 1] = np.where(alone, counts[length - 1], contexts)
    return NgramModel(vocab_size, eot, _smoothed(vocab_size, keys, counts, suffixes, discounts))


def _smoothed(
    vocab_size: int, keys: list[Ids], counts: list[Ids], suffixes: list[Ids], discounts: Literal[1, 3]
) -> list[Grams]:
    """Probabilities and weights, from the shortest n-grams up; `counts` are the formula's a."""
    probabilities: list[Floats] = []
    backoffs: list[Floats] = []
    lower = np.full(1, 1 / vocab_size)
    for length, (key, a, suffix) in enumerate(zip(keys, counts, suffixes, strict=True), 1):
        taken = np.array([0, *discounts_of(a, discounts)])[np.minimum(a, 3)]  # D(a)
        # Unigrams have one context, the empty one, which shortens to the uniform distribution.
        context = key // vocab_size if length > 1 else np.zeros(vocab_size, dtype=np.int64)
        contexts = len(probabilities[-1]) if probabilities else 1
        total = np.bincount(context, weights=a, minlength=contexts)
        share = np.bincount(context, weights=taken, minlength=contexts)
        gamma = np.where(total > 0, share / np.maximum(total, 1), 1.0)
        shorter = lower[suffix] if length > 1 else lower
        lower = (a - taken) / np.maximum(total, 1)[context] + gamma[context] * shorter
        probabilities.append(lower)
        if length > 1:
            backoffs.append(gamma)
    backoffs.append(np.empty(0))
    return [Grams(*parts) for parts in zip(keys, probabilities, backoffs, strict=True)]


def discounts_of(counts: Ids, discounts: Literal[1, 3]) -> tuple[float, float, float]:
    """What is taken off counts of 1, 2, and 3 or more, from how many n-grams have the counts 1 to 4: n₁ … n₄.

    With Y = n₁ / (n₁ + 2 n₂): Y from each (Kneser and Ney 1995), or 1 − 2Y n₂/n₁, 2 − 3Y n₃/n₂, 3 − 4Y n₄/n₃ (Chen and
    Goodman 1999, equation 26). Where so few n-grams are rare that this makes no sense, as with characters one by one:
    0.5, 1 and 1.5, as KenLM's `--discount_fallback` has them, or 0.5 from each.
    """
    n = [int((counts == r).sum()) for r in range(5)]
    y = n[1] / (n[1] + 2 * n[2]) if n[1] else 0.0
    if discounts == 1:
        return (y, y, y) if 0 < y < 1 else (0.5, 0.5, 0.5)
    found = [r - (r + 1) * y * n[r + 1] / n[r] if n[r] else math.nan for r in (1, 2, 3)]
    if all(0 < d <= r for r, d in enumerate(found, 1)):
        return found[0], found[1], found[2]
    return 0.5, 1.0, 1.5


def _contexts(numbers: Ids, tokens: Ids, eot: int, first: bool) -> Ids:
    """The number of the n-gram that ends before each position, −1 where none does.

    One whose last token ends a document is no context, unless it is that token alone (`first`).
    """
    before = np.empty_like(numbers)
    before[0], before[1:] = -1, numbers[:-1]
    if not first:
        before[1:][tokens[:-1] == eot] = -1
    return before


def _find(keys: Ids, wanted: Ids) -> Ids:
    """Where `wanted` stand in `keys`, −1 for those that do not."""
    if not len(keys):
        return np.full(len(wanted), -1, dtype=np.int64)
    places = np.searchsorted(keys, wanted)
    places[places == len(keys)] = 0
    found: Ids = np.where(keys[places] == wanted, places, -1)
    return found
