"""The record that flows through the pipeline, and its columns on disk.

The first nine columns are FineWeb's, so that whoever reads FineWeb reads ours; the last four are lineage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from llmdata.text import TextView

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = (
    "text",
    "id",
    "dump",
    "url",
    "date",
    "file_path",
    "language",
    "language_score",
    "token_count",
    "warc_offset",
    "warc_length",
    "content_digest",
    "metadata",
)
REJECTION_COLUMNS = (*COLUMNS, "stage", "reason", "detail")


@dataclass(slots=True, frozen=True)
class Payload:
    """A page before extraction: the decoded HTTP body and what its headers said of it."""

    content: bytes
    content_type: str = "text/html"
    charset: str | None = None


@dataclass(slots=True)
class Document:
    """One document. `payload` is set until the extraction stage has turned it into `text`; it is never written."""

    text: str = ""
    id: str = ""
    dump: str = ""
    url: str = ""
    date: str = ""
    file_path: str = ""
    language: str = ""
    language_score: float = 0.0
    token_count: int = 0
    warc_offset: int | None = None
    warc_length: int | None = None
    content_digest: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    payload: Payload | None = field(default=None, repr=False)
    _view: TextView | None = field(default=None, repr=False, compare=False)

    @property
    def view(self) -> TextView:
        """The lines, words, sentences and hashes of `text`, shared by all filters until `text` changes."""
        if self._view is None or self._view.text is not self.text:
            self._view = TextView(self.text)
        return self._view


@dataclass(slots=True, frozen=True)
class Rejection:
    """A document that a stage turned away: which stage, the rule, and the number or word that decided."""

    document: Document
    stage: str
    reason: str
    detail: str = ""


class Filter(Protocol):
    """A stage that looks at one document at a time. Pure: no I/O, no global state, no clock.

    `name` is the stage's name in a recipe; `version` grows when the stage's decisions change, so that
    finished tasks made by older code are recognised.
    """

    name: str
    version: int

    def __call__(self, doc: Document, /) -> Document | Rejection: ...


@cache
def document_schema() -> pa.Schema:
    """Arrow schema of a shard of kept documents."""
    import pyarrow as pa

    types: dict[str, Any] = {
        "language_score": pa.float64(),
        "token_count": pa.int64(),
        "warc_offset": pa.int64(),
        "warc_length": pa.int64(),
    }
    return pa.schema([pa.field(name, types.get(name, pa.string())) for name in COLUMNS])


@cache
def rejection_schema() -> pa.Schema:
    """Arrow schema of a shard of rejected documents: a document's columns, then stage, reason and detail."""
    import pyarrow as pa

    schema = document_schema()
    for name in ("stage", "reason", "detail"):
        schema = schema.append(pa.field(name, pa.string()))
    return schema


def to_batch(documents: Iterable[Document]) -> pa.RecordBatch:
    """Kept documents as one Arrow batch."""
    import pyarrow as pa

    return pa.RecordBatch.from_pylist([_row(doc) for doc in documents], schema=document_schema())


def rejections_to_batch(rejections: Iterable[Rejection]) -> pa.RecordBatch:
    """Rejected documents as one Arrow batch."""
    import pyarrow as pa

    rows = [
        {**_row(item.document), "stage": item.stage, "reason": item.reason, "detail": item.detail}
        for item in rejections
    ]
    return pa.RecordBatch.from_pylist(rows, schema=rejection_schema())


def from_batch(batch: pa.RecordBatch | pa.Table) -> Iterator[Document]:
    """Documents of a batch with the columns of `document_schema` (further columns are ignored)."""
    columns = [batch.column(name).to_pylist() for name in COLUMNS]
    for values in zip(*columns, strict=True):
        row = dict(zip(COLUMNS, values, strict=True))
        row["metadata"] = json.loads(row["metadata"] or "{}")
        yield Document(**row)


def _row(doc: Document) -> dict[str, Any]:
    row = {name: getattr(doc, name) for name in COLUMNS}
    # JSON with sorted keys: the same metadata is the same bytes whatever order the stages wrote it in.
    row["metadata"] = json.dumps(doc.metadata, ensure_ascii=False, sort_keys=True) if doc.metadata else "{}"
    row["text"] = _encodable(doc.text)
    row["url"] = _encodable(doc.url)
    return row


def _encodable(text: str) -> str:
    """`text` with lone surrogates replaced, which neither Arrow nor UTF-8 can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
