"""`index.json` of a folder of tokens: which tokenizer made them, how many there are, and the digest of every file.

It is all that training and audit need to know of a tokens folder; neither imports a tokenizer package.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np

from llmdata.errors import InputError
from llmdata.storage.manifest import sha256_of
from llmdata.storage.place import Place
from llmdata.storage.token_shards import Tokens, open_tokens

INDEX = "index.json"
TOKENIZER = "tokenizer"
"""Folder inside a tokens folder with the tokenizer's files, so that the tokens can be decoded wherever they are."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of tokens. `path` is relative to the tokens folder; `bytes` is the size of the file."""

    path: str
    tokens: int
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Split:
    """The training or the validation part.

    `tokens` counts the end-of-text token of every document; `bytes` is UTF-8 text, as bits per byte divides by.
    """

    tokens: int = 0
    documents: int = 0
    bytes: int = 0
    shards: list[Shard] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DocumentsFile:
    """One Parquet file that says which document lies where in the shards."""

    path: str
    rows: int
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class TokenIndex:
    """What a tokens folder holds. `dtype` is `uint16` or `uint32`; `eot` is the id of the end-of-text token."""

    tokenizer_digest: str
    vocab_size: int
    eot: int
    dtype: str
    format: str
    splits: dict[str, Split]
    documents: list[DocumentsFile] = field(default_factory=list)

    def save(self, folder: Place) -> None:
        """Write `folder/index.json`, the last file of a tokens folder."""
        (folder / INDEX).write_json(asdict(self))


def load_index(folder: Place) -> TokenIndex:
    """Read `folder/index.json`; raises InputError if there is none or it is not an index."""
    path = folder / INDEX
    if not path.exists():
        inside = folder / "tokens"
        hint = f"did you mean {inside}?" if (inside / INDEX).exists() else "`llmdata tokenize` makes one"
        raise InputError(f"{folder}: no folder of tokens ({INDEX} is missing); {hint}")
    value = path.read_json()
    try:
        splits = {
            name: Split(**{**split, "shards": [Shard(**shard) for shard in split["shards"]]})
            for name, split in value["splits"].items()
        }
        documents = [DocumentsFile(**entry) for entry in value["documents"]]
        return TokenIndex(**{**value, "splits": splits, "documents": documents})
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not an index of tokens ({error}); make it again with `llmdata tokenize`") from None


def open_shard(index: TokenIndex, folder: Place, shard: Shard) -> Tokens:
    """The tokens of a local shard as a read-only memory map, in whichever format the folder is."""
    place = folder / shard.path
    if index.format != "nanogpt":
        return open_tokens(place)
    if (size := place.size()) != shard.bytes:
        raise InputError(f"{place}: {size} bytes, the index says {shard.bytes}; make it again with `llmdata tokenize`")
    return np.memmap(place.local(), dtype=np.dtype(index.dtype).newbyteorder("<"), mode="r", shape=(shard.tokens,))


def verify_shards(index: TokenIndex, folder: Place) -> list[str]:
    """Compare every file that `index` names with its size and SHA-256; one line for each that disagrees."""
    files: list[Shard | DocumentsFile] = [shard for split in index.splits.values() for shard in split.shards]
    return [problem for entry in [*files, *index.documents] if (problem := _problem(folder, entry)) is not None]


def _problem(folder: Place, entry: Shard | DocumentsFile) -> str | None:
    place = folder / entry.path
    if not place.exists():
        return f"{place}: missing"
    if place.size() != entry.bytes:
        return f"{place}: {place.size()} bytes, the index says {entry.bytes}"
    if (found := sha256_of(place)) != entry.sha256:
        return f"{place}: sha256 {found[:16]}…, the index says {entry.sha256[:16]}…"
    return None
