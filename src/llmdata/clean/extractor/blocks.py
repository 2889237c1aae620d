"""From HTML to blocks: one parse, one walk.

A block is a run of text between two borders that a browser would show as line breaks of the layout: the beginnings and
ends of block elements, table cells and list items. Everything that the model asks about a block's place (its
ancestors, its neighbours, how often its path of tags and classes occurs) is written down during this walk, as lists of
integers, so that `features` is arithmetic on arrays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

# What a reader does not see. `noscript` stays: whole forums (Discourse) serve their threads in it.
_DROPPED = ["script", "style", "svg", "template", "iframe", "select", "textarea", "canvas", "object", "math"]
_HEAD_OR_DROPPED = ", ".join(["title", "meta[name]", "meta[property]", *_DROPPED])
_INLINE_KIND, _BLOCK, _EMPTY = range(3)
_INLINE = (0, _INLINE_KIND)
_EMPTY_TAGS = "img input br wbr hr area base col embed link meta source track param -comment -doctype".split()
_BLOCK_TAGS = (
    "address article aside audio blockquote body button caption center dd details dialog dir div dl dt fieldset "
    "figcaption figure footer form frameset h1 h2 h3 h4 h5 h6 header hgroup html legend li main menu nav noscript ol "
    "optgroup p pre search section summary table tbody td tfoot th thead tr ul video"
).split()

# A bit for each kind of ancestor; a block has the bits of all elements around it.
_BITS = (
    "nav footer aside article main section form table list li dl blockquote pre figure button link heading "
    "h1 h2 h3 p dialog details label td hidden aria_hidden code body_prop noscript"
).split()
BIT = {name: 1 << position for position, name in enumerate(_BITS)}

_TAG_BITS = {
    "nav": BIT["nav"],
    "footer": BIT["footer"],
    "aside": BIT["aside"],
    "article": BIT["article"],
    "main": BIT["main"],
    "section": BIT["section"],
    "form": BIT["form"],
    "table": BIT["table"],
    "ul": BIT["list"],
    "ol": BIT["list"],
    "menu": BIT["list"],
    "li": BIT["li"],
    "dl": BIT["dl"],
    "blockquote": BIT["blockquote"],
    "pre": BIT["pre"],
    "figure": BIT["figure"],
    "figcaption": BIT["figure"],
    "button": BIT["button"],
    "a": BIT["link"],
    "h1": BIT["heading"] | BIT["h1"],
    "h2": BIT["heading"] | BIT["h2"],
    "h3": BIT["heading"] | BIT["h3"],
    "h4": BIT["heading"],
    "h5": BIT["heading"],
    "h6": BIT["heading"],
    "p": BIT["p"],
    "dialog": BIT["dialog"],
    "details": BIT["details"],
    "label": BIT["label"],
    "td": BIT["td"],
    "th": BIT["td"],
    "code": BIT["code"],
    "noscript": BIT["noscript"],
}
_ROLE_BITS = {
    "navigation": BIT["nav"],
    "menu": BIT["nav"],
    "menubar": BIT["nav"],
    "contentinfo": BIT["footer"],
    "complementary": BIT["aside"],
    "article": BIT["article"],
    "main": BIT["main"],
    "search": BIT["form"],
    "button": BIT["button"],
    "dialog": BIT["dialog"],
    "alertdialog": BIT["dialog"],
    "heading": BIT["heading"],
    "list": BIT["list"],
    "listitem": BIT["li"],
}
_TAGS = {tag: (bits, _INLINE_KIND) for tag, bits in _TAG_BITS.items()}
_TAGS |= {tag: (_TAG_BITS.get(tag, 0), _BLOCK) for tag in _BLOCK_TAGS}
_TAGS |= dict.fromkeys(_EMPTY_TAGS, (0, _EMPTY))
_TELLING = frozenset(("role", "aria-hidden", "hidden", "style", "itemprop"))
_UNSEEN = re.compile(r"display:\s*none|visibility:\s*hidden")
_DIGITS = re.compile(r"\d+")
_BREAK = "\ue000"  # a private character that stands for <br> until the block is complete
_BLANK = re.compile(r"\s")
_TOGETHER = 1 << 20  # characters
_LONGEST_NAME = 10_000  # characters of a title or a class name that are looked at


@dataclass(slots=True)
class Page:
    """The blocks of one page in reading order. `containers` are block elements, `paths` chains of tag, class and id."""

    texts: list[str] = field(default_factory=list)
    masks: list[int] = field(default_factory=list)
    """Bits of `BIT` for the elements around each block."""
    containers: list[int] = field(default_factory=list)
    """The innermost block element around each block."""
    paths: list[int] = field(default_factory=list)
    """The path of the innermost element, inline or not, around the block's first text."""
    link_chars: list[int] = field(default_factory=list)
    links: list[int] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    """Pictures seen since the block before."""
    container_parents: list[int] = field(default_factory=list)
    container_paths: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    """A container's blocks are `starts[c]:ends[c]`."""
    ends: list[int] = field(default_factory=list)
    path_parents: list[int] = field(default_factory=list)
    path_tags: list[str] = field(default_factory=list)
    path_names: list[str] = field(default_factory=list)
    """Class and id of each path's last element."""
    title: str = ""
    og_type: str = ""
    linked_data: list[str] = field(default_factory=list)
    """The JSON-LD scripts of the page."""


