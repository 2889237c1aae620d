"""Exact duplicates, by address and by text: the map side."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from llmdata.dedup.config import ExactDedupConfig, UrlDedupConfig
from llmdata.dedup.rank import ranks, scope_salts
from llmdata.dedup.shuffle import DocumentShuffle
from llmdata.urls import canonical

if TYPE_CHECKING:
    import pyarrow as pa

    from llmdata.document import Document
from llmdata.text import portions

_TRACKING = re.compile(
    r"(?:utm_[^=&]*|fbclid|gclid|gclsrc|dclid|gbraid|wbraid|msclkid|yclid|twclid|ttclid|igshid|mc_[ce]id|_hs(?:enc|mi))"
    r"(?:=[^&]*)?",
    re.IGNORECASE,
)
"""Query parameters of the large advertising, mailing and social networks. They name the click, never the page."""


class _DigestDedup(DocumentShuffle):
    """Documents with the same 128-bit digest of some string are the same; an empty string says nothing."""

    bands = (("key_high", "key_low"),)
    config: UrlDedupConfig | ExactDedupConfig

    @cached_property
    def schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema(
            [("id", pa.string()), ("rank", pa.int64()), ("key_high", pa.uint64()), ("key_low", pa.uint64())]
        )

    def keys(self, docs: Sequence[Document]) -> pa.RecordBatch:
        import pyarrow as pa

        texts = [self.key(doc) for doc in docs]
        digests = b"".join(
            hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts
        )
        keys = np.frombuffer(digests, "<u8").reshape(-1, 2) ^ scope_salts(docs, self.config.scope)[:, None]
        empty = np.array([not text for text in texts], bool)
        return pa.RecordBatch.from_arrays(
            [
                pa.array([doc.id for doc in docs], pa.string()),
                pa.array(ranks(docs, self.config)),
                pa.array(keys[:, 0], pa.uint64(), mask=empty),
                pa.array(keys[:, 1], pa.uint64(), mask=empty),
            ],
            schema=self.schema,
        )

    def key(self, doc: Document) -> str:
        """What two documents have in common if they are the same."""
        raise NotImplementedError


class UrlDedup(_DigestDedup):
    """Drops all but one capture of each address."""

    name = "url_dedup"
    version = 1

    def __init__(self, config: UrlDedupConfig) -> None:
        self.config: UrlDedupConfig = config

    def key(self, doc: Document) -> str:
        url = canonical(doc.url)
        if self.config.ignore_tracking and "?" in url:
            path, _, query = url.partition("?")
            query = "&".join(part for part in query.split("&") if not _TRACKING.fullmatch(part))
            url = f"{path}?{query}" if query else path
        scheme, colon, rest = url.partition("://")
        if self.config.ignore_www:
            rest = rest.removeprefix("www.")
        if self.config.ignore_scheme and scheme == "http":
            scheme = "https"
        return scheme + colon + rest


class ExactDedup(_DigestDedup):
    """Drops all but one document of each text."""

    name = "exact_dedup"
    version = 1

    def __init__(self, config: ExactDedupConfig) -> None:
        self.config: ExactDedupConfig = config

    def key(self, doc: Document) -> str:
        text = doc.text if doc.text.isascii() else unicodedata.normalize("NFC", doc.text)
        if self.config.white_space:
            text = " ".join(line for part in portions(text) if (line := " ".join(part.split())))
        return text.lower() if self.config.lower_case else text
