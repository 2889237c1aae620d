"""RefinedWeb's corrections: each rule just inside and just outside, their order, and the share that rejects."""

from __future__ import annotations

import pytest

from llmdata.clean.refinedweb import Refinedweb, RefinedwebConfig
from llmdata.document import Document, Rejection

GOOD = "\n".join(["The bridge over the river was built long ago by people whose names nobody knows today."] * 30)


def correct(line: str, **settings: object) -> str | None:
    """What becomes of one line in a long page: the line, None if it went, or the reason of a rejection."""
    found = Refinedweb(RefinedwebConfig.model_validate(settings))(Document(text=f"{GOOD}\n{line}\nThe end of it."))
    if isinstance(found, Rejection):
        return found.reason
    assert found.text.startswith(GOOD)
    assert found.text.endswith("The end of it.")
    return found.text.removeprefix(GOOD).removesuffix("The end of it.").strip("\n") or None


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("ABCD efg", "ABCD efg"),  # 4 of 8 characters
        ("ABCDE fg", None),
        ("NEWS AND SPORT", None),
        ("2019", None),
        ("1,234.5 6", None),
        ("2019 to 2020", "2019 to 2020"),
        ("3 likes", None),
        ("1.2K Followers", None),
        ("(12 comments)", None),
        ("3 likes it", "3 likes it"),
        ("three likes", "three likes"),
        ("Home", None),
        ("Go home", "Go home"),
        ("Sign-in to see prices", "to see prices"),
        ("Please sign in here", "Please sign in here"),
        ("signing in here", "signing in here"),
        ("sign in", None),
        ("The bridge is old. Read more...", "The bridge is old."),
        ("Read more... about it", "Read more... about it"),
        ("bread more", "bread more"),
        ("You have items in cart now", "You have  now"),
        ("one two three four five six seven eight read more", "one two three four five six seven eight"),
        ("one two three four five six seven eight nine ten read more", "=",),
        ("私はその橋を見た", "私はその橋を見た"),  # one word between spaces, eight characters
        ("橋", None),
    ],
)  # fmt: skip
def test_lines(line: str, left: str | None) -> None:
    assert correct(line) == (line if left == "=" else left)


def test_what_went_is_counted() -> None:
    found = Refinedweb(RefinedwebConfig())(Document(text=f"{GOOD}\n3 likes\nHome\nHome\nIt is old. Read more..."))
    assert isinstance(found, Document)
    assert found.metadata == {"refinedweb": {"counter": 1, "few_words": 2, "phrase": 1}}


def test_a_line_meets_the_rules_in_order() -> None:
    found = Refinedweb(RefinedwebConfig())(Document(text=f"{GOOD}\nHOME\n7\n5 VIEWS"))
    assert isinstance(found, Document)
    assert found.metadata == {"refinedweb": {"uppercase": 2, "number": 1}}  # each would also be something else


@pytest.mark.parametrize(("words", "expected"), [(19, "kept"), (18, "max_words_removed")])
def test_more_than_a_twentieth_of_the_words_rejects(words: int, expected: str) -> None:
    found = Refinedweb(RefinedwebConfig())(Document(text=" ".join(["word"] * words) + "\nHome"))
    assert (found.reason if isinstance(found, Rejection) else "kept") == expected
    if isinstance(found, Rejection):
        assert found.detail == f"{1 / 19:.4g} > 0.05"


def test_rules_can_be_switched_off() -> None:
    off = {
        "max_uppercase": None,
        "numbers": False,
        "counters": [],
        "min_words_per_line": 0,
        "cut_at_start": [],
        "cut_at_end": [],
        "cut_anywhere": [],
    }
    text = "HOME\n7\n3 likes\nsign in\nread more\nitems in cart"
    found = Refinedweb(RefinedwebConfig.model_validate(off))(Document(text=text))
    assert isinstance(found, Document)
    assert (found.text, found.metadata) == (text, {})


@pytest.mark.parametrize(("text", "reason"), [("", "empty"), ("\n \n", None), ("Home", "max_words_removed")])
def test_odd_texts(text: str, reason: str | None) -> None:
    found = Refinedweb(RefinedwebConfig())(Document(text=text))
    assert (found.reason if isinstance(found, Rejection) else None) == reason


def test_a_huge_line_takes_linear_time() -> None:
    for char in ("1", "a ", "sign in ", "1.", " "):
        Refinedweb(RefinedwebConfig())(Document(text=char * (2_000_000 // len(char)) + "x"))
