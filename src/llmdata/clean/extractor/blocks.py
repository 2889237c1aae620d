"""From HTML to blocks: one parse, one walk.

A block is a run of text between two borders that a browser would show as line breaks of the layout: the beginnings and
ends of block elements, table cells and list items. Everything that the model asks about a block's place (its
ancestors, its neighbours, how often its path of tags and classes occurs) is written down during this walk, as
columns of integers, so that `features` is arithmetic on arrays.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from llmdata.clean.extractor import native_blocks
from llmdata.clean.extractor.page import (
    BIT,
    BLOCK,
    BODY_PROPERTIES,
    DROPPED,
    EMPTY,
    INLINE,
    LONGEST_NAME,
    ROLES,
    TAGS,
    Page,
)

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

_HEAD_OR_DROPPED = ", ".join(["title", "meta[name]", "meta[property]", *DROPPED])
_NEITHER = (0, INLINE)
_LINKED_DATA = "application/ld+json"
_TELLING = frozenset(("role", "aria-hidden", "hidden", "style", "itemprop"))
_UNSEEN = re.compile(r"display:\s*none|visibility:\s*hidden")
_DIGITS = re.compile(r"\d+")
_BREAK = "\ue000"  # a private character that stands for <br> until the block is complete
_BLANK = re.compile(r"\s")
_TOGETHER = 1 << 20  # characters


def parse(html: str) -> Page:
    """The blocks of `html`. Time and memory are linear in its length."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(html)
    body = tree.body
    if body is not None and body.parent is None:  # a frameset takes the place of a body with nothing to read
        body = None
    page, head = native_blocks.walk(tree, body, html) or _read(tree, body)
    for kind, value in head:
        if kind == "title":
            page.title = page.title or one_line(value[:LONGEST_NAME])
        elif kind == "og:type":
            page.og_type = value.lower()
        else:
            page.linked_data.append(value)
    return page


def _read(tree: LexborHTMLParser, body: LexborNode | None) -> tuple[Page, list[tuple[str, str]]]:
    """The blocks below `body`, and what the page says of itself; takes what a reader does not see out of `tree`."""
    head: list[tuple[str, str]] = []
    unseen: list[LexborNode] = []
    for node in tree.css(_HEAD_OR_DROPPED):
        tag = node.tag
        if tag == "title":
            head.append((tag, node.text()))
        elif tag == "meta":
            attributes = node.attributes
            if (attributes.get("property") or attributes.get("name") or "").lower() == "og:type":
                head.append(("og:type", attributes.get("content") or ""))
        else:
            if tag == "script" and node.attributes.get("type") == _LINKED_DATA:
                head.append((tag, node.text()))
            unseen.append(node)
    for node in reversed(unseen):  # what is inside another before it
        node.decompose()
    return _walk(body), head


