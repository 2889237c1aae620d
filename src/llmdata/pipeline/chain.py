"""A clean chain: its stages in order, cut into passes where a shuffle stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

from llmdata.dedup.shuffle import Shuffle
from llmdata.document import Document, Filter, Rejection
from llmdata.engine.guard import Casualty, Guard
from llmdata.errors import LlmdataError
from llmdata.pipeline.clean_config import CleanConfig
from llmdata.storage.manifest import sha256_of
from llmdata.storage.place import Place

FILTERS = {
    "url": "llmdata.clean.url_filter:UrlFilter",
    "extract": "llmdata.clean.extract:Extract",
    "language": "llmdata.clean.language:Language",
    "gopher_repetition": "llmdata.clean.gopher_repetition:GopherRepetition",
    "gopher_quality": "llmdata.clean.gopher_quality:GopherQuality",
    "c4": "llmdata.clean.c4:C4",
    "fineweb": "llmdata.clean.fineweb:Fineweb",
    "refinedweb": "llmdata.clean.refinedweb:Refinedweb",
    "bad_words": "llmdata.clean.bad_words:BadWords",
    "quality": "llmdata.clean.quality:Quality",
    "decontaminate": "llmdata.dedup.decontaminate:Decontaminate",
    "pii": "llmdata.clean.pii:Pii",
}
"""Stages that look at one document at a time."""

SHUFFLES = {
    "url_dedup": "llmdata.dedup.exact:UrlDedup",
    "exact_dedup": "llmdata.dedup.exact:ExactDedup",
    "minhash": "llmdata.dedup.minhash:Minhash",
    "quality_best": "llmdata.clean.quality:QualityBest",
    "paragraph_dedup": "llmdata.dedup.passages:ParagraphDedup",
    "line_dedup": "llmdata.dedup.passages:LineDedup",
    "span_dedup": "llmdata.dedup.passages:SpanDedup",
}
"""Stages that have to see all documents: they end a pass."""

READ = "read"


@dataclass(frozen=True, slots=True)
class Pass:
    """One walk over the data: drop what the shuffle before it found, filter, take keys for the shuffle after it."""

    number: int
    drop: str | None
    filters: tuple[str, ...]
    shuffle: str | None
    last: bool

    @property
    def folder(self) -> str:
        """Where its documents go: `final` for the last pass, else its number and its last stage."""
        return "final" if self.last else f"{self.number:02}-{self.stages[-1] if self.stages else READ}"

    @property
    def stages(self) -> tuple[str, ...]:
        """Its stages as they stand in the funnel."""
        return (*([self.drop] if self.drop else []), *self.filters)


def passes(stages: Sequence[str], keep_all: bool = False) -> list[Pass]:
    """Cut a chain into passes: after each shuffle, and with `keep_all` after each stage from extraction on.

    What comes before extraction stays in its pass: a page that is not extracted has nothing that could be written.
    """
    extraction = stages.index("extract") if "extract" in stages else 0
    groups: list[tuple[str | None, list[str], str | None]] = [(None, [], None)]
    for position, name in enumerate(stages):
        drop, filters, _ = groups[-1]
        if name in SHUFFLES:
            groups[-1] = (drop, filters, name)
            groups.append((name, [], None))
        elif keep_all and filters and position > extraction:
            groups.append((None, [name], None))
        else:
            filters.append(name)
    return [
        Pass(number, drop, tuple(filters), shuffle, last=number == len(groups))
        for number, (drop, filters, shuffle) in enumerate(groups, 1)
    ]


def make_filter(name: str, config: CleanConfig) -> Filter:
    """The filter `name`, with its section of `config`, and with other settings for the languages that have them."""
    stage = _class(FILTERS[name])
    made: Filter = stage(getattr(config, name))
    others = {language: stage(section) for language, section in config.sections_by_language(name).items()}
    return ByLanguage(made, others) if others else made


class ByLanguage:
    """A filter with other settings for some languages, by what the stage `language` has found."""

    def __init__(self, default: Filter, others: dict[str, Filter]) -> None:
        self.name, self.version = default.name, default.version
        self._default, self._others = default, others

    def __call__(self, doc: Document) -> Document | Rejection:
        return self._others.get(doc.language, self._default)(doc)


def make_shuffle(name: str, config: CleanConfig) -> Shuffle:
    """The shuffle `name`, with its section of `config`."""
    made: Shuffle = _class(SHUFFLES[name])(getattr(config, name))
    return made


def stage_state(name: str, config: CleanConfig) -> dict[str, Any]:
    """What decides a stage's results: its version, its section, and the files that it reads. Part of fingerprints.

    Raises ConfigError if a file that the section names is not there.
    """
    stage, section = _class((FILTERS | SHUFFLES)[name]), getattr(config, name)
    others = config.sections_by_language(name)
    state = {"stage": name, "version": stage.version, "config": section.model_dump(mode="json")}
    if others:
        state["config"]["by_language"] = {language: one.model_dump(mode="json") for language, one in others.items()}
    if hasattr(stage, "files"):
        files = [Place.of(file) for one in (section, *others.values()) for file in stage.files(one)]
        if files:
            state["files"] = [[place.name, _sha256(str(place), place.stamp())] for place in files]
    return state


@cache
def _sha256(address: str, stamp: str) -> str:
    return sha256_of(Place.of(address))


def _class(address: str) -> Any:
    module, name = address.split(":")
    return getattr(import_module(module), name)


@dataclass(slots=True)
class Count:
    """What went through one stage."""

    entered: int = 0
    kept: int = 0
    changed: int = 0
    rejected: dict[str, int] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        reasons = dict(sorted(self.rejected.items()))
        return {"in": self.entered, "kept": self.kept, "changed": self.changed, "rejected": reasons}


class Stopwatch:
    """CPU seconds of this process, shared out among what it did: each lap goes to one name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.process_time()

    def lap(self, name: str) -> None:
        """All since the lap before was spent on `name`."""
        now = time.process_time()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


