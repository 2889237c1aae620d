"""Gopher's quality rules (arXiv 2112.11446, section A1.1): is this prose at all?

The denominators are those of FineWeb's code: word counts and lengths are over tokens that are not punctuation only,
the ratios over all tokens.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmdata.config import Section
from llmdata.document import Document, Rejection
from llmdata.pieces import Tokens
from llmdata.words import LETTERS, PUNCTUATION_ONLY, hash_of


class GopherQualityConfig(Section):
    """Thresholds of the rules, in the order in which they are asked; `null` switches a rule off."""

    min_words: int | None = Field(50, ge=0)
    """Fewest words, punctuation not counted."""
    max_words: int | None = Field(100_000, ge=1)
    """Most words, punctuation not counted."""
    min_mean_word_length: float | None = Field(3, ge=0)
    """Least mean length of a word, in characters."""
    max_mean_word_length: float | None = Field(10, gt=0)
    """Greatest mean length of a word, in characters."""
    max_hashes_per_word: float | None = Field(0.1, ge=0)
    """Most `#` characters for each token."""
    max_ellipses_per_word: float | None = Field(0.1, ge=0)
    """Most ellipses (`...` or `…`) for each token."""
    max_bullet_lines: float | None = Field(0.9, ge=0, le=1)
    """Greatest share of lines that start with `•` or `-`."""
    max_ellipsis_lines: float | None = Field(0.3, ge=0, le=1)
    """Greatest share of lines that end in an ellipsis."""
    min_words_with_letter: float | None = Field(0.8, ge=0, le=1)
    """Least share of tokens with a letter in them."""
    min_stop_words: int | None = Field(2, ge=0)
    """Fewest stop words."""
    stop_words: list[str] = ["the", "be", "to", "of", "and", "that", "have", "with"]
    """Words that any English prose has; matched with their case."""
    count_stop_words: Literal["distinct", "occurrences"] = "distinct"
    """What `min_stop_words` counts: different stop words (Gopher, FineWeb) or all their occurrences (DCLM)."""


class GopherQuality:
    """Rejects what does not look like prose; the reason is the name of the threshold."""

    name = "gopher_quality"
    version = 2

    def __init__(self, config: GopherQualityConfig) -> None:
        self._config = config
        self._stop_hashes = sorted({hash_of(word) for word in config.stop_words})

    def __call__(self, doc: Document) -> Document | Rejection:
        import numpy as np

        text, all_tokens = doc.text, doc.view.tokens
        tokens = len(all_tokens) or 1  # of an empty text all ratios are 0
        is_word = all_tokens.kinds != PUNCTUATION_ONLY
        words, characters = int(np.count_nonzero(is_word)), int(all_tokens.lengths[is_word].sum())
        lettered = int(np.count_nonzero(all_tokens.kinds == LETTERS))

        config = self._config
        mean = characters / words if words else 0.0
        lines = text.splitlines() or [""]
        ellipses = text.count("...") + text.count("…")
        return (
            self._below(doc, "min_words", words, config.min_words)
            or self._above(doc, "max_words", words, config.max_words)
            or self._below(doc, "min_mean_word_length", mean, config.min_mean_word_length)
            or self._above(doc, "max_mean_word_length", mean, config.max_mean_word_length)
            or self._above(doc, "max_hashes_per_word", text.count("#") / tokens, config.max_hashes_per_word)
            or self._above(doc, "max_ellipses_per_word", ellipses / tokens, config.max_ellipses_per_word)
            or self._above(
                doc,
                "max_bullet_lines",
                sum([line.lstrip()[:1] in ("•", "-") for line in lines]) / len(lines),
                config.max_bullet_lines,
            )
            or self._above(
                doc,
                "max_ellipsis_lines",
                sum([line.rstrip().endswith(("...", "…")) for line in lines if ellipses]) / len(lines),
                config.max_ellipsis_lines,
            )
            or self._below(doc, "min_words_with_letter", lettered / tokens, config.min_words_with_letter)
            or self._below(doc, "min_stop_words", self._stop_words(all_tokens), config.min_stop_words)
            or doc
        )

    def _stop_words(self, tokens: Tokens) -> int:
        """How many there are, or that there are enough."""
        import numpy as np

        found, enough = 0, self._config.min_stop_words or 0
        for value in self._stop_hashes:
            if found >= enough:
                break
            count = int(np.count_nonzero(tokens.hashes == value))
            found += min(count, 1) if self._config.count_stop_words == "distinct" else count
        return found

    def _below(self, doc: Document, rule: str, value: float, limit: float | None) -> Rejection | None:
        if limit is None or value >= limit:
            return None
        return Rejection(doc, self.name, rule, f"{value:.4g} < {limit:g}")

    def _above(self, doc: Document, rule: str, value: float, limit: float | None) -> Rejection | None:
        if limit is None or value <= limit:
            return None
        return Rejection(doc, self.name, rule, f"{value:.4g} > {limit:g}")
