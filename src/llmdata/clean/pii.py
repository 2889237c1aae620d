"""Personal data: found by pattern and checksum, replaced, and counted by kind in `metadata["pii"]`, never kept.

E-mail addresses and public IPv4 addresses are matched as FineWeb matches them. All else is found by Presidio's
recognisers, which are loaded only when the recipe names such a kind (the import takes two seconds), and which read only
the neighbourhood of what could be a match. No language model is involved.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from ipaddress import ip_address
from itertools import cycle
from typing import Any, Literal

from pydantic import Field

from llmdata.config import Section
from llmdata.document import Document, Rejection

Kind = Literal["email", "ipv4", "ipv6", "phone", "credit_card", "iban", "us_ssn", "crypto"]

_PLACEHOLDERS: dict[Kind, str] = {
    "email": "<EMAIL_ADDRESS>",
    "iban": "<IBAN_CODE>",
    "crypto": "<CRYPTO>",
    "credit_card": "<CREDIT_CARD>",
    "ipv6": "<IP_ADDRESS>",
    "ipv4": "<IP_ADDRESS>",
    "us_ssn": "<US_SSN>",
    "phone": "<PHONE_NUMBER>",
}
"""Presidio's names. Where two kinds claim the same characters, the one that stands first here has them."""
_RANK = {kind: rank for rank, kind in enumerate(_PLACEHOLDERS)}

_LOCAL = "A-Za-z0-9!#$%&'*+/=?^_`{|}~-"
_LOCAL_AND_DOT = ".!#$%&'*+/=?^_`{|}~-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LOCAL_PART = re.compile(rf"\b[{_LOCAL}]+(?:\.[{_LOCAL}]+)*@")
_OCTET = "(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)"
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+{_LABEL}|\[{_OCTET}(?:\.{_OCTET}){{3}}\]")
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_IPV4_APART = re.compile(rf"(?<![\w.]){_IPV4.pattern}(?![\w]|\.\w)")
_COULD_BE_IPV4 = re.compile(r"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")

_SURE = 0.3
"""Least score of a Presidio result: what is below (any nine digits are a US_SSN) needs context words to mean
anything."""
_REACH = 80
"""Characters around a candidate that a recogniser gets to see."""

_CANDIDATES: dict[Kind, re.Pattern[str]] = {
    "ipv6": re.compile(r"[0-9A-Fa-f]:[0-9A-Fa-f]{0,4}:|::[0-9A-Fa-f]"),
    "phone": re.compile(r"\d(?:[^\w\n]{0,4}\d){5,40}"),
    "credit_card": re.compile(r"\d(?:[ -]?\d){11,20}"),
    "iban": re.compile(r"[A-Z]{2}[0-9]{2}[ -]?[A-Z0-9]{4}[ -]?[A-Z0-9]{4}"),
    "us_ssn": re.compile(r"[0-9]{3}[- .][0-9]{2}[- .][0-9]{4}"),
    "crypto": re.compile(r"(?:[bB][cC]1|[13])[A-Za-z0-9]{25}"),
}


class PiiConfig(Section):
    """Which kinds of personal data to replace, and by what."""

    kinds: list[Kind] = ["email", "ipv4"]
    """FineWeb's two by default."""
    replacement: Literal["stand_ins", "placeholders"] = "stand_ins"
    """`stand_ins`: FineWeb's fixed addresses for e-mail and IPv4, in turn, the turn starting anew in each document;
    `placeholders`: the kind, as `<EMAIL_ADDRESS>`, which the other kinds get in any case."""
    email_stand_ins: list[str] = Field(["email@example.com", "firstname.lastname@example.org"], min_length=1)
    """Addresses of domains that are reserved for examples."""
    ipv4_stand_ins: list[str] = Field(
        [
            "22.214.171.124",
            "126.96.36.199",
            "188.8.131.52",
            "184.108.40.206",
            "220.127.116.11",
            "18.104.22.168",
        ],
        min_length=1,
    )
    """Addresses that did not answer when FineWeb chose them."""
    public_addresses_only: bool = True
    """Leave private and reserved IP addresses as they are."""
    addresses_apart: bool = False
    """Find an IPv4 address only where it stands by itself; FineWeb finds 1.2.3.45 in `v1.2.3.456` too."""
    phone_regions: list[str] = ["US", "GB", "DE", "FR", "IL", "IN", "CA", "BR"]
    """Countries whose national phone numbers are recognised; international ones (`+…`) always are."""


