"""Batches of tokens: windows of the training split in a seeded order that nothing but the seed decides."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from llmdata.errors import ConfigError, InputError
from llmdata.storage.encoding import Encoding, load_encoding
from llmdata.storage.place import Place
from llmdata.storage.token_index import TOKENIZER as TOKENS_TOKENIZER
from llmdata.storage.token_index import TokenIndex, load_index, open_shard
from llmdata.storage.token_shards import Tokens
from llmdata.train.config import MixedSource
from llmdata.train.sampling import TOKENIZER

ORDERED = 4096
"""Windows of an epoch that are put in order at a time, since that takes NumPy a hundred calls for any number."""

Ids = npt.NDArray[np.int64]
_U64 = npt.NDArray[np.uint64]


class TokenText:
    """The shards of a split as one long sequence of tokens, read from memory maps."""

    def __init__(self, shards: Sequence[Tokens], vocab_size: int = 1 << 31) -> None:
        self._shards = [np.asarray(shard) for shard in shards]  # slices of a np.memmap take six times as long
        self._vocab_size = vocab_size
        self._starts = [0, *accumulate(map(len, shards))]

    @classmethod
    def of(cls, folder: Place, index: TokenIndex, split: str) -> TokenText:
        """The split `split` of the tokens folder `folder`, in any of its formats; empty if there is no such split."""
        shards = index.splits[split].shards if split in index.splits else []
        return cls([open_shard(index, folder, shard) for shard in shards if shard.tokens], index.vocab_size)

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, start: int, length: int) -> Ids:
        """The `length` tokens from `start` on."""
        row: Ids = self.windows([start], length)[0]
        return row

    def _fill(self, start: int, out: Ids) -> None:
        """Fill `out` with the tokens from `start` on, over the seams between shards."""
        filled = 0
        shard = bisect_right(self._starts, start) - 1
        while filled < len(out):
            offset = start + filled - self._starts[shard]
            part = self._shards[shard][offset : offset + len(out) - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            shard += 1

    def windows(self, starts: Sequence[int] | Ids, length: int) -> Ids:
        """(len(starts), length): one window a row. Raises InputError at a token that the vocabulary does not have."""
        rows = np.empty((len(starts), length), dtype=np.int64)
        for row, start in zip(rows, map(int, starts), strict=True):
            self._fill(start, row)
        if rows.size and not 0 <= rows.min() <= rows.max() < self._vocab_size:
            wrong = int(rows[(rows < 0) | (rows >= self._vocab_size)][0])
            raise InputError(
                f"token {wrong} in the shards, but index.json speaks of a vocabulary of {self._vocab_size}: "
                "make the tokens again with `llmdata tokenize`"
            )
        return rows


@dataclass(slots=True)
class Position:
    """Where training is in a source: `tokens` of epoch `epoch` are behind it, and `windows` in all."""

    seed: int
    epoch: int = 0
    tokens: int = 0
    windows: int = 0


class Windows:
    """Endless windows of a text from `position` on.

    An epoch cuts the text into windows of `context` tokens (a window's last token is the next one's first, so that
    every token is predicted once) from an offset of its own on, and takes them in a permutation of its own. Both follow
    from seed and epoch alone: micro-batches, workers and restarts change nothing.
    """

    def __init__(self, text: TokenText, context: int, position: Position) -> None:
        if len(text) < context + 2:
            raise ConfigError(
                f"the training split has {len(text)} tokens, fewer than one window of {context} + 2: "
                "give more text, or a model with a shorter context"
            )
        self.text, self.context, self.position = text, context, position

    def take(self, count: int, wanted: npt.NDArray[np.bool_] | None = None) -> Ids:
        """The next `count` windows, (count, context + 1), or those of them that are `wanted`.

        `position` moves past them all.
        """
        starts: list[int] = []
        while len(starts) < count:
            offset, there = self._epoch()
            done = self.position.tokens // self.context
            take = min(count - len(starts), there - done)
            order = _ordered(done, done + take, there, self._seed())
            starts += (offset + order * self.context).tolist()
            self.position.tokens += take * self.context
            if done + take == there:
                self.position.epoch += 1
                self.position.tokens = 0
        self.position.windows += count
        chosen = np.array(starts) if wanted is None else np.array(starts)[wanted]
        return self.text.windows(chosen, self.context + 1)

    def _seed(self) -> int:
        return _epoch_seed(self.position.seed, self.position.epoch)

    def _epoch(self) -> tuple[int, int]:
        """Offset of the first window, and how many windows the epoch has."""
        room = len(self.text) - 1
        offset = self._seed() % min(self.context, room - self.context + 1)
        return offset, (room - offset) // self.context


class Batches:
    """Endless batches (sequences, context + 1) from one source, or from several in proportion to their weights.

    Each row comes from the source that is furthest behind its share, so that the mixture is exact at every moment and
    follows from the positions alone. A thread reads the next batch while the last one is at work. With `share`, only
    those rows of each batch are read.
    """

    def __init__(
        self,
        sources: Sequence[Windows],
        sequences: int,
        weights: Sequence[float] = (1.0,),
        share: slice = slice(None),
    ) -> None:
        self._sources, self._sequences = sources, sequences
        self._mine = np.zeros(sequences, dtype=bool)
        self._mine[share] = True
        self._shares = [weight / sum(weights) for weight in weights]
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: Future[tuple[Ids, list[Position]]] | None = None
        self.positions = self._positions()

    def next(self) -> Ids:
        """The next batch; `positions` move past it."""
        batch, self.positions = (self._next or self._pool.submit(self._read)).result()
        self._next = self._pool.submit(self._read)
        return batch

    def seek(self, positions: Sequence[Position]) -> None:
        """Go on from `positions`, one for each source."""
        if self._next is not None:
            self._next.exception()  # it moves the sources, so it has to be over
            self._next = None
        for source, position in zip(self._sources, positions, strict=True):
            source.position = replace(position)
        self.positions = self._positions()

    def _positions(self) -> list[Position]:
        return [replace(source.position) for source in self._sources]

    def _read(self) -> tuple[Ids, list[Position]]:
        turns = self._turns()
        batch = np.empty((int(self._mine.sum()), self._sources[0].context + 1), dtype=np.int64)
        for number, source in enumerate(self._sources):
            rows = turns == number
            if rows.any():
                batch[rows[self._mine]] = source.take(int(rows.sum()), self._mine[rows])
        return batch, self._positions()

    def _turns(self) -> npt.NDArray[np.int64]:
        """The source of each row of the next batch."""
        turns = np.zeros(self._sequences, dtype=np.int64)
        if len(self._sources) == 1:
            return turns
        taken = [source.position.windows for source in self._sources]
        for row in range(self._sequences):
            total = sum(taken) + 1
            behind = [share * total - done for share, done in zip(self._shares, taken, strict=True)]
            turns[row] = number = behind.index(max(behind))
            taken[number] += 1
        return turns


def load_sources(tokens: Place, index: TokenIndex, mix: Sequence[MixedSource]) -> list[tuple[Place, TokenIndex]]:
    """The folders to train on, with their indexes: `tokens`, then those of `mix`.

    Raises InputError if they were not made with the same tokenizer.
    """
    sources = [(tokens, index)]
    for source in mix:
        folder = Place.of(source.tokens)
        other = load_index(folder)
        if (other.tokenizer_digest, other.eot) != (index.tokenizer_digest, index.eot):
            raise InputError(
                f"{folder}: made with another tokenizer ({other.tokenizer_digest[:12]}…) than {tokens} "
                f"({index.tokenizer_digest[:12]}…): tokenize both with the same one"
            )
        sources.append((folder, other))
    return sources


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


def _ordered(first: int, end: int, count: int, seed: int) -> Ids:
    """What stands from `first` to `end` of a permutation of range(count)."""
    parts = [_order(number, count, seed) for number in range(first // ORDERED, -(-end // ORDERED))]
    start = first // ORDERED * ORDERED
    return np.concatenate(parts)[first - start : end - start]


@lru_cache(maxsize=32)
def _order(number: int, count: int, seed: int) -> Ids:
    return permuted(np.arange(number * ORDERED, min(count, (number + 1) * ORDERED)), count, seed)


@lru_cache(maxsize=32)
def _epoch_seed(seed: int, epoch: int) -> int:
    return int(_mix(np.array([seed * 0x10001 + epoch], dtype=np.uint64))[0])


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


def own_tokenizer(tokens: Place, index: TokenIndex, out: Place | None) -> Encoding:
    """The tokenizer of `tokens`, copied into the model's folder `out`, which can then write text wherever it is taken.

    Raises InputError if it is not the one that `index` names, or has more tokens.
    """
    source = tokens / TOKENS_TOKENIZER
    encoding = load_encoding(source)
    if encoding.digest != index.tokenizer_digest:
        raise InputError(f"{source}: not the tokenizer that index.json names; make the tokens again with --rerun")
    if encoding.n_vocab > index.vocab_size:
        raise InputError(
            f"{source}: a vocabulary of {encoding.n_vocab}, but index.json speaks of {index.vocab_size}; make the "
            "tokens again with --rerun"
        )
    if out is not None:
        for file in source.walk():
            (out / TOKENIZER / file.name).write_bytes(file.read_bytes())
    return encoding


def check_vocabulary(index: TokenIndex, vocab_size: int | None) -> int:
    """The vocabulary to build the model with; raises InputError if the tokens do not fit the one asked for."""
    if vocab_size is not None and vocab_size < index.vocab_size:
        raise InputError(
            f"the tokens were made with a vocabulary of {index.vocab_size}, the model has {vocab_size}: "
            "leave model.vocab_size out, or tokenize with a smaller vocabulary"
        )
    return vocab_size or index.vocab_size
