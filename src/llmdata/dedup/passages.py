"""Passages that stand in several places: paragraphs (CCNet), lines (C4's code), spans of sentences (C4's paper).

A text is cut into units (lines, sentences) that are the whole of it when put together again. A passage is a run of
units, and has one key. What is resolved are the units that go; the pass that reads the documents next cuts the same
text again and puts together what is left.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from llmdata.dedup.config import LineDedupConfig, ParagraphDedupConfig, PassageDedupConfig, SpanDedupConfig
from llmdata.dedup.rank import ranks, scope_salts
from llmdata.dedup.shuffle import DUPLICATE, Verdicts, earlier_drops
from llmdata.dedup.words import mix, shingles
from llmdata.document import Document, Rejection
from llmdata.storage.place import Place
from llmdata.text import count_sentences
from llmdata.words import SENTENCE_END

if TYPE_CHECKING:
    import pyarrow as pa

    from llmdata.engine.session import Session

_NEWLINES = re.compile(r"\n+")
_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")
_CLOSING = "\"'”’»)\\]」』）"
_UNSPACED_END = "。！？｡"
_SENTENCES = re.compile(
    rf"[{re.escape(''.join(sorted(SENTENCE_END)))}]+[{_CLOSING}]*\s+|[{_UNSPACED_END}]+[{_CLOSING}]*\s*|\n\s*"
)
_COMMON = re.compile(rf"[.!?\n](?:(?<=\n)\s*|[.!?]*[{_CLOSING}]*\s+)")
"""The same for texts without `_RARE`, in a twentieth of the time: a search for four characters is a search in C."""
_RARE = frozenset(SENTENCE_END | set(_UNSPACED_END)) - frozenset(".!?")


class _Bare(dict[int, Any]):
    """For `str.translate`: digits become `0`; accents, punctuation, symbols and control characters go."""

    def __missing__(self, point: int) -> Any:
        kind = unicodedata.category(chr(point))
        value: Any = "0" if kind == "Nd" else None if (kind[0] in "PSC" and point != 9) or kind == "Mn" else point
        self[point] = value
        return value


class PassageDedup:
    """Keeps each passage in one document. Subclasses say what a passage is."""

    name: ClassVar[str]
    version: ClassVar[int]
    unit: ClassVar[str]
    """What a text is cut into, for people: `lines`."""
    config: PassageDedupConfig
    length = 1
    """Units in a passage."""

    @classmethod
    def files(cls, config: PassageDedupConfig) -> list[Place]:
        """What was found by earlier runs that are compared: part of what makes this one's results."""
        return earlier_drops(config, cls.name)

    @cached_property
    def schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema(
            [("id", pa.string()), ("rank", pa.int64()), ("units", pa.int32()), ("passages", pa.list_(pa.uint64()))]
        )

    def keys(self, docs: Sequence[Document]) -> pa.RecordBatch:
        """One key a unit: of the passage that begins there, 0 where none does."""
        import pyarrow as pa

        texts = [[self.normal(unit) for unit in self.units(doc.text)] for doc in docs]
        counts = np.array([len(units) for units in texts], np.int64)
        digests = b"".join(
            hashlib.sha1(unit.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()[:8]
            for units in texts
            for unit in units
        )
        hashes = np.frombuffer(digests, "<u8")
        if self.length > 1:
            hashes = _runs(hashes, counts, self.length)
        hashes = hashes ^ np.repeat(scope_salts(docs, self.config.scope), counts)
        blank = np.array([not unit for units in texts for unit in units], bool)
        hashes[hashes == 0] = 1
        if self.length == 1:
            hashes[blank] = 0
        else:
            ends = np.repeat(np.cumsum(counts), counts)
            hashes[np.arange(len(hashes)) + self.length > ends] = 0
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return pa.RecordBatch.from_arrays(
            [
                pa.array([doc.id for doc in docs], pa.string()),
                pa.array(ranks(docs, self.config)),
                pa.array(counts.astype(np.int32)),
                pa.ListArray.from_arrays(pa.array(offsets), pa.array(hashes)),
            ],
            schema=self.schema,
        )

    def resolve(self, keys: Place, out: Place, session: Session) -> None:
        from llmdata.dedup.repeats import resolve

        resolve(self, keys, out, session)

    def load(self, drops: Place) -> Verdicts:
        from llmdata.storage.parquet import open_parquet

        with drops.open() as stream:
            columns: dict[str, list[Any]] = open_parquet(stream, str(drops)).read().to_pydict()
        gone = zip(columns["units"], columns["first_in"], strict=True)
        return PassageDrops(self, dict(zip(columns["row"], gone, strict=True)))

    def units(self, text: str) -> list[str]:
        """`text` in units, each with the white space that follows it."""
        raise NotImplementedError

    def normal(self, unit: str) -> str:
        """What two equal units have in common; empty if it is compared with nothing."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class PassageDrops:
    """The units of one part's documents that stand elsewhere too, by row, and the id of the document that has the first
    of those that stand in another document."""

    shuffle: PassageDedup
    gone: dict[int, tuple[list[int], str | None]]

    def apply(self, doc: Document, row: int) -> Document | Rejection:
        """Rewrite the document at `row` to what stands nowhere else, or reject it if that is too little.

        `metadata[stage]` counts units: how many went, of how many.
        """
        if row not in self.gone:
            return doc
        gone, first_in = self.gone[row]
        shuffle, config = self.shuffle, self.shuffle.config
        units = shuffle.units(doc.text)
        missing = set(gone)
        left = [unit for number, unit in enumerate(units) if number not in missing]
        text = "".join(left)
        if len(units) - 1 in missing:
            text = text.rstrip()
        said = f"{len(missing)} of {len(units)} {shuffle.unit} stand in other places"
        if first_in:
            said += f", the first in {first_in}"
        if not text.strip():
            return Rejection(doc, shuffle.name, DUPLICATE, said)
        if len(text) < config.min_characters:
            return Rejection(doc, shuffle.name, "too_short", f"{said}, {len(text)} characters are left")
        if config.min_sentences:
            sentences = sum(count_sentences(line) for line in text.split("\n") if line.strip())
            if sentences < config.min_sentences:
                return Rejection(doc, shuffle.name, "too_few_sentences", f"{said}, {sentences} sentences are left")
        doc.text = text
        doc.metadata[shuffle.name] = {"removed": len(missing), "of": len(units)}
        return doc


class ParagraphDedup(PassageDedup):
    """Keeps each paragraph in one document."""

    name = "paragraph_dedup"
    version = 2
    unit = "paragraphs"

    def __init__(self, config: ParagraphDedupConfig) -> None:
        self.config: ParagraphDedupConfig = config
        self._ends = _NEWLINES if config.separator == "newline" else _BLANK_LINES
        self._bare = _Bare()

    def units(self, text: str) -> list[str]:
        return _cut(text, self._ends)

    def normal(self, unit: str) -> str:
        unit = unit.lower() if unit.isascii() else unicodedata.normalize("NFD", unit.lower())
        return " ".join(unit.translate(self._bare).split())


class LineDedup(PassageDedup):
    """Keeps each line in one document."""

    name = "line_dedup"
    version = 2
    unit = "lines"

    def __init__(self, config: LineDedupConfig) -> None:
        self.config: LineDedupConfig = config

    def units(self, text: str) -> list[str]:
        return _cut(text, _NEWLINES)

    def normal(self, unit: str) -> str:
        return unit.strip().lower()


class SpanDedup(PassageDedup):
    """Keeps each run of sentences in one document."""

    name = "span_dedup"
    version = 2
    unit = "sentences"

    def __init__(self, config: SpanDedupConfig) -> None:
        self.config: SpanDedupConfig = config
        self.length = config.sentences

    def units(self, text: str) -> list[str]:
        return _cut(text, _COMMON if text.isascii() or _RARE.isdisjoint(text) else _SENTENCES)

    def normal(self, unit: str) -> str:
        return " ".join(unit.lower().split())


def _cut(text: str, ends: re.Pattern[str]) -> list[str]:
    """`text` cut behind each match of `ends`; what precedes the first character that is not blank is one with it."""
    units, begin = [], 0
    for match in ends.finditer(text, len(text) - len(text.lstrip())):
        units.append(text[begin : match.end()])
        begin = match.end()
    if begin < len(text):
        units.append(text[begin:])
    return units


def _runs(hashes: Any, counts: Any, length: int) -> Any:
    """For each unit a hash of the run of `length` that begins there, anything where the text ends before."""
    runs, found = shingles(mix(hashes), counts, length)
    result = np.zeros(len(hashes), np.uint64)
    begins = np.repeat(np.cumsum(counts) - counts, found)
    within = np.arange(len(runs)) - np.repeat(np.cumsum(found) - found, found)
    result[begins + within] = runs
    return result
