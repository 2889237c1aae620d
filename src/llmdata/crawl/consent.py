"""What a page says about its use: meta robots, X-Robots-Tag, TDM reservation, Content-Usage and Content-Signal."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from llmdata.crawl.robots import withholds_training

Headers = list[tuple[str, str]]

_NO = ("noindex", "noarchive", "noai")


def directives(value: str, agent: str) -> set[str]:
    """Of an X-Robots-Tag or meta robots value, the words that are meant for `agent`.

    `googlebot: noindex, nofollow` is for another crawler, `noindex` for all; `none` means noindex and nofollow.
    """
    words: set[str] = set()
    ours = True
    for part in value.lower().split(","):
        name, colon, rest = part.strip().partition(":")
        if colon and name not in ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"):
            ours = name.strip() == agent
            part = rest
        if ours:
            words.update(part.split())
    return words | {"noindex", "nofollow"} if "none" in words else words


def in_headers(headers: Headers, agent: str) -> set[str]:
    """Signals in the headers of an answer: noindex, noarchive, noai, nofollow, tdm, signals."""
    found: set[str] = set()
    for name, value in headers:
        match name.lower():
            case "x-robots-tag":
                found |= directives(value, agent) & {*_NO, "nofollow"}
            case "tdm-reservation" if value.strip() == "1":
                found.add("tdm")
            case "content-usage" | "content-signal" if withholds_training(value):
                found.add("signals")
    return found


def in_meta(tags: Iterable[tuple[str, str]], agent: str) -> set[str]:
    """Signals in a page's meta tags, given as (name, content)."""
    found: set[str] = set()
    for name, content in tags:
        match name.strip().lower():
            case "tdm-reservation" if content.strip() == "1":
                found.add("tdm")
            case known if known in ("robots", agent):
                found |= directives(content, agent) & {*_NO, "nofollow"}
    return found


def refusal(found: Collection[str], honour: Collection[str]) -> str | None:
    """Why a page with these signals is left out, if it is."""
    return next((signal for signal in (*_NO, "tdm", "signals") if signal in found and signal in honour), None)


def reserved_paths(text: str) -> list[str]:
    """Path patterns that a `/.well-known/tdmrep.json` reserves (TDM Reservation Protocol, section 6.1)."""
    try:
        rules = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(rules, list):
        return []
    return [
        rule["location"]
        for rule in rules
        if isinstance(rule, dict) and isinstance(rule.get("location"), str) and rule.get("tdm-reservation") in (1, "1")
    ]


def is_reserved(url: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern of `reserved_paths` fits: a prefix where `*` stands for anything and a last `$` for the end."""
    path = urlsplit(url).path
    return any(_fits(path, pattern) for pattern in patterns)


def _fits(path: str, pattern: str) -> bool:
    """Greedy from the left, piece by piece: linear, whatever a hostile file holds."""
    anchored = pattern.endswith("$")
    first, *rest = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    if not rest:
        return not anchored or at == len(path)
    for piece in rest[:-1] if anchored else rest:
        found = path.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return not anchored or (path.endswith(rest[-1]) and len(path) - len(rest[-1]) >= at)
