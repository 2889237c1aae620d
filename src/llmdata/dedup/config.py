"""Settings of the dedup stages, as they stand in a recipe."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from llmdata.config import Section, Size

Keep = Literal["longest", "newest", "best", "first"]


class ShuffleConfig(Section):
    """What all stages have in common that compare documents with one another."""

    keep: Keep = "longest"
    """Which document of a cluster stays. `newest` goes by the date of capture, and a document without one is the
    oldest; `best` by `score`; `first` is the order of the input, which also decides between equals."""
    score: str = ""
    """What `keep: best` goes by: `language_score`, `token_count`, or a number in the metadata (`quality`,
    `edu.score`). The greatest is best; a document without it is the worst."""
    scope: Literal["dump", "all"] = "all"
    """Look for duplicates among the documents of each dump (crawl) by itself, or among all."""
    against: list[str] = []
    """Folders of earlier runs of this stage with the same settings (`llmdata dedup --out`, a clean folder, a run).
    What they kept stays, and documents that duplicate theirs go; their texts are not read again."""
    memory: Size = Field(2_000_000_000, ge=500_000_000)
    """Memory of the process that sorts and merges keys; what does not fit is sorted on disk. The clusters take 16 bytes
    a document of it."""

    @model_validator(mode="after")
    def _score_is_named(self) -> Self:
        if (self.keep == "best") != bool(self.score):
            raise ValueError("`keep: best` and `score` go together: say what the best document has most of")
        return self


class UrlDedupConfig(ShuffleConfig):
    """One document an address. Documents without an address are left alone."""

    keep: Keep = "newest"
    """Which document of an address stays. `newest` goes by the date of capture, and a document without one is the
    oldest; `best` by `score`; `first` is the order of the input, which also decides between equals."""
    ignore_scheme: bool = False
    """http and https are the same address (C4)."""
    ignore_www: bool = False
    """A leading `www.` of the host does not count (C4)."""
    ignore_tracking: bool = False
    """Query parameters that only tell where a visitor came from (`utm_…`, `fbclid`, `gclid` …) do not count (C4)."""


class ExactDedupConfig(ShuffleConfig):
    """One document a text. Empty texts are left alone."""

    white_space: bool = True
    """Any run of white space counts as one blank, and none at the ends."""
    lower_case: bool = False
    """Upper and lower case are the same."""


class MinhashConfig(ShuffleConfig):
    """One document a cluster of near-duplicates, found by MinHash with banding (Broder 1997), as FineWeb does it."""

    scope: Literal["dump", "all"] = "dump"
    """Look for duplicates among the documents of each dump (crawl) by itself, or among all. FineWeb found that over
    all dumps at once quality falls."""
    n_grams: int = Field(5, ge=1, le=100)
    """Words in a shingle. A shorter text is one shingle; a text without words is left alone."""
    bands: int = Field(14, ge=1, le=1000)
    """Groups of hash values; documents that agree in all values of any group are candidates."""
    rows: int = Field(8, ge=1, le=1000)
    """Hash values in a band. FineWeb: 14 × 8, RefinedWeb: 20 × 450."""
    hash_bits: Literal[32, 64] = 64
    """Size of a hash value. 32 bits take half the time and are enough for some 10 million documents."""
    seed: int = Field(1, ge=0, lt=2**64)
    """Chooses the hash functions."""
    verify_jaccard: float | None = Field(None, gt=0, le=1)
    """Drop a document only if the Jaccard similarity of its shingles with those of the document that stays is at least
    this. Without, whatever is linked by bands is one cluster, over chains of neighbours too. Costs 4 bytes a word on
    disk while it runs."""
    lower_case: bool = True
    """Upper and lower case are the same."""
    numbers: bool = True
    """Any number (digits, with `.` and `,` between them) counts as `0`."""
    punctuation: bool = True
    """Punctuation and symbols count as white space."""
    accents: bool = True
    """Letters count without their combining marks (NFD)."""

    @model_validator(mode="after")
    def _not_too_many(self) -> MinhashConfig:
        if self.bands * self.rows > 20_000:
            raise ValueError(f"bands × rows is {self.bands * self.rows} hash functions; at most 20,000 are allowed")
        return self


class PassageDedupConfig(ShuffleConfig):
    """Passages that stand in several places stay in one of them; documents are rewritten to what is left."""

    keep: Keep = "first"
    """Which document a passage stays in: the `first` of the input that has it, or the `longest`, `newest` or `best`."""
    min_characters: int = Field(1, ge=1)
    """Reject a document of which fewer characters are left."""
    min_sentences: int = Field(0, ge=0)
    """Reject a document of which fewer sentences are left. A document that lost nothing is left alone."""


class ParagraphDedupConfig(PassageDedupConfig):
    """CCNet (arXiv 1911.00359, section 3.2): each paragraph once over all documents, compared in lower case, digits as
    `0`, without accents and punctuation."""

    separator: Literal["newline", "blank_line"] = "newline"
    """What ends a paragraph. Extracted text has one paragraph a line; Markdown and books have blank lines between."""


class LineDedupConfig(PassageDedupConfig):
    """C4's code (TensorFlow Datasets): each line once over all documents, compared in lower case without white space
    around it."""

    min_sentences: int = Field(3, ge=0)
    """Reject a document of which fewer sentences are left. A document that lost nothing is left alone."""


class SpanDedupConfig(PassageDedupConfig):
    """C4's paper (arXiv 1910.10683, section 2.2): each run of three sentences once over all documents, compared in
    lower case and with white space collapsed."""

    sentences: int = Field(3, ge=1, le=100)
    """Sentences in a span. Documents of fewer are left alone."""
    min_sentences: int = Field(3, ge=0)
    """Reject a document of which fewer sentences are left. A document that lost nothing is left alone."""