class Chain:
    """Runs items through a pass's stages one after the other, counts, and takes their time.

    Step 0 is reading; the stages are steps 1, 2, … as the engine's guard knows them.
    """

    def __init__(self, stages: Sequence[tuple[str, Callable[[Document], Document | Rejection]]]) -> None:
        self._stages = stages
        self.watch = Stopwatch()
        self.counts = {name: Count() for name in (READ, *(name for name, _ in stages))}

    def __call__(
        self, item: Document | Rejection, hand: Guard, casualty: Casualty | None = None
    ) -> Document | Rejection:
        """Through all stages, until one rejects. A stage that raises rejects too, with reason `error`.

        `casualty` says that the item has killed a worker before, and in which step: there it is rejected.
        """
        self._enter(READ, item)
        self.watch.lap(READ)
        if isinstance(item, Rejection):
            return item
        doc = item
        for step, (name, stage) in enumerate(self._stages, 1):
            before = doc.text
            if casualty and casualty.step == step:
                outcome: Document | Rejection = Rejection(doc, name, casualty.reason, "this stage gave the page up")
            else:
                hand.step(step)
                outcome = _run(name, stage, doc)
            self._enter(name, outcome, before)
            self.watch.lap(name)
            if isinstance(outcome, Rejection):
                return outcome
            doc = outcome
        return doc

    def _enter(self, name: str, outcome: Document | Rejection, before: str = "") -> None:
        count = self.counts[name]
        count.entered += 1
        if isinstance(outcome, Rejection):
            count.rejected[outcome.reason] = count.rejected.get(outcome.reason, 0) + 1
        else:
            count.kept += 1
            count.changed += bool(before) and outcome.text != before


def _run(name: str, stage: Callable[[Document], Document | Rejection], doc: Document) -> Document | Rejection:
    try:
        return stage(doc)
    except MemoryError:
        return Rejection(doc, name, "memory", "allocation failed")
    except ImportError as error:  # a broken installation would reject every page
        raise LlmdataError(f"stage {name}: llmdata is not fully installed, install it again: {error}") from error
    except Exception as error:
        # A defect of the stage, or a page that nobody thought of. The page stays on disk with the error for whoever
        # looks for it, and the other pages go on.
        return Rejection(doc, name, "error", f"{type(error).__name__}: {error}"[:500])
