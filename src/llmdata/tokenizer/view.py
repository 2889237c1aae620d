"""Looking at tokens: how an encoding cuts a text, and what the ids in a shard say."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmdata.errors import ConfigError, InputError
from llmdata.storage.encoding import load_encoding
from llmdata.storage.encoding_kinds import Encoding
from llmdata.storage.place import Place
from llmdata.storage.token_index import INDEX, load_index, open_shard
from llmdata.storage.token_shards import Tokens, open_tokens
from llmdata.webpage import webpage

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_STYLES = ("black on bright_cyan", "black on bright_yellow", "black on bright_green", "black on bright_magenta")
_LEAST_WIDTH = 38
"""Columns that an encoding needs on the screen to stand beside another."""


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


@dataclass(frozen=True, slots=True)
class Cut:
    """A text as an encoding cuts it: `tokens` are id, what it stands for, and its bytes in hexadecimal."""

    name: str
    n_vocab: int
    bytes: int
    tokens: list[dict[str, Any]]

    @property
    def heading(self) -> str:
        """How many tokens, and how much text in each."""
        size = f", {self.bytes / len(self.tokens):.2f} bytes each" if self.tokens else ""
        return f"{len(self.tokens):,} tokens{size}, of {self.n_vocab:,}"


def cut(name: str, text: str, pattern: str | None = None) -> Cut:
    """`text` as the encoding `name` cuts it; raises what `load_encoding` raises."""
    encoding = load_encoding(name, pattern)
    return Cut(name, encoding.n_vocab, len(text.encode("utf-8", "replace")), tokens_of(encoding, text))


def pieces_of(token: bytes) -> Iterator[tuple[str, bool]]:
    """A token as printable pieces, and whether each is an escape: of control characters, and of bytes that are no
    character (because a character is cut). Blanks are shown as a dot."""
    for character in token.decode("utf-8", "surrogateescape"):
        if character == " ":
            yield "·", False
        elif "\udc80" <= character <= "\udcff":
            yield f"\\x{ord(character) - 0xDC00:02x}", True
        elif character.isprintable():
            yield character, False
        else:
            yield character.encode("unicode_escape").decode(), True


def visible(token: bytes) -> str:
    """A token as one line of text."""
    return "".join(shown for shown, _ in pieces_of(token))


def tokens_of(encoding: Encoding, text: str) -> list[dict[str, Any]]:
    """The tokens of `text`: id, what it stands for, and its bytes in hexadecimal."""
    found = [(token, encoding.token_bytes(token)) for token in encoding.encode(text)]
    return [{"id": token, "text": visible(data), "bytes": data.hex()} for token, data in found]


def render(cuts: Sequence[Cut], width: int) -> Table:
    """Encodings side by side in `width` columns, or below one another where that leaves too little for each."""
    from rich.table import Table
    from rich.text import Text

    beside = len(cuts) if (width + 3) // len(cuts) - 3 >= _LEAST_WIDTH else 1
    room = (width + 3) // beside - 3
    table = Table.grid(padding=(0, 3, 0, 0))
    for _ in range(beside):
        table.add_column(width=room, overflow="fold")
    for at in range(0, len(cuts), beside):
        group = cuts[at : at + beside]
        heads = [Text(f"{entry.name}\n", "bold").append(entry.heading, "not bold dim") for entry in group]
        table.add_row(*heads)
        table.add_row(*(_lines(entry.tokens, room) for entry in group))
    return table


def _lines(tokens: Sequence[dict[str, Any]], width: int) -> Text:
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
    return whole.append_text(upper).append("\n").append_text(lower).append("\n")


def page(cuts: Sequence[Cut]) -> str:
    """The encodings side by side as one HTML page that needs nothing beside it."""
    cards = "\n".join(_card(entry) for entry in cuts)
    return html_page("Tokens", f'<h1>Tokens</h1>\n<div class="side">\n{cards}\n</div>')


def _card(entry: Cut) -> str:
    spans = "".join(_span(number, token) for number, token in enumerate(entry.tokens))
    head = f'<h2>{html.escape(entry.name)}</h2><p class="soft">{html.escape(entry.heading)}</p>'
    return f'<section class="card">{head}\n<div class="tokens">{spans}</div></section>'


def _span(number: int, token: dict[str, Any]) -> str:
    data = bytes.fromhex(token["bytes"])
    shown = "".join(
        f"<i>{html.escape(part)}</i>" if escaped else html.escape(part) for part, escaped in pieces_of(data)
    )
    after = "<br>" if data.endswith(b"\n") else ""
    title = f"{token['id']}: {data.hex(' ')}"
    return f'<span class="c{number % 4}" title="{title}"><b>{shown}</b><small>{token["id"]}</small></span>{after}'


def html_page(title: str, body: str) -> str:
    """`body` as a page with its own style and nothing to load."""
    return webpage(title, Path(__file__).with_name("page.css"), body)
