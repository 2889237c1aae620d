"""What the keep rule and the scope of a dedup look at in a document."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from llmdata.dedup.config import ShuffleConfig
    from llmdata.dedup.words import Array, Counts
    from llmdata.document import Document

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OLDEST = -(1 << 63)
_HUGE = 1e300
_SCORES = ("language_score", "token_count")


def ranks(docs: Sequence[Document], config: ShuffleConfig) -> Counts:
    """A number for each document; of a cluster the document with the greatest stays, of equals the first."""
    match config.keep:
        case "longest":
            return np.array([len(doc.text) for doc in docs], np.int64)
        case "newest":
            return np.array([microseconds(doc.date) for doc in docs], np.int64)
        case "best":
            scores = np.array([_score(doc, config.score) for doc in docs], np.float64)
            bits = (scores + 0.0).view(np.int64)  # + 0.0: there is one zero
            # As whole numbers, floats have the order of their values; negative ones the opposite.
            return np.where(bits >= 0, bits, ~bits ^ np.int64(_OLDEST))
        case "first":
            return np.zeros(len(docs), np.int64)


def _score(doc: Document, name: str) -> float:
    value: Any = getattr(doc, name) if name in _SCORES else doc.metadata
    if name not in _SCORES:
        for key in [name] if name in doc.metadata else name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return -math.inf
    return float(min(max(value, -_HUGE), _HUGE))


def microseconds(date: str) -> int:
    """Microseconds since 1970 of an ISO 8601 date or a 14-digit timestamp, in UTC where it names no zone.

    What is neither is older than all dates.
    """
    date = date.strip()
    try:
        if len(date) == 14 and date.isdigit():
            date = f"{date[:8]}T{date[8:]}"
        moment = datetime.fromisoformat(date)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return _OLDEST


def scope_salts(docs: Sequence[Document], scope: str) -> Array:
    """What to XOR into the keys of each, so that documents of different dumps never agree if the scope is a dump."""
    if scope == "all":
        return np.zeros(len(docs), np.uint64)
    salts = {dump: _salt(dump) for dump in {doc.dump for doc in docs}}
    return np.array([salts[doc.dump] for doc in docs], np.uint64)


def _salt(dump: str) -> int:
    digest = hashlib.blake2b(dump.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
