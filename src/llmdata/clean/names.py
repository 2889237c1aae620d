"""Names of people, places and organisations, as a spaCy model that the user has installed finds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from llmdata.errors import ConfigError

NameKind = Literal["person", "location", "organization", "group", "date_time"]

_LABELS: dict[NameKind, frozenset[str]] = {
    "person": frozenset({"PERSON", "PER", "persName"}),
    "location": frozenset({"LOC", "LOCATION", "GPE", "FAC", "placeName", "geogName"}),
    "organization": frozenset({"ORG", "ORGANIZATION", "orgName"}),
    "group": frozenset({"NORP"}),  # nationalities, religions, political groups
    "date_time": frozenset({"DATE", "TIME", "DATE_TIME", "date", "time"}),
}
"""Labels of spaCy's own models (OntoNotes, WikiNER, National Corpus of Polish), as Presidio groups them."""
_NOT_NEEDED = ["tagger", "morphologizer", "parser", "senter", "lemmatizer", "trainable_lemmatizer", "attribute_ruler"]
_LONGEST = 50_000  # characters at a time: spaCy asks for some 10 kB of memory each
_ENDS = ("\n", ". ", "。", " ")
"""Where a longer text is cut, best first: no name goes over the end of a line or sentence."""
_SETTING = "clean.pii.spacy_model"


def model_files(model: str) -> list[Path]:
    """All files of the model, an installed package or a folder. Raises ConfigError if it is not there."""
    folder = Path(model)
    if not folder.is_dir():
        try:
            found = find_spec(model)
        except (ImportError, ValueError):  # a name with dots or slashes
            found = None
        if found is None or not found.submodule_search_locations:
            raise ConfigError(
                f"{_SETTING}: there is no spaCy model {model!r}; give the folder of one, or install one by name, as in "
                "`python -m spacy download en_core_web_sm`"
            )
        folder = Path(found.submodule_search_locations[0])
    if not any(folder.rglob("meta.json")):
        raise ConfigError(f"{_SETTING}: {folder} is no spaCy model: it has no meta.json")
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".pyc", ".py"))


def find_names(text: str, model: str, kinds: Sequence[NameKind]) -> Iterator[tuple[int, int, NameKind]]:
    """Spans of the kinds that are wanted, in text order."""
    wanted = {label: kind for kind in kinds for label in _LABELS[kind]}
    pipeline = load(model)
    start = 0
    while start < len(text):
        stop = start + _LONGEST
        if stop < len(text):
            middle = start + _LONGEST // 2
            ends = (text.rfind(end, middle, stop) for end in _ENDS)
            stop = next((end + 1 for end in ends if end >= 0), stop)
        for entity in pipeline(text[start:stop]).ents:
            if kind := wanted.get(entity.label_):
                yield start + entity.start_char, start + entity.end_char, kind
        start = stop


@cache
def load(model: str) -> Any:
    """The pipeline, without the parts that names need not. Raises ConfigError."""
    try:
        import spacy

        return spacy.load(model, exclude=_NOT_NEEDED)
    except (ImportError, OSError, ValueError) as error:  # of another version, or half a folder
        raise ConfigError(f"{_SETTING}: {model} cannot be loaded: {error}") from None
