"""`index.json` of a folder of tokens: which tokenizer made them, how many there are, and the digest of every file.

It is all that training and audit need to know of a tokens folder; neither imports a tokenizer package.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from llmdata.errors import InputError
from llmdata.storage.manifest import sha256_of
from llmdata.storage.place import Place
from llmdata.storage.token_shards import HEADER_BYTES, Tokens, open_tokens, read_header

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
    """One Parquet file that says which document lies where in the shards, `rows` of them."""

    path: str
    rows: int
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class TokenIndex:
    """What a tokens folder holds.

    `dtype` is `uint16` or `uint32`, `int32` in Megatron-LM's format; `eot` is the id of the end-of-text token, which
    stands after each document in the formats `nanogpt` and `megatron` and before it in the others. `beside` are
    further files of the format: Megatron-LM's `.idx`.
    """

    tokenizer_digest: str
    vocab_size: int
    eot: int
    dtype: str
    format: str
    splits: dict[str, Split]
    documents: list[DocumentsFile] = field(default_factory=list)
    beside: list[DocumentsFile] = field(default_factory=list)

    @property
    def on_disk(self) -> np.dtype[Any]:
        """How one token is written."""
        return np.dtype(self.dtype).newbyteorder("<")

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
        files = {name: [DocumentsFile(**entry) for entry in value.get(name, [])] for name in ("documents", "beside")}
        return TokenIndex(**{**value, "splits": splits, **files})
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not an index of tokens ({error}); make it again with `llmdata tokenize`") from None


def open_shard(index: TokenIndex, folder: Place, shard: Shard) -> Tokens:
    """The tokens of a shard, in whichever format the folder is: a read-only memory map, but for Parquet."""
    place = folder / shard.path
    if index.format == "llmc":
        return open_tokens(place)
    if (size := place.size()) != shard.bytes:
        raise InputError(f"{place}: {size} bytes, the index says {shard.bytes}; make it again with `llmdata tokenize`")
    if index.format == "parquet":
        return _read_parquet(place, index, 0, shard.tokens)
    return np.memmap(place.on_disk(), dtype=index.on_disk, mode="r", shape=(shard.tokens,))


def read_tokens(index: TokenIndex, folder: Place, path: str, start: int, end: int) -> list[int]:
    """The ids [start, end) of the shard `path`, wherever it lies; raises InputError if it is damaged."""
    place = folder / path
    if index.format == "parquet":
        return [int(token) for token in _read_parquet(place, index, start, end)]
    dtype, before = index.on_disk, 0
    if index.format == "llmc":
        dtype, before = read_header(place).dtype, HEADER_BYTES
    with place.open() as stream:
        stream.seek(before + start * dtype.itemsize)
        raw = stream.read((end - start) * dtype.itemsize)
    return [int(token) for token in np.frombuffer(raw, dtype)]


def _read_parquet(place: Place, index: TokenIndex, start: int, end: int) -> Tokens:
    """The ids [start, end) of the documents in `place`, one after the other."""
    from llmdata.storage.parquet import read_batches  # training reads other formats, and needs no Arrow

    parts = [np.zeros(0, dtype=index.on_disk)]
    at = 0
    for batch in read_batches(place, ["tokens"]):
        ids = batch.column("tokens").flatten().to_numpy()
        parts.append(ids[max(0, start - at) : max(0, end - at)])
        at += len(ids)
        if at >= end:
            break
    tokens: Tokens = np.concatenate(parts)
    return tokens


def verify_shards(index: TokenIndex, folder: Place) -> list[str]:
    """Compare every file that `index` names with its size and SHA-256; one line for each that disagrees."""
    files: list[Shard | DocumentsFile] = [shard for split in index.splits.values() for shard in split.shards]
    files += [*index.beside, *index.documents]
    return [problem for entry in files if (problem := _problem(folder, entry)) is not None]


def _problem(folder: Place, entry: Shard | DocumentsFile) -> str | None:
    place = folder / entry.path
    if not place.exists():
        return f"{place}: missing"
    if place.size() != entry.bytes:
        return f"{place}: {place.size()} bytes, the index says {entry.bytes}"
    if (found := sha256_of(place)) != entry.sha256:
        return f"{place}: sha256 {found[:16]}…, the index says {entry.sha256[:16]}…"
    return None
