"""Batches of tokens: windows of the training split in a seeded order that nothing but the seed decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from llmdata.errors import ConfigError, InputError
from llmdata.storage.place import Place
from llmdata.storage.token_index import TokenIndex
from llmdata.storage.token_shards import Tokens, open_tokens

Ids = npt.NDArray[np.int64]
_U64 = npt.NDArray[np.uint64]


class TokenText:
    """The shards of a split as one long sequence of tokens, read from memory maps."""

    def __init__(self, shards: Sequence[Tokens]) -> None:
        self._shards = shards
        self._starts = np.concatenate([[0], np.cumsum([len(shard) for shard in shards])]).astype(np.int64)

    @classmethod
    def of(cls, folder: Place, index: TokenIndex, split: str) -> TokenText:
        """The split `split` of the tokens folder `folder`; empty if there is no such split."""
        shards = index.splits[split].shards if split in index.splits else []
        return cls([open_tokens(folder / shard.path) for shard in shards if shard.tokens])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, length: int) -> Ids:
        """The `length` tokens from `start` on, over the seams between shards."""
        out = np.empty(length, dtype=np.int64)
        filled = 0
        shard = int(np.searchsorted(self._starts, start, side="right")) - 1
        while filled < length:
            offset = start + filled - int(self._starts[shard])
            part = self._shards[shard][offset : offset + length - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            shard += 1
        return out

    def windows(self, starts: Sequence[int] | Ids, length: int) -> Ids:
        """(len(starts), length): one window a row."""
        return np.stack([self.read(int(start), length) for start in starts])


@dataclass(slots=True)
class Position:
    """Where training is in its data: `tokens` of epoch `epoch` are behind it. All that a resumed run has to know."""

    seed: int
    epoch: int = 0
    tokens: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


class Batches:
    """Endless batches (sequences, context + 1) from `position` on.

    An epoch cuts the text into windows of `context` tokens (a window's last token is the next one's first, so that
    every token is predicted once) from an offset of its own on, and takes them in a permutation of its own. Both follow
    from seed and epoch alone: micro-batches, workers and restarts change nothing.
    """

    def __init__(self, text: TokenText, context: int, sequences: int, position: Position) -> None:
        if len(text) < context + 2:
            raise ConfigError(
                f"the training split has {len(text)} tokens, fewer than one window of {context} + 2: "
                "give more text, or a model with a shorter context"
            )
        self.text, self.context, self.sequences, self.position = text, context, sequences, position

    def next(self) -> Ids:
        """The next batch; `position` moves past it."""
        starts: list[int] = []
        while len(starts) < self.sequences:
            offset, count = self._epoch()
            done = self.position.tokens // self.context
            take = min(self.sequences - len(starts), count - done)
            order = permuted(np.arange(done, done + take), count, self._seed())
            starts += (offset + order * self.context).tolist()
            self.position.tokens += take * self.context
            if done + take == count:
                self.position.epoch += 1
                self.position.tokens = 0
        return self.text.windows(starts, self.context + 1)

    def _seed(self) -> int:
        return int(_mix(np.array([self.position.seed * 0x10001 + self.position.epoch], dtype=np.uint64))[0])

    def _epoch(self) -> tuple[int, int]:
        """Offset of the first window, and how many windows the epoch has."""
        room = len(self.text) - 1
        offset = self._seed() % min(self.context, room - self.context + 1)
        return offset, (room - offset) // self.context


def evaluation_windows(text: TokenText, context: int, tokens: int | None, sequences: int) -> Iterator[Ids]:
    """Batches that cover `text` once in order, or windows of `tokens` tokens in all, spread evenly over it.

    Covering it all, the last window is what is left, as a batch of its own.
    """
    whole, rest = divmod(max(0, len(text) - 1), context)
    count = whole if tokens is None else min(whole, max(1, tokens // context))
    starts = np.arange(count, dtype=np.int64) * whole // max(count, 1) * context
    for first in range(0, count, sequences):
        yield text.windows(starts[first : first + sequences], context + 1)
    if rest and count == whole:
        yield text.windows([whole * context], rest + 1)


def permuted(indices: Ids, count: int, seed: int) -> Ids:
    """Where a seeded permutation of range(count) takes `indices`.

    A Feistel network over the next even power of two, walked until it lands below `count`: any part of the
    permutation of any number of windows, without storing it, and the same in every version of NumPy.
    """
    half = np.uint64(max(1, (max(count - 1, 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(half)) - 1)
    values = indices.astype(np.uint64)
    keys = _mix(np.arange(1, 7, dtype=np.uint64) + np.uint64(seed & 0xFFFF_FFFF_FFFF_0000))
    keys ^= np.uint64(seed & 0xFFFF)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        left, right = values[outside] >> half, values[outside] & low
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key) & low)
        values[outside] = left << half | right
        outside = values >= np.uint64(count)
    return values.astype(np.int64)


def _mix(values: _U64) -> _U64:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): scatters close values over all 64 bits."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)


def check_vocabulary(index: TokenIndex, vocab_size: int | None) -> int:
    """The vocabulary to build the model with; raises InputError if the tokens do not fit the one asked for."""
    if vocab_size is not None and vocab_size < index.vocab_size:
        raise InputError(
            f"the tokens were made with a vocabulary of {index.vocab_size}, the model has {vocab_size}: "
            "leave model.vocab_size out, or tokenize with a smaller vocabulary"
        )
    return vocab_size or index.vocab_size
