"""Phone numbers: the spans of libphonenumber's own matcher, asked region by region."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberMatcher

from llmdata.clean.phone import phone_numbers

DEFAULT = ("US", "GB", "DE", "FR", "IL", "IN", "CA", "BR")
ODD = ("AR", "JP", "IT", "GG", "NF", "MX", "AU")  # numbers that grow when parsed, zeros that stay, codes shared
NUMBERS = (
    "+1 212 555 0187|(212) 555-0187|030 901820|+49 (0)30 90 18 20|020 7946 0958|01 23 45 67 89|011 44 20 7946 0958"
    "|0044 20 7946 0958|055 11 98765-4321|9876543210|91 98765 43210|+39 06 698 12345|1800 180 1234|03-6229-7777"
    "|+800 1234 5678|+999 123 4567|12/11/2004|2012-01-02 08:00|211-227 (2003)|1645|16401|651-234-2345/332-445-1234"
).split("|")
SEPARATORS = (
    " ",
    "-",
    ".",
    " - ",
    "/",
    ", ",
    "\n",
    " x",
    " ext. ",
    "(",
    ")",
    "+",
    "#",
    "~",
    "a",
    "$",
    "\u2013",
    "9",
    "0",
)
TEXTS = st.lists(st.sampled_from([*NUMBERS, *SEPARATORS]) | st.from_regex("[0-9]{1,12}", fullmatch=True), max_size=8)


def plainly(text: str, regions: tuple[str, ...]) -> list[tuple[int, int]]:
    """What the matcher finds for any region, without the years that it takes for German pagers."""
    found = {(match.start, match.end) for region in regions for match in PhoneNumberMatcher(text, region)}
    found = {(start, end) for start, end in found if sum(map(str.isdigit, text[start:end])) > 4}
    return sorted(
        (start, end)
        for start, end in found
        if not any(a <= start and end <= b and (a, b) != (start, end) for a, b in found)
    )


@given(TEXTS.map("".join), st.sampled_from([DEFAULT, ODD]))
@settings(max_examples=300, deadline=None)
@example("1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 (212) 555-0187", DEFAULT)
@example("call 212 555 0187" + " " * 41 + "020 7946 0958", DEFAULT)
def test_the_same_spans(text: str, regions: tuple[str, ...]) -> None:
    assert phone_numbers(text, regions) == plainly(text, regions)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_same_spans_in_a_sentence(number: str) -> None:
    for text in (f"Call {number}, please: {number}", f"in 1998 (12), 3.14 or {number}x7", f"No. 12 {number} a 34 56"):
        assert phone_numbers(text, DEFAULT) == plainly(text, DEFAULT)
