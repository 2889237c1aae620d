"""Published datasets' columns, and how a row of any of them becomes a Document."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from llmdata.document import COLUMNS, Document, Rejection
from llmdata.errors import InputError
from llmdata.storage.source import STAGE, sound

_NUMBERS = {"language_score": float, "token_count": int, "warc_offset": int, "warc_length": int}


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns that tell a dataset, and those whose name differs from ours. All further columns go to metadata."""

    signature: frozenset[str]
    renamed: Mapping[str, str]
    text: str = "text"


LAYOUTS = {
    "fineweb": Layout(frozenset({"text", "id", "dump", "url", "date", "file_path"}), {}),
    "refinedweb": Layout(
        frozenset({"content", "url", "timestamp", "dump", "segment"}), {"timestamp": "date"}, text="content"
    ),
    "c4": Layout(frozenset({"text", "url", "timestamp"}), {"timestamp": "date"}),
    "pile": Layout(frozenset({"text", "meta"}), {}),
    "text": Layout(frozenset({"text"}), {}),
}
"""In the order in which they are tried."""


def recognise(columns: Collection[str], layout: str, text_column: str | None, source: str) -> tuple[str, str]:
    """The layout of a table with these columns, and its column of text.

    Raises InputError naming the columns there are if none of them can be the text.
    """
    if layout == "auto":
        layout = next((name for name, known in LAYOUTS.items() if known.signature <= set(columns)), "text")
    text = text_column or LAYOUTS[layout].text
    if text not in columns:
        raise InputError(
            f"{source}: there is no column {text!r} with the text; there are: {', '.join(sorted(columns)) or 'none'}. "
            "Name the right one with text_column (--text-column)."
        )
    return layout, text


def to_document(
    row: Mapping[str, Any], layout: str, text_column: str, path: str, fallback_id: str
) -> Document | Rejection:
    """The document in `row`; a row whose text is missing or no string, or that is nested too deep, is rejected."""
    doc = Document(id=fallback_id, file_path=path)
    try:
        _fill(doc, row, layout, text_column)
    except RecursionError:
        return Rejection(Document(id=fallback_id, file_path=path), STAGE, "bad_record", "nested too deep")
    if not isinstance(row.get(text_column), str):
        found = "is missing" if text_column not in row else f"is {type(row[text_column]).__name__}, not text"
        return Rejection(doc, STAGE, "bad_record", f"{text_column} {found}")
    return doc


def _fill(doc: Document, row: Mapping[str, Any], layout: str, text_column: str) -> None:
    renamed = LAYOUTS[layout].renamed
    for name, value in row.items():
        column = "text" if name == text_column else renamed.get(name, name)
        if name == "text" != text_column or column not in COLUMNS or not _put(doc, column, value):
            _add_metadata(doc, name, value)


def _put(doc: Document, column: str, value: Any) -> bool:
    """Set a column of ours, if `value` is of its type; says whether it was."""
    if value is None:
        return True
    if column == "metadata":
        return _put_metadata(doc, value)
    if kind := _NUMBERS.get(column):
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**63:
            return False
        setattr(doc, column, kind(value))
        return True
    if column == "id" and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, date):
        value = _plain(value)
    if not isinstance(value, str):
        return False
    if value or column not in ("id", "file_path"):
        setattr(doc, column, sound(value))
    return True


def _put_metadata(doc: Document, value: Any) -> bool:
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except ValueError:
            return False
    if not isinstance(value, Mapping):
        return False
    doc.metadata.update(_plain(value))
    return True


def _add_metadata(doc: Document, name: str, value: Any) -> None:
    if name == "meta" and isinstance(value, Mapping):
        doc.metadata.update(_plain(value))
    elif value is not None:
        doc.metadata[sound(name)] = _plain(value)


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: times in ISO 8601 (UTC), bytes in base64, no NaN, no lone surrogates."""
    if isinstance(value, str):
        return sound(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return {sound(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        utc = value.astimezone(UTC) if value.tzinfo else value
        return utc.replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)
