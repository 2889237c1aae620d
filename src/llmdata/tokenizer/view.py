"""Looking at tokens: how an encoding cuts a text, and what the ids in a shard say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmdata.errors import ConfigError, InputError
from llmdata.storage.encoding import load_encoding
from llmdata.storage.encoding_kinds import Encoding
from llmdata.storage.place import Place
from llmdata.storage.token_index import INDEX, load_index, open_shard
from llmdata.storage.token_shards import Tokens, open_tokens

if TYPE_CHECKING:
    from rich.text import Text

_STYLES = ("black on bright_cyan", "black on bright_yellow", "black on bright_green", "black on bright_magenta")


@dataclass(frozen=True, slots=True)
class Passage:
    """Tokens of a shard: `ids` from `start`, what they say, and how many tokens the shard has."""

    start: int
    ids: list[int]
    text: str
    tokens: int


def decode_shard(shard: Place, start: int, count: int, tokenizer: str | None = None) -> Passage:
    """The tokens [start, start + count) of `shard`, decoded with `tokenizer` or the one that lies beside the shard."""
    tokens = _open(shard)
    if not 0 <= start < max(1, len(tokens)):
        raise ConfigError(f"--from {start}: {shard} has {len(tokens):,} tokens, from 0 on")
    encoding = load_encoding(tokenizer or shard.parent)
    ids = [int(token) for token in tokens[start : start + count]]
    try:
        text = encoding.decode(ids)
    except ValueError as error:
        raise InputError(f"{shard}: {error}; this is not the tokenizer that made it") from None
    return Passage(start, ids, text, len(tokens))


def _open(shard: Place) -> Tokens:
    if (shard.parent / INDEX).exists():
        index = load_index(shard.parent)
        for split in index.splits.values():
            for known in split.shards:
                if known.path == shard.name:
                    return open_shard(index, shard.parent, known)
    return open_tokens(shard)


def visible(token: bytes) -> str:
    """A token as one line of text: control characters and bytes that are no character written as escapes."""
    shown = []
    for character in token.decode("utf-8", "backslashreplace"):
        if character == " ":
            shown.append("·")
        elif character.isprintable():
            shown.append(character)
        else:
            shown.append(character.encode("unicode_escape").decode())
    return "".join(shown)


def tokens_of(encoding: Encoding, text: str) -> list[dict[str, Any]]:
    """The tokens of `text`: id, what it stands for, and its bytes in hexadecimal."""
    return [
        {"id": token, "text": visible(encoding.token_bytes(token)), "bytes": encoding.token_bytes(token).hex()}
        for token in encoding.encode(text)
    ]


def render(tokens: Sequence[dict[str, Any]], width: int) -> Text:
    """Tokens in alternating colours, their ids below, in lines of at most `width` columns (a longer token alone)."""
    from rich.cells import cell_len
    from rich.text import Text

    whole, upper, lower, used = Text(), Text(), Text(), 0
    for number, token in enumerate(tokens):
        shown, below = token["text"], str(token["id"])
        room = max(cell_len(shown), len(below)) + 1
        if used and used + room > width:
            whole.append_text(upper).append("\n").append_text(lower).append("\n")
            upper, lower, used = Text(), Text(), 0
        upper.append(shown, _STYLES[number % len(_STYLES)]).append(" " * (room - cell_len(shown)))
        lower.append(below.ljust(room), "dim")
        used += room
    return whole.append_text(upper).append("\n").append_text(lower)
