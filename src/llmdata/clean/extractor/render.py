"""From chosen blocks to text that reads well.

Paragraphs and headings stand apart by a blank line; list items begin with "- ", indented as they nest, and follow each
other line by line; the cells of a table's row share a line, with " | " between them; code keeps its lines and blanks.
Short pieces of one container (a name, a price, a date) stand on adjacent lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from llmdata.clean.extractor.page import BIT, Page

_FRAGMENT = 60  # characters; what is longer is a paragraph wherever it stands
_LONGEST_CELL = 300  # a longer one is no data but layout
_LONGEST_ITEM = 1_000  # a longer one is a post or a card, and no item of a list
_DEEPEST = 8  # levels of indentation
_APART = BIT["heading"] | BIT["pre"]


class _Columns(NamedTuple):
    """What is asked of a page, as lists, which are quicker than arrays to look up one number in."""

    texts: list[str]
    masks: list[int]
    indents: list[int]
    containers: list[int]
    parents: list[int]
    """Of the containers, as are the tags."""
    tags: list[str]


class _Place(NamedTuple):
    """What is around a container (or is itself): the innermost row, cell, item and preformatted text, or -1."""

    row: int = -1
    cell: int = -1
    item: int = -1
    pre: int = -1
    root: int = -1
    """The outermost list."""


def render(page: Page, kept: Sequence[int]) -> str:
    """The text of the blocks `kept` (indices in reading order)."""
    tags = page.path_tags
    columns = _Columns(
        page.texts,
        page.masks.tolist(),
        page.indents.tolist(),
        page.containers.tolist(),
        page.container_parents.tolist(),
        [tags[path] for path in page.container_paths.tolist()],
    )
    places = _places(page, columns, kept)
    out: list[str] = []
    last = last_item = -1
    dashed: dict[int, bool] = {}
    """For each item begun so far, whether it begins with text of its own and not with a heading or code."""
    position = 0
    while position < len(kept):
        block = kept[position]
        container = columns.containers[block]
        row, end, text = places[container].row, position + 1, None
        if row >= 0:
            while end < len(kept) and places[columns.containers[kept[end]]].row == row:
                end += 1
            text = _row(columns, kept[position:end], places)
            if text is None:
                row, end = -1, position + 1
        item = places[container].item if row < 0 else -1
        if text is None:
            text = " " * columns.indents[block] + columns.texts[block]
            is_apart = columns.masks[block] & _APART != 0
            is_first = item not in dashed
            if item >= 0 and is_first:
                dashed[item] = not is_apart
            if item >= 0 and not is_apart:
                if dashed[item] and columns.tags[item] == "li":
                    text = ("- " if is_first else "  ") + text.replace("\n", "\n  ")
                margin = "  " * _levels(columns, places, item, dashed)
                text = margin + text.replace("\n", f"\n{margin}")
        if out:
            out.append(_between(columns, places, last, block, row, item, last_item))
        out.append(text)
        last, last_item = kept[end - 1], item
        position = end
    return "".join(out)


def _levels(columns: _Columns, places: dict[int, _Place], item: int, dashed: dict[int, bool]) -> int:
    """How far an item is indented: by the items around it, but those that begin with a heading, which has no "- "."""
    levels = 0
    for _ in range(_DEEPEST):
        item = places[columns.parents[item]].item
        if item < 0:
            break
        levels += dashed.get(item, True)
    return levels


def _between(
    columns: _Columns, places: dict[int, _Place], last: int, block: int, row: int, item: int, last_item: int
) -> str:
    """What separates two pieces of text: a line break where they belong together, else a blank line."""
    here, there = columns.containers[block], columns.containers[last]
    if places[here].pre >= 0 and places[here].pre == places[there].pre:
        return "\n"
    if (columns.masks[last] | columns.masks[block]) & _APART:
        return "\n\n"
    if row >= 0:
        before = places[there].row
        return "\n" if before >= 0 and _table(columns, before) == _table(columns, row) else "\n\n"
    if item >= 0 and last_item >= 0:
        return "\n" if places[item].root == places[last_item].root else "\n\n"
    if len(columns.texts[block]) < _FRAGMENT and len(columns.texts[last]) < _FRAGMENT and block == last + 1:
        siblings = {here, columns.parents[here]} & {there, columns.parents[there]}
        paragraphs = columns.masks[block] & columns.masks[last] & BIT["p"]
        return "\n" if siblings - {-1} and not paragraphs else "\n\n"
    return "\n\n"


def _table(columns: _Columns, row: int) -> int:
    """The container around a row that is no tbody: rows of one table share it."""
    parent = columns.parents[row]
    while parent >= 0 and columns.tags[parent] in ("tbody", "thead", "tfoot"):
        parent = columns.parents[parent]
    return parent


def _row(columns: _Columns, blocks: Sequence[int], places: dict[int, _Place]) -> str | None:
    """The blocks of a table's row on one line; None if they are no data."""
    parts: dict[int, list[str]] = {}
    for block in blocks:
        text = columns.texts[block]
        if columns.masks[block] & _APART or len(text) > _LONGEST_CELL:
            return None
        parts.setdefault(places[columns.containers[block]].cell, []).append(text.replace("\n", " "))
    return " | ".join(" ".join(part) for part in parts.values())


def _places(page: Page, columns: _Columns, kept: Sequence[int]) -> dict[int, _Place]:
    """The places of the containers around the blocks `kept`."""
    parents, tags = columns.parents, columns.tags
    around: set[int] = set()
    for block in kept:
        container = columns.containers[block]
        while container >= 0 and container not in around:
            around.add(container)
            container = parents[container]
    starts, ends = page.starts.tolist(), page.ends.tolist()
    before = [0, *accumulate(map(len, page.texts))]
    nowhere = _Place()
    places: dict[int, _Place] = {}
    for container in sorted(around):  # parents come before their children
        parent = parents[container]
        place = places[parent] if parent >= 0 else nowhere
        tag = tags[container]
        if tag not in _TELLING:
            pass
        elif tag in ("li", "dd", "dt"):
            if before[ends[container]] - before[starts[container]] <= _LONGEST_ITEM:
                place = place._replace(item=container)
        elif tag in ("ul", "ol", "dl"):
            if place.item < 0:
                place = place._replace(root=container)
        elif tag == "tr":
            place = place._replace(row=container, cell=container, item=-1)
        elif tag == "pre":
            place = place._replace(pre=container)
        else:
            place = place._replace(cell=container)
        places[container] = place
    return places


_TELLING = frozenset(("li", "dd", "dt", "ul", "ol", "dl", "tr", "td", "th", "pre"))
