"""Encodings known by name: OpenAI's vocabulary files, and the patterns that cut text before byte pairs merge.

tiktoken would fetch these files itself; nothing here opens a connection, only `llmdata tokenizer download` does. What
is not at hand ends in an error that says which file, from where, its digest, and where to put it.
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
class File:
    """A vocabulary file that OpenAI publishes: where, and its digest."""

    path: str
    sha256: str

    @property
    def address(self) -> str:
        return f"{HOST}/{self.path}"

    @property
    def cached(self) -> str:
        """Where tiktoken looks for it: under the SHA-1 of its address in a folder that the environment may name."""
        folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
        folder = folder or os.path.join(tempfile.gettempdir(), "data-gym-cache")
        return os.path.join(folder, hashlib.sha1(self.address.encode()).hexdigest())


HOST = "https://openaipublic.blob.core.windows.net"
FILES = {
    "r50k_base": File(
        "encodings/r50k_base.tiktoken", "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
    ),
    "p50k_base": File(
        "encodings/p50k_base.tiktoken", "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069"
    ),
    "cl100k_base": File(
        "encodings/cl100k_base.tiktoken", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
    ),
    "o200k_base": File(
        "encodings/o200k_base.tiktoken", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
    ),
    "vocab.bpe": File(
        "gpt-2/encodings/main/vocab.bpe", "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
    ),
    "encoder.json": File(
        "gpt-2/encodings/main/encoder.json", "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
    ),
}


@dataclass(frozen=True, slots=True)
class Known:
    """An encoding of OpenAI's: the file in `FILES` that it reads, and what the file does not say."""

    file: str
    pattern: str
    special_tokens: dict[str, int]


_MIDDLE = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
_HARMONY = {
    END_OF_TEXT: 199999,
    "<|startoftext|>": 199998,
    **{f"<|reserved_{token}|>": token for token in (200000, 200001, 200004, 200009, 200010, 200011)},
    "<|return|>": 200002,
    "<|constrain|>": 200003,
    "<|channel|>": 200005,
    "<|start|>": 200006,
    "<|end|>": 200007,
    "<|message|>": 200008,
    "<|call|>": 200012,
    **{f"<|reserved_{token}|>": token for token in range(200013, 201088)},
    "<|endofprompt|>": 200018,
}
KNOWN = {
    "r50k_base": Known("r50k_base", "gpt2", {END_OF_TEXT: 50256}),
    "p50k_base": Known("p50k_base", "gpt2", {END_OF_TEXT: 50256}),
    "cl100k_base": Known(
        "cl100k_base",
        "cl100k",
        {END_OF_TEXT: 100257, **dict(zip(_MIDDLE, range(100258, 100261), strict=True)), "<|endofprompt|>": 100276},
    ),
    "o200k_base": Known("o200k_base", "o200k", {END_OF_TEXT: 199999, "<|endofprompt|>": 200018}),
    "p50k_edit": Known(
        "p50k_base", "gpt2", {END_OF_TEXT: 50256, **dict(zip(_MIDDLE, range(50281, 50284), strict=True))}
    ),
    "o200k_harmony": Known("o200k_base", "o200k", _HARMONY),
}
GPT2_FILES = ("vocab.bpe", "encoder.json")
"""The form in which GPT-2's own vocabulary was published first; r50k_base is the same."""
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
    return next((known for known in KNOWN.values() if FILES[known.file].sha256 == sha256), None)


def files_of(name: str) -> tuple[str, ...]:
    """The files in `FILES` that the encoding `name` is read from: of GPT-2's two forms the one that is at hand."""
    file = KNOWN[name].file
    first_form = file == "r50k_base" and not os.path.exists(FILES[file].cached)
    if first_form and all(os.path.exists(FILES[part].cached) for part in GPT2_FILES):
        return GPT2_FILES
    return (file,)


def cached_file(name: str) -> bytes:
    """The file `name` of `FILES` from tiktoken's cache; raises InputError if it is not there or not whole."""
    file = FILES[name]
    try:
        with open(file.cached, "rb") as stream:
            data = stream.read()
    except OSError:
        folder = os.path.dirname(file.cached)
        raise InputError(
            f"the vocabulary {name} is not at hand, and nothing is fetched unasked. "
            f"`llmdata tokenizer download {name}` fetches {file.address} (sha256 {file.sha256}) to {file.cached}; "
            "or put it there yourself, or set "
            f"TIKTOKEN_CACHE_DIR to a folder that has it under that name (now: {folder})."
        ) from None
    check_file(name, data, file.cached)
    return data


def check_file(name: str, data: bytes, where: str) -> None:
    """Raise InputError if `data`, which comes from `where`, is not the file `name` of `FILES`."""
    file = FILES[name]
    if (found := hashlib.sha256(data).hexdigest()) != file.sha256:
        raise InputError(
            f"{where}: sha256 {found}, but {name} has {file.sha256}; remove it, and download {file.address} again "
            f"(`llmdata tokenizer download {name}`)"
        )


def resolve_pattern(pattern: str) -> tuple[str, str | None]:
    """`pattern` as a regular expression, and the name under which it is known, if it is."""
    if pattern in PATTERNS:
        return PATTERNS[pattern], pattern
    if pattern.isidentifier():
        raise ConfigError(
            f"pattern {pattern}: not a known pattern; write one of {', '.join(PATTERNS)} or an expression"
        )
    return pattern, next((name for name, known in PATTERNS.items() if known == pattern), None)
