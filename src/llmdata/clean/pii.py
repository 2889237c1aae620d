"""Personal data: found by pattern, checksum or model, replaced, and counted by kind in `metadata["pii"]`, never kept.

E-mail addresses and public IPv4 addresses are matched as FineWeb matches them, phone numbers by libphonenumber. All
else that has a pattern is found by Presidio's recognisers, which are loaded only when the recipe names such a kind (the
import takes two seconds). Names need a spaCy model, which is loaded only when the recipe names one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, model_validator

from llmdata.clean import presidio
from llmdata.clean.addresses import emails, ipv4_addresses
from llmdata.clean.names import NameKind, find_names, load, model_files
from llmdata.clean.phone import phone_numbers
from llmdata.config import Section
from llmdata.document import Document, Rejection

Kind = Literal["email", "iban", "crypto", "credit_card", "ipv6", "ipv4", "us_ssn", "phone"]

_PLACEHOLDERS: dict[str, str] = {
    "email": "<EMAIL_ADDRESS>",
    "iban": "<IBAN_CODE>",
    "crypto": "<CRYPTO>",
    "credit_card": "<CREDIT_CARD>",
    "ipv6": "<IP_ADDRESS>",
    "ipv4": "<IP_ADDRESS>",
    "us_ssn": "<US_SSN>",
    "phone": "<PHONE_NUMBER>",
    "person": "<PERSON>",
    "location": "<LOCATION>",
    "organization": "<ORGANIZATION>",
    "group": "<NRP>",
    "date_time": "<DATE_TIME>",
}
"""Presidio's names."""

_DIGIT = re.compile(r"\d")

Found = tuple[int, int, str]
"""Start, end, kind."""


class PiiConfig(Section):
    """Which kinds of personal data to replace, and by what."""

    kinds: list[Kind | NameKind] = ["email", "ipv4"]
    """FineWeb's two by default. `person` and what stands behind it are found by the language model of `spacy_model`."""
    recognisers: list[str] = []
    """Further recognisers of Presidio by name, as `NhsRecognizer`: their matches become its placeholders."""
    spacy_model: str | None = None
    """An installed spaCy pipeline (`en_core_web_sm`) or the folder of one, for the kinds that are names."""
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

    @model_validator(mode="after")
    def _names_need_a_model(self) -> PiiConfig:
        if self.name_kinds and self.spacy_model is None:
            raise ValueError(f"to find {', '.join(self.name_kinds)}, name a spaCy model: spacy_model: en_core_web_sm")
        if self.spacy_model is not None and not self.name_kinds:
            raise ValueError(f"what shall the spaCy model find? Add to kinds: {', '.join(get_args(NameKind))}")
        return self

    @property
    def name_kinds(self) -> list[NameKind]:
        """The kinds that need the model."""
        return [kind for kind in get_args(NameKind) if kind in self.kinds]


class Pii:
    """Replaces personal data; rejects nothing."""

    name = "pii"
    version = 2

    @staticmethod
    def files(config: PiiConfig) -> list[Path]:
        """The language model's; their content is part of what makes a finished task."""
        return model_files(config.spacy_model) if config.spacy_model else []

    def __init__(self, config: PiiConfig) -> None:
        self._config = config
        self._finders: list[tuple[Callable[[str], Iterable[Found]], bool]] = [
            (_labelled(kind, _finder(kind, config)), kind not in ("email", "ipv6"))
            for kind in get_args(Kind)
            if kind in config.kinds
        ]
        """Each with whether it has a look only at texts with a digit."""
        self._placeholders = dict(_PLACEHOLDERS)
        for name in config.recognisers:
            entity, find = presidio.by_name(name)
            kind = entity.lower()
            self._placeholders.setdefault(kind, f"<{entity}>")
            self._finders.append((_labelled(kind, find), False))
        if model := config.spacy_model:
            model_files(model)  # says what to do if it is not there
            load(model)
            self._finders.append((lambda text: find_names(text, model, config.name_kinds), False))

    def __call__(self, doc: Document) -> Document | Rejection:
        text = doc.text
        found = self.find(text)
        if not found:
            return doc
        turns: dict[str, Iterator[str]] = {kind: cycle([own]) for kind, own in self._placeholders.items()}
        if self._config.replacement == "stand_ins":
            turns["email"] = cycle(self._config.email_stand_ins)
            turns["ipv4"] = cycle(self._config.ipv4_stand_ins)
        pieces = []
        at = 0
        counts: Counter[str] = Counter()
        for start, end, kind in found:
            pieces += [text[at:start], next(turns[kind])]
            counts[kind] += 1
            at = end
        doc.text = "".join([*pieces, text[at:]])
        doc.metadata["pii"] = dict(counts)
        return doc

    def find(self, text: str) -> list[Found]:
        """What would be replaced, in text order.

        Of two that overlap, the kind that stands first in `Kind` has the characters, then the earlier.
        """
        digits = _DIGIT.search(text) is not None
        found = [
            (rank, span)
            for rank, (find, wants_digit) in enumerate(self._finders)
            if digits or not wants_digit
            for span in find(text)
        ]
        kept: list[tuple[int, Found]] = []
        for rank, span in sorted(found, key=lambda one: one[1]):
            if not kept or span[0] >= kept[-1][1][1]:
                kept.append((rank, span))
            elif rank < kept[-1][0] and (len(kept) == 1 or kept[-2][1][1] <= span[0]):
                kept[-1] = (rank, span)
        return [span for _, span in kept]


def _labelled(kind: str, find: Callable[[str], Iterable[tuple[int, int]]]) -> Callable[[str], Iterable[Found]]:
    return lambda text: [(start, end, kind) for start, end in find(text)]


def _finder(kind: Kind, config: PiiConfig) -> Callable[[str], Iterable[tuple[int, int]]]:
    if kind == "email":
        return emails
    if kind == "ipv4":
        return lambda text: ipv4_addresses(text, config.addresses_apart, config.public_addresses_only)
    if kind == "phone":
        regions = tuple(config.phone_regions)
        return lambda text: phone_numbers(text, regions)
    return presidio.by_kind(kind, config.public_addresses_only)