class Pii:
    """Replaces personal data; rejects nothing."""

    name = "pii"
    version = 1

    def __init__(self, config: PiiConfig) -> None:
        self._config = config
        self._finders = [(kind, _finder(kind, config)) for kind in _PLACEHOLDERS if kind in config.kinds]

    def __call__(self, doc: Document) -> Document | Rejection:
        text = doc.text
        found = [(start, end, kind) for kind, find in self._finders for start, end in find(text)]
        if not found:
            return doc
        turns: dict[Kind, Iterator[str]] = {kind: cycle([_PLACEHOLDERS[kind]]) for kind in _PLACEHOLDERS}
        if self._config.replacement == "stand_ins":
            turns["email"] = cycle(self._config.email_stand_ins)
            turns["ipv4"] = cycle(self._config.ipv4_stand_ins)
        pieces = []
        at = 0
        counts: Counter[str] = Counter()
        for start, end, kind in _without_overlaps(found):
            pieces += [text[at:start], next(turns[kind])]
            counts[kind] += 1
            at = end
        doc.text = "".join([*pieces, text[at:]])
        doc.metadata["pii"] = dict(counts)
        return doc


def _without_overlaps(found: list[tuple[int, int, Kind]]) -> list[tuple[int, int, Kind]]:
    """In text order; of two that overlap, the kind of higher rank, then the earlier."""
    kept: list[tuple[int, int, Kind]] = []
    for span in sorted(found):
        if not kept or span[0] >= kept[-1][1]:
            kept.append(span)
        elif _RANK[span[2]] < _RANK[kept[-1][2]] and (len(kept) == 1 or kept[-2][1] <= span[0]):
            kept[-1] = span
    return kept


def _finder(kind: Kind, config: PiiConfig) -> Callable[[str], Iterator[tuple[int, int]]]:
    if kind == "email":
        return _emails
    if kind == "ipv4":
        pattern = _IPV4_APART if config.addresses_apart else _IPV4
        return lambda text: _ipv4(text, pattern, config.public_addresses_only)
    recogniser = _recogniser(kind, tuple(config.phone_regions))
    if kind == "ipv6":
        return lambda text: _ipv6(text, recogniser, config.public_addresses_only)
    return lambda text: _recognised(text, kind, recogniser)


def _emails(text: str) -> Iterator[tuple[int, int]]:
    """Spans of e-mail addresses. In time linear in the text: from each `@`, first left, then right."""
    free = 0
    at = text.find("@")
    while at >= 0:
        local = text[free:at]
        start = free + len(local.rstrip(_LOCAL_AND_DOT))
        if (dots := text.rfind("..", start, at)) >= 0:
            start = dots + 2
        following = at + 1
        if start < at and text[at - 1] != ".":
            left, right = _LOCAL_PART.search(text, start, at + 1), _DOMAIN.match(text, at + 1)
            if left and right:
                yield left.start(), right.end()
                following = right.end()
        free = following
        at = text.find("@", free)


def _ipv4(text: str, pattern: re.Pattern[str], public_only: bool) -> Iterator[tuple[int, int]]:
    if _COULD_BE_IPV4.search(text):
        for match in pattern.finditer(text):
            if _is_address(match[0], public_only):
                yield match.span()


def _ipv6(text: str, recogniser: Any, public_only: bool) -> Iterator[tuple[int, int]]:
    for start, end in _recognised(text, "ipv6", recogniser):
        bare = re.split("[/%]", text[start:end])[0]
        if ":" in bare and _is_address(bare, public_only):
            yield start, end


def _is_address(text: str, public_only: bool) -> bool:
    try:
        address = ip_address(text)
    except ValueError:  # a number with a leading zero
        return False
    return address.is_global or not public_only


def _recognised(text: str, kind: Kind, recogniser: Any) -> Iterator[tuple[int, int]]:
    """Spans that `recogniser` is sure of, in the neighbourhood of candidates."""
    for start, stop in _neighbourhoods(text, _CANDIDATES[kind]):
        for result in recogniser.analyze(text[start:stop], recogniser.supported_entities, None):
            begin, end = start + result.start, start + result.end
            # What touches a cut may be longer than it looks, or begin there only because of the cut.
            whole = (begin > start or start == 0) and (end < stop or stop == len(text))
            if result.score >= _SURE and whole:
                yield begin, end


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
def _recogniser(kind: Kind, phone_regions: tuple[str, ...]) -> Any:
    """Presidio's recogniser for `kind`. Imports Presidio: 2 s, and PyTorch where it is installed."""
    from presidio_analyzer import predefined_recognizers as presidio

    if kind == "phone":
        return presidio.PhoneRecognizer(supported_regions=phone_regions)
    recognisers = {
        "ipv6": presidio.IpRecognizer,
        "credit_card": presidio.CreditCardRecognizer,
        "iban": presidio.IbanRecognizer,
        "us_ssn": presidio.UsSsnRecognizer,
        "crypto": presidio.CryptoRecognizer,
    }
    return recognisers[kind]()
