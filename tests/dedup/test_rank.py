"""Which document of a cluster is best."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdata.dedup.config import MinhashConfig
from llmdata.dedup.rank import ranks
from llmdata.document import Document


def rank(score: str, *docs: Document) -> list[int]:
    made: list[int] = ranks(docs, MinhashConfig(keep="best", score=score)).tolist()
    return made


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_numbers_keep_their_order(left: float, right: float) -> None:
    found = rank("q", *(Document(metadata={"q": value}) for value in (left, right)))
    left, right = (min(max(value, -1e300), 1e300) for value in (left, right))
    assert (found[0] < found[1], found[0] > found[1]) == (left < right, left > right)


@pytest.mark.parametrize(
    ("score", "better", "worse"),
    [
        ("q", {"q": 0.1}, {}),
        ("q", {"q": -5}, {"q": "high"}),
        ("q", {"q": -5}, {"q": True}),
        ("q", {"q": 0}, {"q": math.nan}),
        ("q", {"q": 3}, {"q": 2.5}),
        ("a.b", {"a": {"b": 1}}, {"a": 7}),
        ("a.b", {"a.b": 2}, {"a": {"b": 1}}),
        ("q", {"q": 10**400}, {"q": 1}),
    ],
)
def test_what_is_no_number_is_the_worst(score: str, better: dict[str, Any], worse: dict[str, Any]) -> None:
    first, second = rank(score, Document(metadata=better), Document(metadata=worse))
    assert first > second


def test_columns_are_scores_too() -> None:
    low, high = rank("language_score", Document(language_score=0.7), Document(language_score=0.9))
    assert low < high
