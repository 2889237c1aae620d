"""Encodings known by name: OpenAI's vocabulary files, and the patterns that cut text before byte pairs merge.

tiktoken would fetch these files itself; nothing here opens a connection. What is not at hand ends in an error that says
which file, from where, its digest, and where to put it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass

from llmdata.errors import ConfigError, InputError

END_OF_TEXT = "<|endoftext|>"

PATTERNS = {
    # As published with GPT-2 (github.com/openai/gpt-2, src/encoder.py).
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # tiktoken 0.3's form of cl100k_base. Later versions write possessive quantifiers and `$`, which match the same but
    # mean something else to Oniguruma, with which `tokenizer.json` is read.
    "cl100k": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


@dataclass(frozen=True, slots=True)
class Known:
    """A vocabulary file that OpenAI publishes, and what it does not say itself."""

    sha256: str
    pattern: str
    special_tokens: dict[str, int]


KNOWN = {
    "r50k_base": Known(
        "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930", "gpt2", {END_OF_TEXT: 50256}
    ),
    "p50k_base": Known(
        "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069", "gpt2", {END_OF_TEXT: 50256}
    ),
    "cl100k_base": Known(
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        "cl100k",
        {
            END_OF_TEXT: 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "o200k_base": Known(
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        "o200k",
        {END_OF_TEXT: 199999, "<|endofprompt|>": 200018},
    ),
}
ALIASES = {"gpt2": "r50k_base"}  # the same vocabulary, published twice
NAMES = (*ALIASES, *KNOWN)


def canonical_name(name: str) -> str | None:
    """The name in `KNOWN` that `name` means: itself, an alias, or a model's name (`gpt-4o`); None if it is none."""
    name = ALIASES.get(name, name)
    if name in KNOWN:
        return name
    from tiktoken.model import encoding_name_for_model

    try:
        found: str = encoding_name_for_model(name)
    except KeyError:
        return None
    found = ALIASES.get(found, found)
    return found if found in KNOWN else None


def known_by_digest(data: bytes) -> Known | None:
    """Which of OpenAI's vocabularies the `.tiktoken` file `data` is."""
    sha256 = hashlib.sha256(data).hexdigest()
    return next((known for known in KNOWN.values() if known.sha256 == sha256), None)


def cached_vocabulary(name: str) -> bytes:
    """The vocabulary file of the encoding `name`, from tiktoken's cache; raises InputError if it is not there."""
    known = KNOWN[name]
    address = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    folder = folder or os.path.join(tempfile.gettempdir(), "data-gym-cache")
    path = os.path.join(folder, hashlib.sha1(address.encode()).hexdigest())
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError:
        raise InputError(
            f"the encoding {name} needs its vocabulary, and nothing is fetched unasked. Download {address} "
            f"(sha256 {known.sha256}) to {path}, or set TIKTOKEN_CACHE_DIR to a folder that has it under that name."
        ) from None
    if (found := hashlib.sha256(data).hexdigest()) != known.sha256:
        raise InputError(f"{path}: sha256 {found}, but {name}.tiktoken has {known.sha256}; download {address} again")
    return data


def resolve_pattern(pattern: str) -> tuple[str, str | None]:
    """`pattern` as a regular expression, and the name under which it is known, if it is."""
    if pattern in PATTERNS:
        return PATTERNS[pattern], pattern
    if pattern.isidentifier():
        raise ConfigError(
            f"pattern {pattern}: not a known pattern; write one of {', '.join(PATTERNS)} or an expression"
        )
    return pattern, next((name for name, known in PATTERNS.items() if known == pattern), None)
