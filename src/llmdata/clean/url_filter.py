"""Reject pages by their address, before anything is decoded: the URL filter of RefinedWeb and FineWeb.

Lists are read once a process and kept as sorted 64-bit hashes: 8 bytes an entry, whatever its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pydantic import Field

from llmdata.config import Section
from llmdata.document import Document, Rejection
from llmdata.errors import ConfigError
from llmdata.resources import resource
from llmdata.urls import canonical, host, registered_domain

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SEPARATORS = re.compile(r"[\W_]+")


class UrlFilterConfig(Section):
    """Lists that addresses are looked up in. Each is a file with one entry a line; lines with `#` are comments."""

    shipped_lists: bool = True
    """Use the small lists in `blocklists/`, besides those named here."""
    domains: list[str] = []
    """Files of registered domains (`example.com`: all its hosts) and full host names (`ads.example.com`: that one)."""
    urls: list[str] = []
    """Files of addresses of single pages, with or without scheme."""
    hard_words: list[str] = []
    """Files of words of which one rejects, where it stands between non-alphanumerics."""
    soft_words: list[str] = []
    """Files of words of which several reject."""
    strict_words: list[str] = []
    """Files of strings that reject wherever they stand, non-alphanumerics left out: `s-t-r-i-n-g` and `restringed`."""
    max_soft_words: int = Field(1, ge=0)
    """Most different soft words that an address may have."""


class UrlFilter:
    """Rejects a page whose address is on a list or has words of one. The first hit is the reason.

    Letter case, scheme, `www.`, a slash at the end, percent escapes and punycode make no difference.
    A document without an address is kept.
    """

    name = "url"
    version = 1

    @staticmethod
    def files(config: UrlFilterConfig) -> list[Path]:
        """The lists that decide; their content is part of what makes a finished task."""
        kinds = ("domains", "urls", "hard_words", "soft_words", "strict_words")
        return [path for kind in kinds for path in _files(config, kind)]

    def __init__(self, config: UrlFilterConfig) -> None:
        self._domains = _hashed(_files(config, "domains"), "domains")
        self._urls = _hashed(_files(config, "urls"), "urls")
        self._hard = _words(_files(config, "hard_words"))
        self._soft = _words(_files(config, "soft_words"))
        self._strict = sorted(_words(_files(config, "strict_words")))
        self._max_soft = config.max_soft_words

    def __call__(self, doc: Document) -> Document | Rejection:
        if not doc.url:
            return doc
        name = host(doc.url)
        domain = registered_domain(name)
        if domain and _has(self._domains, domain):
            return Rejection(doc, self.name, "domain", domain)
        if name != domain and _has(self._domains, name):
            return Rejection(doc, self.name, "host", name)
        address = canonical(doc.url)
        if _has(self._urls, _page(address)):
            return Rejection(doc, self.name, "url", _page(address))
        readable = _readable(address, name)
        tokens = set(_SEPARATORS.split(readable))
        if hard := tokens & self._hard:
            return Rejection(doc, self.name, "hard_word", min(hard))
        soft = tokens & self._soft
        if len(soft) > self._max_soft:
            return Rejection(doc, self.name, "soft_words", " ".join(sorted(soft)))
        joined = _SEPARATORS.sub("", readable)
        for word in self._strict:
            if word in joined:
                return Rejection(doc, self.name, "strict_word", word)
        return doc


def _readable(address: str, name: str) -> str:
    """`address` in lower case, with the letters that punycode and percent escapes stand for."""
    if "xn--" in name:
        labels = []
        for label in name.split("."):
            try:
                labels.append(label[4:].encode().decode("punycode") if label.startswith("xn--") else label)
            except UnicodeError:
                labels.append(label)
        address = address.replace(name, ".".join(labels), 1)
    return (unquote(address) if "%" in address else address).lower()


def _page(address: str) -> str:
    """`address` as blocklists spell it: without scheme, `www.` and the slash at the end."""
    return address.partition("://")[2].removeprefix("www.").rstrip("/").lower()


def _files(config: UrlFilterConfig, kind: str) -> tuple[Path, ...]:
    named = [Path(name) for name in getattr(config, kind)]
    for path in named:
        if not path.is_file():
            raise ConfigError(f"clean.url.{kind}: there is no file {path}; give a text file with one entry a line")
    shipped = resource("blocklists", f"{kind}.txt")
    return (*([shipped] if config.shipped_lists and shipped.is_file() else []), *named)


def _entries(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        # Published lists have a few broken bytes; none of them is an address.
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                entry = line.strip()
                if entry and not entry.startswith("#"):
                    yield entry


@cache
def _words(paths: tuple[Path, ...]) -> frozenset[str]:
    """The words of a list as `_readable` addresses spell them."""
    return frozenset(_SEPARATORS.sub("", entry.lower()) for entry in _entries(paths)) - {""}


@cache
def _hashed(paths: tuple[Path, ...], kind: str) -> npt.NDArray[np.uint64]:
    """Sorted hashes of a list's entries."""
    import numpy as np

    spell = _listed_host if kind == "domains" else _listed_page
    return np.unique(np.fromiter((_hash(spell(entry)) for entry in _entries(paths)), np.uint64))


def _listed_host(entry: str) -> str:
    if entry.isascii() and "/" not in entry and ":" not in entry:
        return entry.lower().rstrip(".")  # what most of millions of entries are
    return host(entry if "://" in entry else f"http://{entry}")


def _listed_page(entry: str) -> str:
    return _page(canonical(entry if "://" in entry else f"http://{entry}"))


def _hash(entry: str) -> int:
    from xxhash import xxh3_64_intdigest

    return xxh3_64_intdigest(entry.encode("utf-8", "surrogatepass"))


def _has(hashes: npt.NDArray[np.uint64], entry: str) -> bool:
    if not len(hashes):
        return False
    value = _hash(entry)
    at = int(hashes.searchsorted(hashes.dtype.type(value)))
    return at < len(hashes) and int(hashes[at]) == value