def _walk(body: LexborNode | None) -> Page:
    """The blocks below `body`. No recursion: pages nest as deep as they like. `native/blocks.c` says the same."""
    import numpy as np

    tag_of, link_bit, pre_bit = TAGS, BIT["link"], BIT["pre"]
    known_paths: dict[tuple[int, str, str], int] = {}
    starts: list[int] = []
    ends: list[int] = []
    container_parents: list[int] = []
    container_paths: list[int] = []
    path_parents: list[int] = []
    path_tags: list[str] = []
    path_names: list[str] = []
    pieces: list[str] = []
    blocks: list[tuple[str, int, int, int, int, int, int, int]] = []
    link_chars = links = images = indent = first_mask = first_path = 0
    # The innermost open element (itself, identity, ancestors' bits, path, whether it is a block), and those around it.
    element = body.parent if body else None
    inner, mask, path, is_block = element.mem_id if element else 0, 0, -1, False
    container = -1
    outer: list[tuple[LexborNode | None, int, int, int, bool]] = []

    def flush(bits: int, container: int, path: int, link_chars: int, links: int, images: int, indent: int) -> bool:
        """Make a block of `pieces`; False if they are blank."""
        raw = "".join(pieces)
        pieces.clear()
        if bits & pre_bit:
            text = raw.replace(_BREAK, "\n").replace("\r\n", "\n").expandtabs(4).strip("\n").rstrip()
        elif _BREAK in raw:
            text = "\n".join(line for part in raw.split(_BREAK) if (line := one_line(part)))
        else:
            text = " ".join(raw.split()) if len(raw) <= _TOGETHER else one_line(raw)
        if not text:
            return False
        blocks.append((text, bits, container, path, link_chars, links, images, indent))
        return True

    def see_blanks(last: LexborNode) -> None:
        nonlocal indent
        blanks = _blanks(last)
        if pieces:
            pieces.extend(blanks)
        else:
            indent = _column_behind(indent, "".join(blanks))

    # Texts of blanks alone are two of three. Only within a block do they matter, or before one of code, and there they
    # are looked for beside the nodes that are visited.
    for node in body.traverse(include_text=True, skip_empty=True) if body else ():
        parent = node.parent.mem_id  # type: ignore[union-attr]
        while inner != parent:
            if is_block:
                if pieces:
                    if flush(first_mask, container, first_path, link_chars, links, images, indent):
                        images = 0
                    link_chars = links = 0
                indent = 0
                ends[container] = len(blocks)
                container = container_parents[container]
            elif (
                (pieces or mask & pre_bit) and element and (before := element.last_child) and before.is_empty_text_node
            ):
                see_blanks(before)
            element, inner, mask, path, is_block = outer.pop()
        tag = node.tag or ""
        if tag == "-text":
            if (pieces or mask & pre_bit) and (before := node.prev) and before.is_empty_text_node:
                see_blanks(before)
            text = node.text_content or ""
            if text.isspace():  # blanks beyond ASCII
                if pieces:
                    pieces.append(text)
                elif mask & pre_bit:
                    indent = _column_behind(indent, text)
                continue
            if not pieces:
                first_mask, first_path = mask, path
                before_text = text[: len(text) - len(text.lstrip())]
                if "\n" in before_text or "\r" in before_text:
                    indent = 0
            pieces.append(text)
            if mask & link_bit:
                link_chars += len(text)
            continue
        bits, kind = tag_of.get(tag, _NEITHER)
        if (pieces or mask & pre_bit) and kind != BLOCK and (before := node.prev) and before.is_empty_text_node:
            see_blanks(before)
        if kind == EMPTY:
            if tag == "br":
                if pieces:
                    pieces.append(_BREAK)
                else:
                    indent = 0
            elif tag == "img":
                images += 1
            elif tag == "hr":
                if pieces:
                    if flush(first_mask, container, first_path, link_chars, links, images, indent):
                        images = 0
                    link_chars = links = 0
                indent = 0
            continue
        outer.append((element, inner, mask, path, is_block))
        mask |= bits
        attributes = node.attributes
        if attributes:
            name = attributes.get("class") or ""
            if not _TELLING.isdisjoint(attributes):
                mask |= _attribute_bits(attributes)
            if identity := attributes.get("id"):
                name += " " + (identity if identity.isalpha() else _DIGITS.sub("", identity))
        else:
            name = ""
        key = (path, tag, name)
        known = known_paths.get(key)
        if known is None:
            known = known_paths[key] = len(path_tags)
            path_parents.append(path)
            path_tags.append(tag)
            path_names.append(name[:LONGEST_NAME])
        path = known
        is_block = kind == BLOCK
        if is_block:
            if pieces:
                if flush(first_mask, container, first_path, link_chars, links, images, indent):
                    images = 0
                link_chars = links = 0
            indent = 0
            container_parents.append(container)
            container_paths.append(path)
            container = len(ends)
            starts.append(len(blocks))
            ends.append(0)
        elif tag == "a":
            links += 1
        element, inner = node, node.mem_id
    if pieces:
        flush(first_mask, container, first_path, link_chars, links, images, indent)
    while container >= 0:
        ends[container] = len(blocks)
        container = container_parents[container]

    texts, *of_blocks = zip(*blocks, strict=True) if blocks else ((),) * 8
    columns = [*of_blocks, container_parents, container_paths, starts, ends, path_parents]
    return Page(list(texts), path_tags, path_names, *(np.array(column, np.int64) for column in columns))


def one_line(text: str) -> str:
    """`text` with one space for each run of blanks, and none around it.

    In parts, for a word of a list takes sixty bytes: a line of 50 MB took 1.2 GB.
    """
    if len(text) <= _TOGETHER:
        return " ".join(text.split())
    lines, at = [], 0
    while at < len(text):
        blank = _BLANK.search(text, at + _TOGETHER)
        end = blank.start() if blank else len(text)
        lines.append(" ".join(text[at:end].split()))
        at = end
    return " ".join(filter(None, lines))


def _blanks(last: LexborNode | None) -> list[str]:
    """The texts of blanks that end with the node `last`, in reading order."""
    out: list[str] = []
    while last is not None and last.is_empty_text_node:
        out.append(last.text_content or "")
        last = last.prev
    return out[::-1]


def _column_behind(column: int, blanks: str) -> int:
    """The column in a line of code behind `blanks` that begin at `column`."""
    for blank in blanks:
        if blank in "\n\r":
            column = 0
        else:
            column += 4 - column % 4 if blank == "\t" else 1
    return column


def _attribute_bits(attributes: dict[str, str | None]) -> int:
    bits = ROLES.get(attributes.get("role") or "", 0)
    if attributes.get("aria-hidden") == "true":
        bits |= BIT["aria_hidden"]
    if "hidden" in attributes:
        bits |= BIT["hidden"]
    elif style := attributes.get("style"):
        lowered = style.lower()  # a search for either word takes a tenth of the expression's time
        if ("none" in lowered or "hidden" in lowered) and _UNSEEN.search(lowered):
            bits |= BIT["hidden"]
    if attributes.get("itemprop") in BODY_PROPERTIES:
        bits |= BIT["body_prop"]
    return bits
