"""C4's line rules (arXiv 1910.10683, section 2.2; TensorFlow Datasets' `c4_utils`).

The defaults are FineWeb's variant: no rule on terminal punctuation, no bad words, 3 words a line counted before
citations are cut, 5 sentences. C4's own numbers are 5 words, counted after, 3 sentences, and both rules on.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import Field

from llmdata.clean.bad_words import pattern_of, word_list
from llmdata.config import Section
from llmdata.document import Document, Rejection
from llmdata.text import count_sentences, portions

_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
_POLICY = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_PHRASES = ("{", "javascript", "lorem ipsum", *_POLICY)


class C4Config(Section):
    """The rules, in the order in which each line meets them."""

    max_characters: int | None = Field(None, ge=1)
    """Reject a page of more characters (C4: 190,000); `null` for no limit."""
    max_word_length: int | None = Field(1000, ge=1)
    """Drop a line with a longer word (between white space), in characters; `null` for no limit."""
    remove_citations: bool = True
    """Cut `[1]`, `[]`, `[edit]` and `[citation needed]` out of lines."""
    terminal_punctuation: bool = False
    """Drop a line that does not end in `.`, `?`, `!` or `"`, or ends in `...`."""
    min_words_per_line: int = Field(3, ge=0)
    """Drop a line of fewer words (between white space)."""
    count_words: Literal["before_citations", "after_citations"] = "before_citations"
    """Whether the words of a line are counted before or after citations are cut."""
    lorem_ipsum: bool = True
    """Reject a page with "lorem ipsum"."""
    javascript: bool = True
    """Drop a line with "javascript"."""
    curly_bracket: bool = True
    """Reject a page with `{`."""
    policy: bool = True
    """Drop a line about terms of use, privacy or cookies."""
    bad_words: list[str] = []
    """Reject a page with one of these lists' words between non-letters: `en` for the list in `blocklists/`, or paths
    of files with one word a line."""
    min_sentences: int = Field(5, ge=0)
    """Reject a page with fewer sentences in the lines that are left."""


class C4:
    """Rewrites a page to its good lines, or rejects it. What it dropped is counted in `metadata["c4"]`."""

    name = "c4"
    version = 2

    @staticmethod
    def files(config: C4Config) -> list[Path]:
        """The lists of bad words; their content is part of what makes a finished task."""
        return [word_list(name, "clean.c4.bad_words") for name in config.bad_words]

    def __init__(self, config: C4Config) -> None:
        self._config = config
        self._bad_words = pattern_of(tuple(self.files(config)))

    def __call__(self, doc: Document) -> Document | Rejection:
        config = self._config
        if config.max_characters is not None and len(doc.text) > config.max_characters:
            return Rejection(doc, self.name, "max_characters", f"{len(doc.text)} > {config.max_characters}")
        kept = []
        dropped: Counter[str] = Counter()
        longest = config.max_word_length
        page = doc.text.lower()
        # Few pages have one of these: the lines of others need no look, but where a citation is cut out of one.
        suspicious = bool(self._bad_words) or any(phrase in page for phrase in _PHRASES)
        for raw in doc.text.splitlines():
            line = raw.strip()
            if longest is not None and len(line) > longest and _has_longer_word(line, longest):
                dropped["long_word"] += 1
                continue
            counted, look = line, suspicious
            if config.remove_citations and "[" in line:
                line, citations = _CITATION.subn("", line)
                dropped["citation"] += citations
                look = True
                if config.count_words == "after_citations":
                    counted = line
            if config.terminal_punctuation and (not line.endswith((".", "?", "!", '"')) or line.endswith("...")):
                dropped["no_terminal_punctuation"] += 1
                continue
            if len(counted.split(None, config.min_words_per_line)) < config.min_words_per_line:
                dropped["few_words"] += 1
                continue
            if not look:
                kept.append(line)
                continue
            lowered = line.lower()
            if config.lorem_ipsum and "lorem ipsum" in lowered:
                return Rejection(doc, self.name, "lorem_ipsum")
            if config.javascript and "javascript" in lowered:
                dropped["javascript"] += 1
                continue
            if config.curly_bracket and "{" in line:
                return Rejection(doc, self.name, "curly_bracket")
            if config.policy and any(phrase in lowered for phrase in _POLICY):
                dropped["policy"] += 1
                continue
            if self._bad_words and (found := self._bad_words.search(lowered)):
                return Rejection(doc, self.name, "bad_word", found[0])
            kept.append(line)

        sentences = _count_up_to(kept, config.min_sentences)
        if sentences < config.min_sentences:
            return Rejection(doc, self.name, "few_sentences", f"{sentences} < {config.min_sentences}")
        text = "\n".join(kept).strip()
        if text != doc.text:
            doc.text = text
            if dropped := +dropped:
                doc.metadata["c4"] = dict(dropped)
        return doc


def _has_longer_word(line: str, limit: int) -> bool:
    return any(max(map(len, part.split()), default=0) > limit for part in portions(line))


def _count_up_to(lines: list[str], enough: int) -> int:
    """Sentences in `lines`; stops counting at `enough`. A line has at least one."""
    count = len(lines)
    for line in lines:
        if count >= enough:
            return enough
        count += count_sentences(line, enough - count + 1) - 1
    return count
