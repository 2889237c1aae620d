"""Reject pages by their address, before anything is decoded: the URL filter of RefinedWeb and FineWeb.

Lists of hosts and pages are sorted 64-bit hashes, mapped into memory (see `host_lists`).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from pydantic import Field

from llmdata.clean.blocklists import list_file
from llmdata.clean.host_lists import compiled, entries, has, lookup, page
from llmdata.config import Section
from llmdata.document import Document, Rejection
from llmdata.resources import resource
from llmdata.urls import canonical, host, registered_domain

_SEPARATORS = re.compile(r"[\W_]+")


class UrlFilterConfig(Section):
    """Lists that addresses are looked up in. Each is a file with one entry a line (lines with `#` are comments), or the
    name of a list that `llmdata blocklists update` has downloaded, as `ut1/adult`."""

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
        """The lists that decide; their content is part of what makes a finished task. Long ones get compiled."""
        for kind in ("domains", "urls"):
            for path in _files(config, kind):
                compiled(path, kind)  # here, in one process, and not in every worker
        kinds = ("domains", "urls", "hard_words", "soft_words", "strict_words")
        return [path for kind in kinds for path in _files(config, kind)]

    def __init__(self, config: UrlFilterConfig) -> None:
        self._domains = [lookup(path, "domains") for path in _files(config, "domains")]
        self._urls = [lookup(path, "urls") for path in _files(config, "urls")]
        self._hard = _words(_files(config, "hard_words"))
        self._soft = _words(_files(config, "soft_words"))
        self._strict = sorted(_words(_files(config, "strict_words")))
        self._max_soft = config.max_soft_words

    def __call__(self, doc: Document) -> Document | Rejection:
        if not doc.url:
            return doc
        name = host(doc.url)
        domain = registered_domain(name)
        if domain and any(has(hosts, domain) for hosts in self._domains):
            return Rejection(doc, self.name, "domain", domain)
        if name != domain and any(has(hosts, name) for hosts in self._domains):
            return Rejection(doc, self.name, "host", name)
        address = canonical(doc.url)
        if any(has(pages, page(address)) for pages in self._urls):
            return Rejection(doc, self.name, "url", page(address))
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


def _files(config: UrlFilterConfig, kind: str) -> tuple[Path, ...]:
    named = [list_file(name, kind) for name in getattr(config, kind)]
    shipped = resource("blocklists", f"{kind}.txt")
    return (*([shipped] if config.shipped_lists and shipped.is_file() else []), *named)


@cache
def _words(paths: tuple[Path, ...]) -> frozenset[str]:
    """The words of a list as `_readable` addresses spell them."""
    words: set[str] = set()
    for path in paths:
        with path.open(encoding="utf-8", errors="replace") as lines:
            words.update(_SEPARATORS.sub("", entry.lower()) for entry in entries(lines))
    return frozenset(words - {""})
