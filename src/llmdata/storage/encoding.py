"""Finding an encoding: text to token ids and back, by name, folder or file.

An encoding treats all text as text: a document that contains `<|endoftext|>` is spelled out in ordinary tokens, and
special tokens are put between documents by id alone.
"""

from __future__ import annotations

import json
import os
from typing import Any

from llmdata.errors import ConfigError, InputError
from llmdata.storage.encoding_kinds import (
    CONFIG,
    JSON,
    RANKS,
    BpeEncoding,
    CharEncoding,
    Encoding,
    JsonEncoding,
)
from llmdata.storage.encoding_names import (
    END_OF_TEXT,
    GPT2_FILES,
    KNOWN,
    NAMES,
    cached_file,
    canonical_name,
    files_of,
    known_by_digest,
)
from llmdata.storage.place import Place
from llmdata.storage.ranks import parse_gpt2, parse_ranks
from llmdata.storage.token_index import TOKENIZER

__all__ = ["Encoding", "load_encoding"]


def load_encoding(source: Place | str, pattern: str | None = None) -> Encoding:
    """The encoding that `source` names: gpt2, cl100k_base, gpt-4o, …; a folder of ours, of a Hugging Face model, or
    with GPT-2's `vocab.bpe` and `encoder.json`; a folder of tokens; a `tokenizer.json`; or a `.tiktoken` file, which
    needs `pattern` unless it is one of OpenAI's.

    Raises InputError where nothing of that kind is found, ConfigError where `pattern` is missing.
    """
    if isinstance(source, str) and (name := canonical_name(source)) and not os.path.exists(source):
        return _from_name(name)
    place = Place.of(source)
    if not place.exists():
        raise InputError(f"{source}: neither a file or folder nor a known encoding ({', '.join(NAMES)})")
    if place.is_dir():
        return _from_folder(place)
    data = place.read_bytes()
    if place.name.endswith(".tiktoken"):
        return _from_ranks(data, str(place), pattern)
    if place.name.endswith(".json"):
        return _from_json(data, place)
    raise InputError(f"{place}: not a tokenizer; give a folder, a tokenizer.json, a .tiktoken file or a name")


def _from_name(name: str) -> BpeEncoding:
    known = KNOWN[name]
    data = [cached_file(file) for file in files_of(name)]
    ranks = parse_ranks(data[0], name) if len(data) == 1 else parse_gpt2(*data)
    return BpeEncoding(ranks, known.pattern, dict(known.special_tokens))


def _from_folder(folder: Place) -> Encoding:
    inner = folder / TOKENIZER
    if not (folder / JSON).exists() and (inner / JSON).exists():
        folder = inner
    config = _config(folder)
    ours = config.get("llmdata")
    if isinstance(ours, dict) and ours.get("kind") == "bpe" and (folder / RANKS).exists():
        ranks = parse_ranks((folder / RANKS).read_bytes(), str(folder / RANKS))
        if not ours.get("special_tokens") or "pattern" not in ours:
            raise InputError(f"{folder / CONFIG}: names no pattern or no special tokens; make the tokenizer anew")
        return BpeEncoding(ranks, ours["pattern"], ours["special_tokens"])
    if not (folder / JSON).exists() and all((folder / name).exists() for name in GPT2_FILES):
        ranks = parse_gpt2(*((folder / name).read_bytes() for name in GPT2_FILES))
        return BpeEncoding(ranks, "gpt2", {END_OF_TEXT: max(ranks.values()) + 1})
    if not (folder / JSON).exists():
        raise InputError(f"{folder}: no {JSON}, so no tokenizer; `llmdata tokenizer train … --out {folder}` makes one")
    return _from_json((folder / JSON).read_bytes(), folder / JSON)


def _from_json(data: bytes, file: Place) -> Encoding:
    config = _config(file.parent)
    ours = config.get("llmdata")
    if isinstance(ours, dict) and ours.get("kind") == "char":
        vocabulary: dict[str, int] = json.loads(data)["model"]["vocab"]
        special = ours["special_tokens"]
        characters = sorted((name for name in vocabulary if name not in special), key=vocabulary.__getitem__)
        return CharEncoding(characters, special)
    if isinstance(ours, dict) and ours.get("kind") == "bpe" and file.name == JSON and (file.parent / RANKS).exists():
        return _from_folder(file.parent)  # of ours, and so for gigatoken
    kind = "word" if isinstance(ours, dict) and ours.get("kind") == "word" else "json"
    eos = config.get("eos_token")
    eos = eos.get("content") if isinstance(eos, dict) else eos
    try:
        return JsonEncoding(data, eos, kind)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def _config(folder: Place) -> dict[str, Any]:
    path = folder / CONFIG
    value = path.read_json() if path.exists() else {}
    return value if isinstance(value, dict) else {}


def _from_ranks(data: bytes, name: str, pattern: str | None) -> BpeEncoding:
    if known := known_by_digest(data):
        return BpeEncoding(parse_ranks(data, name), known.pattern, dict(known.special_tokens))
    if pattern is None:
        raise ConfigError(
            f"{name}: not one of OpenAI's vocabularies, and a .tiktoken file does not say how it cuts text; "
            "add --pattern gpt2, cl100k, o200k or a regular expression"
        )
    ranks = parse_ranks(data, name)
    return BpeEncoding(ranks, pattern, {END_OF_TEXT: max(ranks.values()) + 1})
