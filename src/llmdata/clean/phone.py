"""Phone numbers in a text: the spans that libphonenumber's matcher finds in any of several countries, in one walk.

`phonenumbers.PhoneNumberMatcher` reads a text once for each country, and parses all that has two digits as a number of
it. Here candidates are cut once for all countries, by the matcher's own patterns, and what cannot be a number of a
country by its digits is not parsed. The rest is left to the matcher, so that the spans are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain
from typing import Any

_FEWEST_DIGITS = 5
"""Of fewer digits the matcher takes German pagers of the nineties alone, 1640 to 1699: in a text these are years."""
_MARKS = r" \-\u2010-\u2015\u2212\u30fc\uff0d-\uff0f\u00a0\u00ad\u200b\u2060\u3000()（）［］.\[\]/\u2053\u223c"
"""What may stand between the digits of a number, at most four at a time; `x` and tildes begin an extension too."""
_COULD_BE = re.compile(rf"\d(?:[{_MARKS}xX~\uff5e]{{0,4}}\d){{{_FEWEST_DIGITS - 1},}}")
_PLAIN = re.compile(rf"[\d{_MARKS}]+")
"""A candidate without `+` and the signs of an extension: its digits decide, and what stands before and behind it."""
_PLUS = re.compile("[+＋]")
_MOST_PLAIN_DIGITS = 20
"""The pattern cuts candidates of more digits; below, a candidate ends where its last digit stands."""
_GAP = 40
"""No candidate reaches over so many characters without a digit."""
_DIGIT = re.compile(r"\d")
_NO_DIGITS = re.compile(r"\D+")
_MOST_REMEMBERED = 1 << 14
_TYPES = "fixed_line mobile toll_free premium_rate shared_cost voip personal_number pager uan voicemail".split()

Span = tuple[int, int]


def phone_numbers(text: str, regions: tuple[str, ...]) -> list[Span]:
    """Spans of national numbers of `regions` (ISO 3166 codes) and of international ones, in text order.

    As Presidio's PhoneRecognizer: libphonenumber's leniency VALID, and no span inside another.
    """
    stretches = list(_stretches(text))
    if not stretches:
        return []
    walk = _Walk(text, regions)
    found = {span for start, stop in stretches for span in walk.spans(start, stop)}
    outermost: list[Span] = []
    for start, end in sorted(found, key=lambda span: (span[0], -span[1])):
        if not outermost or end > outermost[-1][1]:
            outermost.append((start, end))
    return outermost


def _stretches(text: str) -> Iterator[Span]:
    """Where candidates of enough digits are, with all digits before them that could belong to them."""
    start, stop = -1, 0
    for could_be in _COULD_BE.finditer(text):
        begin = could_be.start()
        while digit := _DIGIT.search(text, max(stop, begin - _GAP), begin):
            begin = digit.start()
        if start >= 0 and begin - stop > _GAP:
            yield start, stop
            start = -1
        if start < 0:
            start = max(stop, begin - _GAP)
        stop = could_be.end()
    if start >= 0:
        yield start, stop


class _Walk:
    """Through one text as the matchers of all regions go, those that stand at the same place together."""

    def __init__(self, text: str, regions: tuple[str, ...]) -> None:
        from phonenumbers import phonenumbermatcher

        self._library: Any = phonenumbermatcher
        self._text = text
        self._regions = regions

    def spans(self, start: int, stop: int) -> Iterator[Span]:
        """Numbers that begin between `start` and `stop`, where the last digits stand."""
        waiting: dict[int, Sequence[str]] = {start: self._regions}
        while waiting:
            index = min(waiting)
            regions = waiting.pop(index)
            if index >= stop:
                continue
            match = self._library._PATTERN.search(self._text, index)
            offset, candidate = match.start(), match[0]
            second = self._library._SECOND_NUMBER_START_PATTERN.search(candidate)
            candidate = candidate[: second.start()] if second else candidate
            for span, takers in self._numbers(offset, candidate, regions):
                yield span
                waiting[span[1]] = [*waiting.get(span[1], ()), *takers]
                regions = _without(regions, takers)
            if regions:
                end = offset + len(candidate)
                waiting[end] = [*waiting.get(end, ()), *regions]

    def _numbers(self, offset: int, candidate: str, regions: Sequence[str]) -> Iterator[tuple[Span, Sequence[str]]]:
        """The first number in a candidate for each region that has one: the whole, else a part between separators."""
        library, end = self._library, offset + len(candidate)
        if library._SLASH_SEPARATED_DATES.search(candidate):
            return
        if library._TIME_STAMPS.search(candidate) and library._TIME_STAMPS_SUFFIX.match(self._text, end):
            return
        parts = self._parts(offset, candidate)
        if len(_NO_DIGITS.sub("", candidate)) > _MOST_PLAIN_DIGITS:
            parts = chain([(offset, candidate)], parts)
        elif any(self._takers(offset, candidate, regions)):
            yield (offset, end), regions  # what the others find lies inside it, and would be left out in the end
            return
        for at, part in parts:
            if takers := list(self._takers(at, part, regions)):
                yield (at, at + len(part)), takers
                regions = _without(regions, takers)
                if not regions:
                    return

    def _parts(self, offset: int, candidate: str) -> Iterator[tuple[int, str]]:
        """What stands between separators, one kind of them after the other, as the matcher tries it."""
        for separator in self._library._INNER_MATCHES:
            match = separator.search(candidate)
            if match:
                yield offset, self._trimmed(candidate[: match.start()])
            while match:
                yield offset + match.start(1), self._trimmed(match[1])
                match = separator.search(candidate, match.start() + 1)

    def _trimmed(self, part: str) -> str:
        end = self._library._UNWANTED_END_CHAR_PATTERN.search(part)
        return part[: end.start()] if end else part

    def _takers(self, offset: int, candidate: str, regions: Sequence[str]) -> Iterator[str]:
        """The regions for which the matcher takes the candidate."""
        digits = _NO_DIGITS.sub("", candidate)
        if len(digits) < _FEWEST_DIGITS:
            return
        if _PLAIN.fullmatch(candidate):
            digits = digits if digits.isascii() else "".join(str(int(digit)) for digit in digits)
            regions = [region for region in regions if _could_be_of(digits, region)]
        elif _PLUS.search(candidate) and _has_calling_code(digits):
            if self._takes(regions[0], offset, candidate):
                yield from regions
            return
        for region in regions:
            if self._takes(region, offset, candidate):
                yield region

    def _takes(self, region: str, offset: int, candidate: str) -> bool:
        matcher = self._library.PhoneNumberMatcher(self._text, region)
        return matcher._parse_and_verify(candidate, offset) is not None


def _without(regions: Sequence[str], others: Sequence[str]) -> Sequence[str]:
    return [region for region in regions if region not in others]


def _has_calling_code(digits: str) -> bool:
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    return digits[0] != "0" and any(int(digits[:length]) in COUNTRY_CODE_TO_REGION_CODE for length in (1, 2, 3))


@lru_cache(_MOST_REMEMBERED)
def _could_be_of(digits: str, region: str) -> bool:
    """Whether the matcher could take these digits, written without `+`, for a number of `region`; False is certain."""
    plan = _plan(region)
    if plan is None or plan.abroad.match(digits):
        return True
    starts = (digits, digits[len(plan.code) :]) if digits.startswith(plan.code) else (digits,)
    for number in starts:
        for _ in range(3):  # the parser strips a national prefix before and after the country's code
            if len(number) in plan.lengths and plan.valid.fullmatch(number):
                bare = number == digits and not plan.prefix.match(digits)
                if not bare or not plan.wants_prefix(digits):
                    return True
            shorter = plan.without_prefix(number)
            if shorter == number:
                break
            number = shorter
    return False


@dataclass(frozen=True, slots=True)
class _Plan:
    """What digits alone say of a number, from the metadata of its country."""

    code: str
    abroad: re.Pattern[str]
    """How a number of another country begins."""
    prefix: re.Pattern[str]
    transform: str | None
    valid: re.Pattern[str]
    """Numbers of all kinds, of all regions that share the country's code."""
    lengths: frozenset[int]
    formats: Any
    """Rules of how to write a number."""

    def without_prefix(self, number: str) -> str:
        """What is left of `number` if its beginning is a national prefix."""
        match = self.prefix.match(number)
        if match is None:
            return number
        if self.transform and match.groups()[-1] is not None:
            return self.prefix.sub(self.transform, number, count=1)
        return number[match.end() :]

    def wants_prefix(self, number: str) -> bool:
        """Whether `number` is written with the national prefix in its country, and never without it."""
        from phonenumbers.phonenumberutil import (
            _choose_formatting_pattern_for_number,
            _formatting_rule_has_first_group_only,
        )

        rule: Any = _choose_formatting_pattern_for_number(self.formats, number)
        prefixed = rule.national_prefix_formatting_rule if rule else None
        return bool(
            prefixed
            and not rule.national_prefix_optional_when_formatting
            and not _formatting_rule_has_first_group_only(prefixed)
        )


@cache
def _plan(region: str) -> _Plan | None:
    """None for a region that libphonenumber does not know: of it, international numbers are found only."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, enable_pattern_cache

    enable_pattern_cache()
    own: Any = PhoneMetadata.metadata_for_region(region.upper(), None)
    if own is None:
        return None
    sharing = COUNTRY_CODE_TO_REGION_CODE[own.country_code]
    plans: list[Any] = [PhoneMetadata.metadata_for_region(other, None) for other in sharing]
    kinds = [
        kind for plan in plans for name in _TYPES if (kind := getattr(plan, name)) and kind.national_number_pattern
    ]
    nothing = "(?!)"
    return _Plan(
        str(own.country_code),
        re.compile(own.international_prefix or nothing),
        re.compile(own.national_prefix_for_parsing or nothing),
        own.national_prefix_transform_rule,
        re.compile("|".join(f"(?:{kind.national_number_pattern})" for kind in kinds)),
        frozenset(length for plan in plans for length in plan.general_desc.possible_length),
        plans[0].number_format,  # of the region that stands for the code, as the matcher looks them up
    )
