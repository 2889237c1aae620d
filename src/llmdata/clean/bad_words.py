"""Reject pages by their words: C4's last rule (arXiv 1910.10683, section 2.2) as a stage of its own.

Inside the stage `c4` the same lists are asked line by line, where C4 asks them; here they see the whole text.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from pydantic import Field

from llmdata.config import Section
from llmdata.document import Document, Rejection
from llmdata.errors import ConfigError
from llmdata.resources import cache_folder, resource


class BadWordsConfig(Section):
    """Which lists, and how much of them a page may have."""

    lists: list[str] = Field(["en"], min_length=1)
    """`en` for the list in `blocklists/`, `ldnoobw/en` for one that `llmdata blocklists update ldnoobw` has downloaded,
    or paths of files with one word or phrase a line."""
    max_words: int = Field(0, ge=0)
    """Most occurrences that a page may have. C4: none."""


class BadWords:
    """Rejects a page with words of a list between non-letters, in any letter case; the first of them is the detail."""

    name = "bad_words"
    version = 1

    @staticmethod
    def files(config: BadWordsConfig) -> list[Path]:
        """The lists; their content is part of what makes a finished task."""
        return [word_list(name, "clean.bad_words.lists") for name in config.lists]

    def __init__(self, config: BadWordsConfig) -> None:
        self._max = config.max_words
        self._pattern = pattern_of(tuple(self.files(config)))

    def __call__(self, doc: Document) -> Document | Rejection:
        assert self._pattern is not None
        for count, found in enumerate(self._pattern.finditer(doc.text.lower()), 1):
            if count > self._max:
                return Rejection(doc, self.name, "bad_word", found[0])
        return doc


def word_list(name: str, setting: str) -> Path:
    """The file of the list `name`: a language that `blocklists/` has, or a path. `setting` stands in the error."""
    shipped = resource("blocklists", f"bad_words/{name}.txt")
    downloaded = cache_folder("blocklists") / name / "words"
    path = next((path for path in (shipped, downloaded) if path.is_file()), Path(name))
    if not path.is_file():
        languages = ", ".join(sorted(file.stem for file in shipped.parent.glob("*.txt")))
        raise ConfigError(
            f"{setting}: there is no word list {name!r}; give a path, a language that has one ({languages}), or what "
            "`llmdata blocklists update ldnoobw` has downloaded (ldnoobw/en)"
        )
    return path


@cache
def pattern_of(paths: tuple[Path, ...]) -> re.Pattern[str] | None:
    """What finds the words of these lists in a text of lower case; None without lists."""
    if not paths:
        return None
    words: set[str] = set()
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read as a word list: {error}") from None
        words.update(line.strip().lower() for line in lines if line.strip() and not line.startswith("#"))
    if not words:
        raise ConfigError(f"there is no word in {', '.join(map(str, paths))}; give a file with one word a line")
    # Longest first, so that the phrase that decided is named whole.
    choices = "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))
    return re.compile(rf"(?<!\w)(?:{choices})(?!\w)")
