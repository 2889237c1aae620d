"""Chains: cut into passes where a shuffle stands, counted so that nothing vanishes."""

from __future__ import annotations

import pytest

from llmdata.document import Document, Rejection
from llmdata.engine import guard
from llmdata.engine.guard import Casualty
from llmdata.errors import LlmdataError
from llmdata.pipeline.chain import Chain, passes
from llmdata.pipeline.clean import _spread


@pytest.mark.parametrize(
    ("stages", "keep_all", "expected"),
    [
        ("url extract pii", False, ["final: - url,extract,pii -"]),
        ("extract minhash pii", False, ["01-extract: - extract minhash", "final: minhash pii -"]),
        ("extract minhash", False, ["01-extract: - extract minhash", "final: minhash  -"]),
        ("minhash", False, ["01-read: -  minhash", "final: minhash  -"]),
        (
            "exact_dedup c4 minhash pii",
            False,
            ["01-read: -  exact_dedup", "02-c4: exact_dedup c4 minhash", "final: minhash pii -"],
        ),
        (
            "exact_dedup minhash",
            False,
            ["01-read: -  exact_dedup", "02-exact_dedup: exact_dedup  minhash", "final: minhash  -"],
        ),
        (
            "url extract minhash pii",
            True,
            ["01-extract: - url,extract minhash", "final: minhash pii -"],
        ),
        (
            "url extract language c4",
            True,
            ["01-extract: - url,extract -", "02-language: - language -", "final: - c4 -"],
        ),
        ("url language", True, ["01-url: - url -", "final: - language -"]),
        ("", False, ["final: -  -"]),
    ],
)
def test_passes_are_cut_at_shuffles(stages: str, keep_all: bool, expected: list[str]) -> None:
    cut = passes(stages.split(), keep_all)
    shown = [f"{step.folder}: {step.drop or '-'} {','.join(step.filters)} {step.shuffle or '-'}" for step in cut]
    assert shown == expected


def shorten(doc: Document) -> Document | Rejection:
    doc.text = doc.text[:5]
    return doc


def refuse_a(doc: Document) -> Document | Rejection:
    return Rejection(doc, "refuse", "has_a", "a") if "a" in doc.text else doc


def explode(doc: Document) -> Document | Rejection:
    if doc.text == "bomb":
        raise ValueError("boom")
    return doc


def test_each_stage_counts_what_comes_in_stays_and_goes() -> None:
    chain = Chain([("explode", explode), ("refuse", refuse_a), ("shorten", shorten)])
    hand = guard.current()
    for text in ("bomb", "a", "short", "longer one", "ba"):
        chain(Document(text=text), hand)
    chain(Rejection(Document(), "read", "truncated"), hand)
    records = {name: count.record() for name, count in chain.counts.items()}
    assert records == {
        "read": {"in": 6, "kept": 5, "changed": 0, "rejected": {"truncated": 1}},
        "explode": {"in": 5, "kept": 4, "changed": 0, "rejected": {"error": 1}},
        "refuse": {"in": 4, "kept": 2, "changed": 0, "rejected": {"has_a": 2}},
        "shorten": {"in": 2, "kept": 2, "changed": 1, "rejected": {}},
    }


def test_a_stage_that_raises_rejects_with_the_error() -> None:
    outcome = Chain([("explode", explode)])(Document(text="bomb"), guard.current())
    assert isinstance(outcome, Rejection)
    assert (outcome.stage, outcome.reason, outcome.detail) == ("explode", "error", "ValueError: boom")


def test_a_missing_package_ends_the_run() -> None:
    def incomplete(doc: Document) -> Document | Rejection:
        raise ImportError("no module named parser")

    with pytest.raises(LlmdataError, match="not fully installed"):
        Chain([("language", incomplete)])(Document(text="a"), guard.current())


def test_a_casualty_is_rejected_in_the_step_where_it_died() -> None:
    chain = Chain([("shorten", shorten), ("explode", explode)])
    outcome = chain(Document(text="harmless"), guard.current(), Casualty("timeout", step=2))
    assert isinstance(outcome, Rejection)
    assert (outcome.stage, outcome.reason, outcome.document.text) == ("explode", "timeout", "harml")


@pytest.mark.parametrize(
    ("limit", "pieces", "expected"), [(None, 2, [None, None]), (5, 2, [3, 2]), (1, 3, [1]), (4, 4, [1, 1, 1, 1])]
)
def test_a_limit_is_spread_over_the_pieces(limit: int | None, pieces: int, expected: list[int | None]) -> None:
    assert _spread(limit, pieces) == expected
