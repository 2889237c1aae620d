"""Documents that hold pieces of evaluation sets: runs of 13 words, as GPT-3 looked for them (arXiv 2005.14165, C).

The runs of all sets are kept as sorted 64-bit hashes, 12 bytes each, with the item that each came from. A document's
runs are looked up all at once; where its words lie in the text is found out only for a document that has a hit.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import Field

from llmdata.config import Section
from llmdata.dedup.words import Normal, Words, shingles
from llmdata.document import Document, Rejection
from llmdata.errors import ConfigError, InputError
from llmdata.storage import jsonl
from llmdata.storage.place import Place

_BATCH = 1000
_TABLES = (".parquet", ".pq")
_LINES = (".jsonl", ".json", ".ndjson")


class DecontaminateConfig(Section):
    """Which evaluation sets must not be in the documents."""

    sets: list[str] = []
    """Files of evaluation sets, on the disk or at any fsspec address: Parquet or JSON lines (each row an item, each of
    its strings by itself), or text (each paragraph between blank lines an item). JSON lines and text may be compressed.
    A set's name is its file's."""
    columns: list[str] = []
    """Columns of Parquet and JSON lines that are read (`question`); without, all that hold text."""
    n_grams: int = Field(13, ge=2, le=100)
    """Words in a run (GPT-3: 13). Strings of fewer words are not looked for."""
    min_share: float | None = Field(None, gt=0, le=1)
    """Count an item as found only if the document has at least this share of the item's runs; without, one run is
    enough. PaLM: 0.7 with `n_grams: 8` (arXiv 2204.02311, section 8)."""
    action: Literal["drop", "flag"] = "drop"
    """Reject such documents, or keep them. Either way `metadata` and `contamination.jsonl` say what was found."""


class Decontaminate:
    """Rejects or flags a document that holds runs of words of an evaluation set, naming set, item and span.

    Letter case, punctuation, accents and white space make no difference.
    """

    name = "decontaminate"
    version = 2

    @staticmethod
    def files(config: DecontaminateConfig) -> list[Place]:
        """The sets; their content is part of what makes a finished task."""
        places = [Place.of(name) for name in config.sets]
        for place in places:
            if not place.exists() or place.is_dir():
                raise ConfigError(f"decontaminate.sets: there is no file {place}")
        return places

    def __init__(self, config: DecontaminateConfig) -> None:
        if not config.sets:
            raise ConfigError("decontaminate.sets: name the evaluation sets that must not be in the documents")
        self._config = config

    def __call__(self, doc: Document) -> Document | Rejection:
        words, counts = self._words.hashes([doc.text])
        runs, _ = shingles(words, counts, self._config.n_grams)
        if len(words) < self._config.n_grams or not len(self._index.runs):
            return doc
        found = self._index.find(runs)
        hits = np.flatnonzero(found < len(self._index.runs))
        if not len(hits) or (chosen := self._choose(found[hits])) is None:
            return doc
        item, matched = chosen
        places = hits[np.isin(found[hits], self._index.of_item(item))]
        name, number = self._index.items[item]
        span = self._quote(doc.text, places)
        doc.metadata[self.name] = {"set": name, "item": number, "runs": matched, "span": span}
        if self._config.action == "drop":
            return Rejection(doc, self.name, "evaluation_set", f"{name}, item {number}: “{span}”")
        return doc

    def _choose(self, found: np.ndarray[Any, Any]) -> tuple[int, int] | None:
        """The item of which most runs are found, with their number; None if of none enough are."""
        index, least = self._index, self._config.min_share
        counts: Counter[int] = Counter()
        for run in np.unique(found).tolist():
            counts.update(index.items_of(run))
        enough = [
            (-count, item) for item, count in counts.items() if least is None or count >= least * index.sizes[item]
        ]
        if not enough:
            return None
        count, item = min(enough)
        return item, -count

    def _quote(self, text: str, places: np.ndarray[Any, Any]) -> str:
        """The longest stretch of the text that consecutive hits cover."""
        stretches = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
        longest = max(stretches, key=len)
        composed, spans = self._words.spans(text)
        begin, end = spans[int(longest[0])][0], spans[int(longest[-1]) + self._config.n_grams - 1][1]
        return " ".join(composed[begin:end].split())[:500]

    @cached_property
    def _words(self) -> Words:
        return Words(Normal(numbers=False))

    @cached_property
    def _index(self) -> _Index:
        return _Index.of(self._config, self._words)


class _Index:
    """The distinct runs of all items, sorted, and which items have each."""

    def __init__(self, runs: np.ndarray[Any, Any], owners: np.ndarray[Any, Any], items: list[tuple[str, int]]) -> None:
        order = np.lexsort((owners, runs))
        runs, owners = runs[order], owners[order]
        again = np.zeros(len(runs), bool)
        again[1:] = (runs[1:] == runs[:-1]) & (owners[1:] == owners[:-1])
        runs, self._owners = runs[~again], owners[~again]
        self.runs, first = np.unique(runs, return_index=True)
        self._first = np.append(first, len(runs))
        # Nearly all runs of documents are in no set: their first bits say so, without a search in a large array.
        bits = min(27, (16 * len(self.runs)).bit_length())
        self._shift = np.uint64(64 - bits)
        self._begun = np.zeros(1 << bits, bool)
        self._begun[self.runs >> self._shift] = True
        self.items = items
        self.sizes = np.bincount(self._owners, minlength=len(items))

    @classmethod
    def of(cls, config: DecontaminateConfig, words: Words) -> _Index:
        items: list[tuple[str, int]] = []
        runs: list[np.ndarray[Any, Any]] = [np.zeros(0, np.uint64)]
        owners: list[np.ndarray[Any, Any]] = [np.zeros(0, np.int32)]
        pending: list[tuple[int, str]] = []

        def flush() -> None:
            hashes, counts = words.hashes([text for _, text in pending])
            long = counts >= config.n_grams
            found, sizes = shingles(hashes[np.repeat(long, counts)], counts[long], config.n_grams)
            runs.append(found)
            owners.append(np.repeat(np.array([item for item, _ in pending], np.int32)[long], sizes))
            pending.clear()

        for name in config.sets:
            place = Place.of(name)
            for number, texts in enumerate(_items(place, config.columns), 1):
                items.append((place.name, number))
                pending += [(len(items) - 1, text) for text in texts]
                if len(pending) >= _BATCH:
                    flush()
        flush()
        return cls(np.concatenate(runs), np.concatenate(owners), items)

    def find(self, runs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The number of each of `runs`, or how many there are for one that no item has."""
        found = np.full(len(runs), len(self.runs))
        likely = np.flatnonzero(self._begun[runs >> self._shift])
        places = np.searchsorted(self.runs, runs[likely])
        same = self.runs.take(places, mode="clip") == runs[likely]
        found[likely[same]] = places[same]
        return found

    def items_of(self, run: int) -> list[int]:
        found: list[int] = self._owners[self._first[run] : self._first[run + 1]].tolist()
        return found

    def of_item(self, item: int) -> np.ndarray[Any, Any]:
        """The numbers of an item's runs."""
        return np.searchsorted(self._first, np.flatnonzero(self._owners == item), side="right") - 1


def _items(place: Place, columns: list[str]) -> Iterator[list[str]]:
    """The strings of each item of a set."""
    name = place.name.lower()
    if name.endswith(_TABLES):
        from llmdata.storage.parquet import read_batches

        for batch in read_batches(place, columns or None):
            for row in batch.to_pylist():
                yield list(_strings(row))
    elif any(name.endswith(suffix) or f"{suffix}." in name for suffix in _LINES):
        for line, text in enumerate(_lines(place), 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
                chosen = {column: row[column] for column in columns} if columns else row
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise InputError(f"{place}, line {line}: {type(error).__name__}: {error}") from None
            yield list(_strings(chosen))
    else:
        paragraph: list[str] = []
        for text in _lines(place):
            if text.strip():
                paragraph.append(text)
            elif paragraph:
                yield ["\n".join(paragraph)]
                paragraph = []
        if paragraph:
            yield ["\n".join(paragraph)]


def _lines(place: Place) -> Iterator[str]:
    for line in jsonl.read_lines(place):
        yield line.decode("utf-8", "replace")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
