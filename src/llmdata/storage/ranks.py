"""The vocabulary of byte pairs: tokens with their ranks, in tiktoken's and in GPT-2's file format."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Mapping
from typing import Any

from llmdata.errors import InputError


def load_gigatoken(ranks: Mapping[bytes, int], pretokenizer: str) -> Any:
    """gigatoken's tokenizer of `ranks` without special tokens, its ids without the gaps that ranks may have; or None.

    It refuses vocabularies in which a token is no merge of two others, which byte pair encoding can never reach, by a
    panic: those are left to tiktoken.
    """
    import gigatoken

    ordered = sorted(ranks, key=ranks.__getitem__)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "vocab.tiktoken")
        with open(path, "wb") as stream:
            stream.writelines(_line(token, number) for number, token in enumerate(ordered))
        try:
            return gigatoken.Tokenizer.from_tiktoken(path, pretokenizer)
        except BaseException as error:
            if not isinstance(error, RuntimeError) and type(error).__name__ != "PanicException":
                raise
            return None


def byte_alphabet() -> dict[str, int]:
    """GPT-2's spelling of bytes as printable characters: itself where printable, else U+0100 and up in order."""
    shown = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    return {chr(byte): byte for byte in shown} | {chr(256 + index): byte for index, byte in enumerate(hidden)}


def dump_ranks(ranks: dict[bytes, int]) -> bytes:
    """`ranks` in tiktoken's file format: base64 of the token, a space, its rank; one a line."""
    return b"".join(_line(token, ranks[token]) for token in sorted(ranks, key=ranks.__getitem__))


def _line(token: bytes, rank: int) -> bytes:
    return base64.b64encode(token) + b" %d\n" % rank


def parse_ranks(data: bytes, name: str) -> dict[bytes, int]:
    """Read tiktoken's file format; raises InputError naming the line that is not in it."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except ValueError:
            raise InputError(f"{name}:{number}: not a line of a .tiktoken file: {line[:60]!r}") from None
        if len(ranks) < number or not 0 <= int(rank) < 1 << 31:
            raise InputError(f"{name}:{number}: this token comes twice, or its rank is no id: {line[:60]!r}")
    if len(set(ranks.values())) < len(ranks):
        raise InputError(f"{name}: several tokens have the same rank")
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise InputError(f"{name}: not a byte-level vocabulary: {len(missing)} of the 256 bytes have no token")
    return ranks


def parse_gpt2(vocab_bpe: bytes, encoder_json: bytes) -> dict[bytes, int]:
    """Read GPT-2's `vocab.bpe` (merges in order) and `encoder.json` (ids); raises InputError if they disagree."""
    alphabet = byte_alphabet()
    try:
        lines = vocab_bpe.decode().split("\n")[1:-1]
        merges = [tuple(bytes(alphabet[letter] for letter in half) for half in line.split(" ")) for line in lines]
        ids = json.loads(encoder_json)
        named = {bytes(alphabet[letter] for letter in name): rank for name, rank in ids.items() if "<|" not in name}
    except (ValueError, KeyError, AttributeError) as error:
        raise InputError(f"vocab.bpe and encoder.json: not GPT-2's format: {error}") from None
    ranks = {bytes([byte]): rank for rank, byte in enumerate(alphabet.values())}
    ranks |= {b"".join(pair): rank for rank, pair in enumerate(merges, len(ranks))}
    if any(named.get(token) != rank for token, rank in ranks.items()):
        raise InputError("vocab.bpe and encoder.json: not of one vocabulary: they give a token different ids")
    return ranks
