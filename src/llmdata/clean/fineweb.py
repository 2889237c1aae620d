"""FineWeb's own quality rules (arXiv 2406.17557, section 3.5), on the lines of the text that are not blank."""

from __future__ import annotations

from pydantic import Field

from llmdata.config import Section
from llmdata.document import Document, Rejection
from llmdata.words import SENTENCE_END


class FinewebConfig(Section):
    """Thresholds of the rules, in the order in which they are asked; `null` switches a rule off."""

    min_punctuated_lines: float | None = Field(0.12, ge=0, le=1)
    """Least share of lines that end in terminal punctuation (of any script)."""
    short_line_length: int = Field(30, ge=0)
    """A line of at most so many characters is short."""
    max_short_lines: float | None = Field(0.67, ge=0, le=1)
    """Greatest share of short lines."""
    max_duplicate_line_characters: float | None = Field(0.01, ge=0, le=1)
    """Greatest share of characters, newlines not counted, in lines that occurred before. The paper's body says 0.1,
    its appendix and the published code 0.01."""
    max_newlines_per_word: float | None = Field(0.3, ge=0)
    """Most newlines for each token: above it, the page is a list."""


class Fineweb:
    """Rejects lists, menus and boilerplate; the reason is the name of the threshold."""

    name = "fineweb"
    version = 2

    def __init__(self, config: FinewebConfig) -> None:
        self._config = config

    def __call__(self, doc: Document) -> Document | Rejection:
        config = self._config
        newlines = doc.text.count("\n")
        lines = [line for line in doc.view.lines if line and not line.isspace()]
        if not lines:
            return Rejection(doc, self.name, "empty")

        share = sum([line[-1] in SENTENCE_END for line in lines]) / len(lines)
        if config.min_punctuated_lines is not None and share < config.min_punctuated_lines:
            return self._rejection(doc, "min_punctuated_lines", share, "<", config.min_punctuated_lines)

        share = sum([len(line) <= config.short_line_length for line in lines]) / len(lines)
        if config.max_short_lines is not None and share > config.max_short_lines:
            return self._rejection(doc, "max_short_lines", share, ">", config.max_short_lines)

        duplicate = sum(map(len, lines)) - sum(map(len, set(lines)))
        share = duplicate / (len(doc.text) - newlines)
        if config.max_duplicate_line_characters is not None and share > config.max_duplicate_line_characters:
            return self._rejection(
                doc, "max_duplicate_line_characters", share, ">", config.max_duplicate_line_characters
            )

        # There are at least as many tokens as pieces between white space: most texts need no look at the tokens.
        limit = config.max_newlines_per_word
        enough = int(min(newlines / limit, len(doc.text))) + 2 if limit else 0
        if limit is not None and newlines >= limit * len(doc.text.split(None, enough)):
            share = newlines / len(doc.view.tokens)
            if share > limit:
                return self._rejection(doc, "max_newlines_per_word", share, ">", limit)
        return doc

    def _rejection(self, doc: Document, rule: str, value: float, sign: str, limit: float) -> Rejection:
        return Rejection(doc, self.name, rule, f"{value:.4g} {sign} {limit:g}")
