"""A comparison of encodings as tables for a terminal, as a record for machines, and as a picture."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from llmdata.tokenizer.compare import Comparison, Usage
from llmdata.tokenizer.view import visible

if TYPE_CHECKING:
    from rich.table import Table

_LONGEST_SHOWN = 30
_SHOWN_TOKENS = 8


def record(entry: Comparison) -> dict[str, Any]:
    """All that was measured, tokens as `visible` shows them."""
    usage = {"whole": _usage(entry.whole), "languages": {key: _usage(use) for key, use in entry.languages.items()}}
    tokens = {name: [visible(token) for token in getattr(entry, name)] for name in ("longest", "unused")}
    return {**asdict(entry), "share_used": round(entry.used / entry.n_vocab, 4), **usage, **tokens}


def _usage(usage: Usage) -> dict[str, Any]:
    ratios = ("bytes_per_token", "characters_per_token", "share_split")
    return {**asdict(usage), **{name: getattr(usage, name) for name in ratios}}


def tables(found: Sequence[Comparison]) -> Iterator[Table]:
    """One table of the whole and its vocabularies, one by language, one of tokens."""
    rows: list[tuple[str, Callable[[Comparison], str]]] = [
        ("vocabulary", lambda entry: f"{entry.n_vocab:,}"),
        ("tokens", lambda entry: f"{entry.whole.tokens:,}"),
        ("bytes a token", lambda entry: f"{entry.whole.bytes_per_token:.3f}"),
        ("characters a token", lambda entry: f"{entry.whole.characters_per_token:.3f}"),
        ("words cut", lambda entry: f"{entry.whole.share_split:.1%}"),
        ("vocabulary used", lambda entry: f"{entry.used / entry.n_vocab:.1%}"),
        ("used once", lambda entry: f"{entry.once:,}"),
    ]
    whole = found[0].whole
    table = _table(f"{whole.documents:,} documents, {whole.bytes / 1e6:,.1f} MB", found)
    for name, show in rows:
        table.add_row(name, *(show(entry) for entry in found))
    yield table
    table = _table("bytes a token · characters a token · words cut", found)
    for language, usage in found[0].languages.items():
        table.add_row(
            f"{language}, {usage.bytes / 1e6:,.1f} MB", *(_cell(entry.languages[language]) for entry in found)
        )
    yield table
    table = _table("tokens", found)
    for name, kind in (("longest", "longest"), ("never used", "unused")):
        lists = [[_shown(token) for token in getattr(entry, kind)[:_SHOWN_TOKENS]] for entry in found]
        table.add_row(name, *("\n".join(dict.fromkeys(shown)) for shown in lists))
    yield table


def _table(title: str, found: Sequence[Comparison]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("")
    for entry in found:
        table.add_column(escape(entry.name), justify="right", overflow="fold")
    return table


def _cell(usage: Usage) -> str:
    return f"{usage.bytes_per_token:.2f} · {usage.characters_per_token:.2f} · {usage.share_split:.0%}"


def _shown(token: bytes) -> str:
    """A token of any length, safe in rich's markup; runs of one character as that and a number."""
    from rich.markup import escape

    text = re.sub(r"(.)\1{7,}", lambda run: f"{run[1]}×{len(run[0])}", visible(token))
    return escape(text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…")


_LEFT, _WIDTH, _BAR, _GAP, _TOP = 150, 860, 13, 14, 44
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #5c6470; }
.s0 { fill: #2f6f9f; } .s1 { fill: #d98b2b; } .s2 { fill: #4f9a48; } .s3 { fill: #a84f8a; } .s4 { fill: #6b6fc4; }
rect.paper { fill: #fcfcfb; }
@media (prefers-color-scheme: dark) {
  text { fill: #9aa3ad; }
  .s0 { fill: #6aaede; } .s1 { fill: #e0a458; } .s2 { fill: #7cc274; } .s3 { fill: #d483b7; } .s4 { fill: #9b9fe8; }
  rect.paper { fill: #15171a; }
}
"""


def draw(found: Sequence[Comparison]) -> str:
    """Bytes a token of each encoding, by language, as an SVG file of its own."""
    most = max(usage.bytes_per_token for entry in found for usage in entry.languages.values()) or 1.0
    block = len(found) * _BAR + _GAP
    height = _TOP + len(found[0].languages) * block + 8
    view = f'viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="Bytes a token by language"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view}><style>{_STYLE}</style>',
        f'<rect class="paper" width="{_WIDTH}" height="{height}"/>',
        '<text x="12" y="24">bytes a token</text>',
    ]
    at = float(_LEFT)
    for number, entry in enumerate(found):
        name = _short(entry.name)
        parts.append(f'<rect class="s{number % 5}" x="{at:.0f}" y="14" width="11" height="11" rx="2"/>')
        parts.append(f'<text x="{at + 16:.0f}" y="24">{html.escape(name)}</text>')
        at += 40 + 7 * len(name)
    for row, language in enumerate(found[0].languages):
        top = _TOP + row * block
        middle = top + len(found) * _BAR / 2 + 4
        parts.append(f'<text x="{_LEFT - 10}" y="{middle:.0f}" text-anchor="end">{html.escape(language)}</text>')
        for number, entry in enumerate(found):
            value = entry.languages[language].bytes_per_token
            width, y = (_WIDTH - _LEFT - 60) * value / most, top + number * _BAR
            parts.append(
                f'<rect class="s{number % 5}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR - 2}" rx="2"/>'
            )
            parts.append(f'<text x="{_LEFT + width + 6:.1f}" y="{y + _BAR - 3}">{value:.2f}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _short(name: str) -> str:
    """The last part of a path."""
    return name.rstrip("/").rpartition("/")[2][-24:]
