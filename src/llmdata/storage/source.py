"""What the readers of all formats share."""

from __future__ import annotations

import hashlib

STAGE = "read"
"""Stage of the rejections that reading makes."""


def digest_id(path: str, *position: int) -> str:
    """The id of a document that brings none: a digest of its source and its position there."""
    return hashlib.blake2b(f"{path}#{position}".encode("utf-8", "replace"), digest_size=16).hexdigest()


def sound(text: str) -> str:
    """`text` with lone surrogates replaced, which JSON can spell and UTF-8 cannot hold."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