def parse(html: str) -> Page:
    """The blocks of `html`. Time and memory are linear in its length."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(html)
    page = Page()
    unseen = _read_head(tree, page)
    for node in reversed(unseen):  # what is inside another before it
        node.decompose()
    body = tree.body
    if body is not None and body.parent is not None:  # a frameset takes the place of a body with nothing to read
        _walk(body, page)
    return page


def _read_head(tree: LexborHTMLParser, page: Page) -> list[LexborNode]:
    """Write what the page says of itself into `page`; returns the elements of `_DROPPED`, found on the same way."""
    unseen: list[LexborNode] = []
    for node in tree.css(_HEAD_OR_DROPPED):
        tag = node.tag
        if tag == "title":
            page.title = page.title or one_line(node.text()[:_LONGEST_NAME])
        elif tag == "meta":
            attributes = node.attributes
            name = (attributes.get("property") or attributes.get("name") or "").lower()
            if name == "og:type":
                page.og_type = (attributes.get("content") or "").lower()
        else:
            if tag == "script" and node.attributes.get("type") == "application/ld+json":
                page.linked_data.append(node.text())
            unseen.append(node)
    return unseen


def _walk(body: LexborNode, page: Page) -> None:
    """Write the blocks below `body` into `page`. No recursion: pages nest as deep as they like."""
    tag_of, link_bit, pre_bit = _TAGS, BIT["link"], BIT["pre"]
    known_paths: dict[tuple[int, str, str], int] = {}
    starts, ends = page.starts, page.ends
    container_parents, container_paths = page.container_parents, page.container_paths
    path_parents, path_tags, path_names = page.path_parents, page.path_tags, page.path_names
    pieces: list[str] = []
    blocks: list[tuple[str, int, int, int, int, int, int]] = []
    link_chars = links = images = first_mask = first_path = 0
    # The innermost open element (itself, identity, ancestors' bits, path, whether it is a block), and those around it.
    element = body.parent or body
    inner, mask, path, is_block = element.mem_id, 0, -1, False
    container = -1
    outer: list[tuple[LexborNode, int, int, int, bool]] = []

    def flush(bits: int, container: int, path: int, link_chars: int, links: int, images: int) -> bool:
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
        blocks.append((text, bits, container, path, link_chars, links, images))
        return True

    # Texts of blanks alone are two of three. Only within a block do they matter, and there they are looked for beside
    # the nodes that are visited.
    for node in body.traverse(include_text=True, skip_empty=True):
        parent = node.parent.mem_id  # type: ignore[union-attr]
        while inner != parent:
            if is_block:
                if pieces:
                    if flush(first_mask, container, first_path, link_chars, links, images):
                        images = 0
                    link_chars = links = 0
                ends[container] = len(blocks)
                container = container_parents[container]
            elif pieces and (before := element.last_child) and before.is_empty_text_node:
                pieces += _blanks(before)
            element, inner, mask, path, is_block = outer.pop()
        tag = node.tag or ""
        if tag == "-text":
            if pieces and (before := node.prev) and before.is_empty_text_node:
                pieces += _blanks(before)
            text = node.text_content or ""
            if text.isspace():  # blanks beyond ASCII
                if pieces:
                    pieces.append(text)
                continue
            if not pieces:
                first_mask, first_path = mask, path
            pieces.append(text)
            if mask & link_bit:
                link_chars += len(text)
            continue
        bits, kind = tag_of.get(tag, _INLINE)
        if pieces and kind != _BLOCK and (before := node.prev) and before.is_empty_text_node:
            pieces += _blanks(before)
        if kind == _EMPTY:
            if tag == "br":
                if pieces:
                    pieces.append(_BREAK)
            elif tag == "img":
                images += 1
            elif tag == "hr" and pieces:
                if flush(first_mask, container, first_path, link_chars, links, images):
                    images = 0
                link_chars = links = 0
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
            path_names.append(name[:_LONGEST_NAME])
        path = known
        is_block = kind == _BLOCK
        if is_block:
            if pieces:
                if flush(first_mask, container, first_path, link_chars, links, images):
                    images = 0
                link_chars = links = 0
            container_parents.append(container)
            container_paths.append(path)
            container = len(ends)
            starts.append(len(blocks))
            ends.append(0)
        elif tag == "a":
            links += 1
        element, inner = node, node.mem_id
    if pieces:
        flush(first_mask, container, first_path, link_chars, links, images)
    while container >= 0:
        ends[container] = len(blocks)
        container = container_parents[container]
    if blocks:
        columns = map(list, zip(*blocks, strict=True))
        page.texts, page.masks, page.containers, page.paths = next(columns), next(columns), next(columns), next(columns)
        page.link_chars, page.links, page.images = columns


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


def _attribute_bits(attributes: dict[str, str | None]) -> int:
    bits = _ROLE_BITS.get(attributes.get("role") or "", 0)
    if attributes.get("aria-hidden") == "true":
        bits |= BIT["aria_hidden"]
    if "hidden" in attributes:
        bits |= BIT["hidden"]
    elif style := attributes.get("style"):
        lowered = style.lower()  # a search for either word takes a tenth of the expression's time
        if ("none" in lowered or "hidden" in lowered) and _UNSEEN.search(lowered):
            bits |= BIT["hidden"]
    if attributes.get("itemprop") in ("articleBody", "description", "text", "reviewBody"):
        bits |= BIT["body_prop"]
    return bits
