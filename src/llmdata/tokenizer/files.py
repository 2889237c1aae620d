"""A tokenizer's folder: `tokenizer.json` for `tokenizers` and `transformers`, `vocab.tiktoken` for tiktoken."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from llmdata.storage.encoding_kinds import (
    CONFIG,
    JSON,
    RANKS,
    UNKNOWN,
    BpeEncoding,
    CharEncoding,
    Encoding,
    JsonEncoding,
)
from llmdata.storage.place import Place
from llmdata.storage.ranks import byte_alphabet, load_gigatoken

FILES = (JSON, RANKS, CONFIG)


def save_encoding(encoding: Encoding, folder: Place, facts: Mapping[str, Any]) -> list[str]:
    """Write the files of `encoding` into `folder`; returns their names. `facts` go into `tokenizer_config.json`."""
    names = [JSON, CONFIG]
    settings: dict[str, Any] = {"kind": encoding.kind, "special_tokens": encoding.special_tokens}
    if isinstance(encoding, BpeEncoding):
        (folder / RANKS).write_bytes(encoding.file)
        names.append(RANKS)
        settings["pattern"] = encoding.pattern
        source = bpe_json(encoding)
    elif isinstance(encoding, CharEncoding):
        source = level_json(encoding.characters, r"[\s\S]", encoding.special_tokens)
    elif isinstance(encoding, JsonEncoding):
        source = encoding.source
    else:
        raise TypeError(type(encoding).__name__)
    (folder / JSON).write_bytes(source)
    eot = encoding.token_bytes(encoding.eot).decode()
    (folder / CONFIG).write_json(
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": eot,
            "eos_token": eot,
            **({"unk_token": UNKNOWN} if UNKNOWN in encoding.special_tokens else {}),
            "clean_up_tokenization_spaces": False,
            "llmdata": {**settings, "n_vocab": encoding.n_vocab, "digest": encoding.digest, **facts},
        }
    )
    return sorted(names)


def keep_encoding(encoding: Encoding, source: Place | str, folder: Place) -> list[str]:
    """Put what is needed to load `encoding` into `folder`: the files of the folder `source`, or made from a name.

    Returns their names.
    """
    origin = Place.of(source)
    files = [origin / name for name in FILES if origin.is_dir() and (origin / name).exists()]
    for file in files:
        (folder / file.name).write_bytes(file.read_bytes())
    return sorted(file.name for file in files) or save_encoding(encoding, folder, {})


def bpe_json(encoding: BpeEncoding) -> bytes:
    """`encoding` as a `tokenizer.json`.

    Special tokens stand in the vocabulary too, as in GPT-2's own file: only there does their id count.
    """
    # As Latin-1 each byte is one character, which `translate` spells as GPT-2 does.
    letters = {byte: letter for letter, byte in byte_alphabet().items()}
    ordered = sorted(encoding.ranks, key=encoding.ranks.__getitem__)
    spelled = {token: token.decode("latin-1").translate(letters) for token in ordered}
    vocabulary = {spelled[token]: encoding.ranks[token] for token in ordered} | encoding.special_tokens
    pattern = {"type": "Split", "pattern": {"Regex": encoding.pattern}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": True,  # as tiktoken: a word that is a token is that token, whatever merges lead to it
        "vocab": vocabulary,
        "merges": [[spelled[left], spelled[right]] for left, right in merges_of(encoding.ranks, encoding.bulk)],
    }
    splitter = {"type": "Sequence", "pretokenizers": [pattern, byte_level]}
    return _json(model, splitter, byte_level, encoding.special_tokens)


def level_json(vocabulary: list[str], pattern: str, special_tokens: Mapping[str, int]) -> bytes:
    """A `tokenizer.json` whose tokens are whole matches of `pattern`."""
    ids = {token: index for index, token in enumerate(vocabulary)} | dict(special_tokens)
    model = {"type": "WordLevel", "vocab": ids, "unk_token": UNKNOWN}
    splitter = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return _json(model, splitter, {"type": "Fuse"}, special_tokens)


def _json(model: Any, splitter: Any, decoder: Any, special_tokens: Mapping[str, int]) -> bytes:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": token, "content": name, **flags} for name, token in sorted(special_tokens.items(), key=_by_id)]
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": splitter,
        "post_processor": None,
        "decoder": decoder,
        "model": model,
    }
    return to_json(whole) + b"\n"  # of o200k_base in a fifth of the time that `json` takes


def _by_id(item: tuple[str, int]) -> int:
    return item[1]


def merges_of(ranks: Mapping[bytes, int], bulk: Any = None) -> list[tuple[bytes, bytes]]:
    """The two tokens that each token of `ranks` is merged from, in order of rank.

    A file of ranks leaves them out; encoding a token with the ranks below its own leaves exactly the two. gigatoken
    finds them ten times as fast, in vocabularies that it can take; `bulk` is its tokenizer of these ranks if there is
    one already.
    """
    loaded = bulk if bulk is not None else load_gigatoken(ranks, "gpt2")
    if loaded is not None:
        return [(bytes(left), bytes(right)) for left, right in loaded.merges]
    parts = (_merge(ranks, token, rank) for token, rank in sorted(ranks.items(), key=_by_rank) if len(token) > 1)
    return [(pair[0], pair[1]) for pair in parts if len(pair) == 2]


def _by_rank(item: tuple[bytes, int]) -> int:
    return item[1]


def _merge(ranks: Mapping[bytes, int], token: bytes, below: int) -> list[bytes]:
    """`token` cut by the ranks under `below`. Each round joins all pairs of the lowest rank, as GPT-2's encoder does:
    a token of 100,000 blanks takes 17 rounds."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, below) for left, right in itertools.pairwise(parts)]
        best = min(pairs)
        if best >= below:
            break
        joined, at = [], 0
        while at < len(parts):
            width = 2 if at < len(pairs) and pairs[at] == best else 1
            joined.append(b"".join(parts[at : at + width]))
            at += width
        parts = joined
    return parts
