"""RefinedWeb's line-wise corrections (arXiv 2306.01116, appendix G.2): menus, counters, buttons cut out of a page."""

from __future__ import annotations

import re
from collections import Counter

from pydantic import Field

from llmdata.config import Section
from llmdata.document import Document, Rejection
from llmdata.text import count_words

_BETWEEN_DIGITS = {point: None for point in range(0x3001) if chr(point).isspace() or chr(point) in ".,"}
_NUMBER = r"\d[\d.,]{0,15}\s?[kKmMbB]?"


class RefinedwebConfig(Section):
    """The corrections, in the order in which each line meets them; `null`, `false` or an empty list switches one off.

    The paper names the kinds and an example of each; its full lists are not published.
    """

    max_uppercase: float | None = Field(0.5, ge=0, le=1)
    """Drop a line with a greater share of upper-case characters."""
    numbers: bool = True
    """Drop a line of digits only, points, commas and white space between them."""
    counters: list[str] = [
        "likes?",
        "shares?",
        "comments?",
        "views?",
        "followers?",
        "replies",
        "reply",
        "retweets?",
        "reposts?",
        "votes?",
        "upvotes?",
        "downloads?",
    ]
    """Drop a line that is a number and one of these words (regular expressions), as `3 likes`."""
    min_words_per_line: int = Field(2, ge=0)
    """Drop a line of fewer words. In scripts without spaces a word is what the splitter makes one."""
    short_line: int = Field(10, ge=0)
    """Lines of at most so many words lose the phrases below."""
    cut_at_start: list[str] = ["sign-in", "sign in"]
    """Phrases cut off the start of a short line, in any letter case."""
    cut_at_end: list[str] = ["read more...", "read more…", "read more"]
    """Phrases cut off the end of a short line."""
    cut_anywhere: list[str] = ["items in cart"]
    """Phrases cut out of a short line."""
    max_words_removed: float | None = Field(0.05, ge=0, le=1)
    """Reject a page if a greater share of its words went with all that."""


class Refinedweb:
    """Rewrites a page to its corrected lines, or rejects it. What went is counted in `metadata["refinedweb"]`."""

    name = "refinedweb"
    version = 2

    def __init__(self, config: RefinedwebConfig) -> None:
        self._config = config
        self._counter = re.compile(rf"\W*{_NUMBER}\s+(?:{'|'.join(config.counters)})\W*", re.IGNORECASE)
        self._phrase = _phrases(config)

    def __call__(self, doc: Document) -> Document | Rejection:
        kept: list[str] = []
        dropped: Counter[str] = Counter()
        words = removed = 0
        for line in doc.view.lines:
            count = count_words(line)
            words += count
            if not count:  # a blank line stands between paragraphs
                kept.append(line)
                continue
            if why := self._drop(line.strip(), count):
                dropped[why] += 1
                removed += count
                continue
            if self._phrase and count <= self._config.short_line:
                corrected = self._phrase.sub("", line).strip()
                if corrected != line.strip():
                    dropped["phrase"] += 1
                    removed += count - count_words(corrected)
                    if not corrected:
                        continue
                    line = corrected
            kept.append(line)

        limit = self._config.max_words_removed
        if limit is not None and removed > limit * words:
            return Rejection(doc, self.name, "max_words_removed", f"{removed / words:.4g} > {limit:g}")
        if dropped:
            doc.text = "\n".join(kept).strip()
            doc.metadata["refinedweb"] = dict(dropped)
        return doc if doc.text else Rejection(doc, self.name, "empty")

    def _drop(self, line: str, words: int) -> str | None:
        config = self._config
        if config.max_uppercase is not None and sum(map(str.isupper, line)) > config.max_uppercase * len(line):
            return "uppercase"
        if config.numbers and line.translate(_BETWEEN_DIGITS).isdigit():
            return "number"
        if config.counters and len(line) <= 100 and self._counter.fullmatch(line):
            return "counter"
        return "few_words" if words < config.min_words_per_line else None


def _phrases(config: RefinedwebConfig) -> re.Pattern[str] | None:
    def choices(phrases: list[str]) -> str:
        return "|".join(re.escape(phrase) for phrase in sorted(phrases, key=lambda phrase: (-len(phrase), phrase)))

    rules = [
        rf"^\s*(?:{choices(config.cut_at_start)})(?!\w)\W*" if config.cut_at_start else "",
        rf"(?<!\w)(?:{choices(config.cut_at_end)})\s*$" if config.cut_at_end else "",
        rf"(?<!\w)(?:{choices(config.cut_anywhere)})(?!\w)" if config.cut_anywhere else "",
    ]
    return re.compile("|".join(filter(None, rules)), re.IGNORECASE) if any(rules) else None
