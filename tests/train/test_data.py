"""The order of the data: every window once an epoch, whatever the batch, the shards or the restarts."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdata.errors import ConfigError, InputError
from llmdata.train.data import Batches, Position, TokenText, Windows, evaluation_windows, permuted


@given(count=st.integers(1, 3000), seed=st.integers(0, 2**64 - 1))
def test_permuted_is_a_permutation(count: int, seed: int) -> None:
    assert sorted(permuted(np.arange(count), count, seed).tolist()) == list(range(count))


def test_permuted_scatters_and_depends_on_the_seed() -> None:
    first, second = (permuted(np.arange(10_000), 10_000, seed) for seed in (1, 1 << 40))
    assert (first == second).mean() < 0.01
    assert abs(np.corrcoef(np.arange(10_000), first)[0, 1]) < 0.05
    assert (permuted(np.arange(500, 600), 10_000, 1) == first[500:600]).all(), "any part of it alone"


def text(length: int, *cuts: int) -> TokenText:
    tokens = np.arange(length, dtype=np.uint16)
    return TokenText(np.split(tokens, cuts))


@given(
    length=st.integers(30, 400),
    cuts=st.lists(st.integers(1, 29), max_size=3),
    start=st.integers(0, 20),
    n=st.integers(0, 10),
)
def test_reading_over_seams(length: int, cuts: list[int], start: int, n: int) -> None:
    assert text(length, *sorted(set(cuts))).read(start, n).tolist() == list(range(start, start + n))


def test_an_epoch_predicts_each_token_at_most_once_and_leaves_out_less_than_two_windows() -> None:
    batches = Batches([Windows(text(1000, 300, 301), 16, Position(seed=3))], 1)
    seen: list[int] = []
    while batches.positions[0].epoch == 0:
        seen += batches.next()[0, 1:].tolist()
    assert len(seen) == len(set(seen))
    assert len(seen) > 1000 - 2 * 16
    assert seen != sorted(seen)


@pytest.mark.parametrize("sequences", [1, 3, 7, 100])
def test_the_stream_does_not_depend_on_the_batch(sequences: int) -> None:
    def stream(size: int) -> list[list[int]]:
        batches = Batches([Windows(text(700), 16, Position(seed=5))], size)
        rows: list[list[int]] = []
        while len(rows) < 200:
            rows += batches.next().tolist()
        return rows[:200]

    assert stream(sequences) == stream(2)


def mixed(sequences: int = 5) -> Batches:
    """Three parts of the first source to one of the second, whose tokens are from 10,000 on."""
    second = TokenText([np.arange(10_000, 10_300, dtype=np.uint16)])
    return Batches(
        [Windows(text(700), 16, Position(seed=5)), Windows(second, 16, Position(seed=6))], sequences, (3.0, 1.0)
    )


def test_sources_are_mixed_exactly_whatever_the_batch() -> None:
    def stream(size: int) -> list[list[int]]:
        batches, rows = mixed(size), []
        while len(rows) < 240:
            rows += batches.next().tolist()
        return rows[:240]

    rows = stream(5)
    assert stream(1) == stream(12) == rows
    shares = [sum(row[0] >= 10_000 for row in rows[:n]) for n in range(4, 240, 4)]
    assert shares == [n // 4 for n in range(4, 240, 4)]


def test_a_token_beyond_the_vocabulary_is_named() -> None:
    with pytest.raises(InputError, match=r"token 99 .* vocabulary of 90"):
        TokenText([np.array([3, 99], dtype=np.uint16)], 90).windows([0], 2)


def test_going_on_from_a_position() -> None:
    batches = mixed()
    whole = [batches.next().tolist() for _ in range(30)]
    again = mixed()
    for _ in range(17):
        again.next()
    resumed = mixed()
    resumed.next()
    resumed.seek([Position(**asdict(position)) for position in again.positions])
    assert [resumed.next().tolist() for _ in range(13)] == whole[17:]


@pytest.mark.parametrize(("length", "context"), [(2, 8), (9, 8), (10, 8), (100, 8), (97, 8)])
def test_evaluating_all_covers_every_token_once(length: int, context: int) -> None:
    targets = [
        t for batch in evaluation_windows(text(length), context, None, 3) for t in batch[:, 1:].flatten().tolist()
    ]
    assert sorted(targets) == list(range(1, length))


def test_evaluating_some_spreads_over_the_split() -> None:
    starts = [int(batch[0, 0]) for batch in evaluation_windows(text(1000), 10, 50, 1)]
    assert starts == [0, 190, 390, 590, 790]


def test_too_little_text_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="shorter context"):
        Windows(text(17), 16, Position(0))
