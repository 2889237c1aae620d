"""The section `clean` of a recipe. Workers need no more of a recipe than this, and do not import the rest."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from llmdata.clean.bad_words import BadWordsConfig
from llmdata.clean.c4 import C4Config
from llmdata.clean.extract import ExtractConfig
from llmdata.clean.fineweb import FinewebConfig
from llmdata.clean.gopher_quality import GopherQualityConfig
from llmdata.clean.gopher_repetition import GopherRepetitionConfig
from llmdata.clean.language import LanguageConfig
from llmdata.clean.pii import PiiConfig
from llmdata.clean.quality import QualityBestConfig, QualityConfig
from llmdata.clean.refinedweb import RefinedwebConfig
from llmdata.clean.url_filter import UrlFilterConfig
from llmdata.config import Count, Section, Size
from llmdata.dedup.config import (
    ExactDedupConfig,
    LineDedupConfig,
    MinhashConfig,
    ParagraphDedupConfig,
    SpanDedupConfig,
    UrlDedupConfig,
)
from llmdata.dedup.decontaminate import DecontaminateConfig

StageName = Literal[
    "url",
    "extract",
    "language",
    "gopher_repetition",
    "gopher_quality",
    "c4",
    "fineweb",
    "refinedweb",
    "bad_words",
    "quality",
    "quality_best",
    "url_dedup",
    "exact_dedup",
    "minhash",
    "paragraph_dedup",
    "line_dedup",
    "span_dedup",
    "decontaminate",
    "pii",
]

FilterName = Literal[
    "gopher_repetition", "gopher_quality", "c4", "fineweb", "refinedweb", "bad_words", "quality", "pii"
]
"""Stages that can have other settings for a language: those that look at one text at a time."""


class LimitsConfig(Section):
    """What one page may cost; a page that exceeds it is rejected with that reason."""

    cpu_seconds: float = Field(30.0, gt=0)
    """CPU time of one page through all stages of a pass, in seconds."""
    memory: Size = Field(2_000_000_000, ge=500_000_000)
    """Resident memory of the worker that holds the page."""


class CleanConfig(Section):
    """The clean chain: what goes in, the stages in their order, and one section a stage."""

    input: list[str] = []
    """WARC, WET, Parquet or JSON lines: files, folders, globs, any fsspec address. Left out where a crawl precedes."""
    layout: Literal["auto", "warc", "wet", "c4", "pile", "refinedweb", "fineweb", "text"] = "auto"
    """What the input is; `auto` looks at file names and columns."""
    text_column: str | None = None
    """Column of the text, for Parquet and JSON lines of no known layout."""
    limit: Count | None = Field(None, ge=1)
    """Read at most so many documents, spread evenly over the input: a trial run."""
    stages: list[StageName] = [
        "url",
        "extract",
        "language",
        "gopher_repetition",
        "gopher_quality",
        "c4",
        "fineweb",
        "minhash",
        "pii",
    ]
    """The chain, in order; each stage at most once."""
    keep: Literal["all", "passes", "final"] = "passes"
    """Folders of documents that stay: after every stage (from extraction on: pages before it have no text), after every
    pass (cut where a dedup stands), or the last."""
    rejected: Literal["full", "ids", "none"] = "full"
    """Rejected documents on disk: whole, without their text, or counted only. Those that hold pieces of evaluation sets
    are there in any case, at least without their text: `contamination.jsonl` is made of them."""
    language_folders: bool = False
    """Final documents in a folder a language, as `final/lang=en/part-00000.parquet`; those that have no language, or
    one that is no code as `en` or `zho_Hans`, in `lang=unknown`."""
    task_bytes: Size = Field(64_000_000, ge=10_000)
    """Size of one task: input files are cut into pieces of about this many bytes."""
    part_bytes: Size = Field(128_000_000, ge=10_000)
    """Size of one task of the passes after a dedup, in bytes of Parquet; their parts are about as large."""
    limits: LimitsConfig = LimitsConfig()
    url: UrlFilterConfig = UrlFilterConfig()
    extract: ExtractConfig = ExtractConfig()
    language: LanguageConfig = LanguageConfig()
    gopher_repetition: GopherRepetitionConfig = GopherRepetitionConfig()
    gopher_quality: GopherQualityConfig = GopherQualityConfig()
    c4: C4Config = C4Config()
    fineweb: FinewebConfig = FinewebConfig()
    refinedweb: RefinedwebConfig = RefinedwebConfig()
    bad_words: BadWordsConfig = BadWordsConfig()
    quality: QualityConfig = QualityConfig()
    quality_best: QualityBestConfig = QualityBestConfig()
    url_dedup: UrlDedupConfig = UrlDedupConfig()
    exact_dedup: ExactDedupConfig = ExactDedupConfig()
    minhash: MinhashConfig = MinhashConfig()
    paragraph_dedup: ParagraphDedupConfig = ParagraphDedupConfig()
    line_dedup: LineDedupConfig = LineDedupConfig()
    span_dedup: SpanDedupConfig = SpanDedupConfig()
    decontaminate: DecontaminateConfig = DecontaminateConfig()
    pii: PiiConfig = PiiConfig()
    by_language: dict[str, dict[FilterName, dict[str, Any]]] = {}
    """Other settings for documents of a language, as `zh: {gopher_quality: {min_stop_words: 0}}`; what is not named
    stays as in the stage's own section. Stages before `language` know no languages."""

    def sections_by_language(self, stage: str) -> dict[str, Section]:
        """The sections of `stage` for the languages that have settings of their own."""
        own: Section = getattr(self, stage)
        found = {language: stages[stage] for language, stages in sorted(self.by_language.items()) if stage in stages}
        return {
            language: type(own).model_validate(own.model_dump(exclude_unset=True) | settings)
            for language, settings in found.items()
        }

    @model_validator(mode="after")
    def _languages_have_sound_settings(self) -> CleanConfig:
        for stage in {stage for stages in self.by_language.values() for stage in stages}:
            self.sections_by_language(stage)
        return self

    @model_validator(mode="after")
    def _each_stage_once(self) -> CleanConfig:
        twice = sorted({name for name in self.stages if self.stages.count(name) > 1})
        if twice:
            raise ValueError(f"a stage stands in the chain at most once, but {', '.join(twice)} is given twice")
        return self
