"""Token ids back to text, from a tokenizer's files alone: to look at tokens, no tokenizer package is needed."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass

from llmdata.errors import InputError
from llmdata.storage.place import Place
from llmdata.storage.token_index import TOKENIZER


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The bytes of each ordinary token by id, and the end-of-text token's id."""

    tokens: dict[int, bytes]
    eot: int

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; the end-of-text token is shown by name, an unknown id as `⟨id⟩`."""
        parts: list[bytes] = []
        for token in ids:
            known = self.tokens.get(token)
            if known is None:
                known = b"<|endoftext|>" if token == self.eot else f"⟨{token}⟩".encode()
            parts.append(known)
        return b"".join(parts).decode("utf-8", "replace")


def load_vocabulary(tokens: Place, eot: int) -> Vocabulary | None:
    """The vocabulary kept in a tokens folder; None if it holds none in `vocab.tiktoken` form."""
    path = tokens / TOKENIZER / "vocab.tiktoken"
    if not path.exists():
        return None
    table: dict[int, bytes] = {}
    for line in path.read_bytes().splitlines():
        if line.strip():
            try:
                token, rank = line.split()
                table[int(rank)] = base64.b64decode(token, validate=True)
            except (ValueError, binascii.Error):
                raise InputError(f"{path}: not a vocabulary in tiktoken's form: {line[:40]!r}") from None
    return Vocabulary(table, eot)
