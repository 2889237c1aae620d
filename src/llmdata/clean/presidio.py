"""Presidio's recognisers, asked only about the neighbourhood of what could be a match."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from llmdata.clean.addresses import is_address
from llmdata.errors import ConfigError

Span = tuple[int, int]

_SURE = 0.3
"""Least score of a result: what is below (any nine digits are a US_SSN) means something among context words only."""
_REACH = 80
"""Characters around a candidate that a recogniser gets to see."""

_BY_KIND = {
    "ipv6": ("IpRecognizer", r"[0-9A-Fa-f]:[0-9A-Fa-f]{0,4}:|::[0-9A-Fa-f]"),
    "credit_card": ("CreditCardRecognizer", r"[13-6](?<!\w.)(?:[ -]?\d){11,20}"),
    "iban": ("IbanRecognizer", r"[A-Z]{2}[0-9]{2}[ -]?[A-Z0-9]{4}[ -]?[A-Z0-9]{4}"),
    "us_ssn": ("UsSsnRecognizer", r"[0-9](?<!\w.)[0-9]{2}(?:[0-9]{2}-?|[- .]?[0-9]{2}[- .]?)[0-9]{4}(?!\w)"),
    "crypto": ("CryptoRecognizer", r"(?:[bB][cC]1|[13])[A-Za-z0-9]{25}"),
}
"""Recogniser and what its matches have in them. `(?<!\\w.)` is `\\b` one character late: `re` is quick to find a first
character of a set."""
_WITHOUT_DIGITS = {"UrlRecognizer": r"\w[.:]\w|://"}
"""Recognisers whose matches need no digit, and what they need."""
_IN_CONTEXT = ("us_ssn",)
"""Kinds that are taken for little among words that speak of them."""
_CONTEXT_WORDS = 8
"""How many words before a match are its context: Presidio's five, and the stop words that it does not count."""


def by_kind(kind: str, public_only: bool) -> Callable[[str], Iterator[Span]]:
    """What finds `kind` in a text."""
    name, candidate = _BY_KIND[kind]
    recogniser, pattern = _recogniser(name), re.compile(candidate)
    if kind == "ipv6":
        return lambda text: _ipv6(text, pattern, recogniser, public_only)
    context = tuple(recogniser.context) if kind in _IN_CONTEXT else ()
    return lambda text: _recognised(text, pattern, recogniser, context)


def by_name(name: str) -> tuple[str, Callable[[str], Iterator[Span]]]:
    """What the recogniser of that name calls its matches, and what finds them."""
    recogniser, pattern = _recogniser(name), re.compile(_WITHOUT_DIGITS.get(name, r"\d"))
    context = tuple(recogniser.context or ())
    return recogniser.supported_entities[0], lambda text: _recognised(text, pattern, recogniser, context)


def _ipv6(text: str, candidate: re.Pattern[str], recogniser: Any, public_only: bool) -> Iterator[Span]:
    if text.count(":") < 2:
        return
    for start, end in _recognised(text, candidate, recogniser, ()):
        bare = re.split("[/%]", text[start:end])[0]
        if ":" in bare and is_address(bare, public_only):
            yield start, end


def _recognised(text: str, candidate: re.Pattern[str], recogniser: Any, context: tuple[str, ...]) -> Iterator[Span]:
    """Spans that `recogniser` is sure of, or that stand behind words of `context`, near candidates."""
    for start, stop in _neighbourhoods(text, candidate):
        for result in recogniser.analyze(text[start:stop], recogniser.supported_entities, None):
            begin, end = start + result.start, start + result.end
            # What touches a cut may be longer than it looks, or begin there only because of the cut.
            whole = (begin > start or start == 0) and (end < stop or stop == len(text))
            if whole and (result.score >= _SURE or _in_context(text[max(0, begin - _REACH) : begin], context)):
                yield begin, end


def _in_context(before: str, context: tuple[str, ...]) -> bool:
    """As Presidio's enhancer: one of the words before has a word of `context` in it."""
    words = re.findall(r"\w+", before.lower())[-_CONTEXT_WORDS:] if context else []
    return any(known in word for word in words for known in context)


def _neighbourhoods(text: str, candidate: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Stretches of `text` around candidates; stretches that touch are one."""
    start = stop = -1
    for match in candidate.finditer(text):
        if start >= 0 and match.start() - _REACH > stop:
            yield start, stop
            start = -1
        if start < 0:
            start = max(0, match.start() - _REACH)
        stop = min(len(text), match.end() + _REACH)
    if start >= 0:
        yield start, stop


@cache
def _recogniser(name: str) -> Any:
    """Presidio's recogniser. Imports Presidio: 2 s, and PyTorch where it is installed. Raises ConfigError."""
    from presidio_analyzer import PatternRecognizer, predefined_recognizers

    known: dict[str, Any] = {
        one.__name__: one
        for one in vars(predefined_recognizers).values()
        if isinstance(one, type) and issubclass(one, PatternRecognizer)
    }
    if name not in known:
        raise ConfigError(f"clean.pii.recognisers: there is no {name!r}; Presidio has: {', '.join(sorted(known))}")
    return known[name]()
