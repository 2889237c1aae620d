"""What a walk over a page writes down, and what tags and attributes mean to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.int64]]

# What a reader does not see. `noscript` stays: whole forums (Discourse) serve their threads in it.
DROPPED = ["script", "style", "svg", "template", "iframe", "select", "textarea", "canvas", "object", "math"]
INLINE, BLOCK, EMPTY = range(3)
"""Kinds of tags: in a line of text, with lines of their own, without anything in them."""
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
ROLES = {
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
TAGS: dict[str, tuple[int, int]] = {tag: (bits, INLINE) for tag, bits in _TAG_BITS.items()}
TAGS |= {tag: (_TAG_BITS.get(tag, 0), BLOCK) for tag in _BLOCK_TAGS}
TAGS |= dict.fromkeys(_EMPTY_TAGS, (0, EMPTY))
TAGS[""] = (0, EMPTY)  # a processing instruction
BODY_PROPERTIES = ("articleBody", "description", "text", "reviewBody")
"""Values of `itemprop` for main text."""
LONGEST_NAME = 10_000
"""Characters of a title or a class name that are looked at."""


@dataclass(slots=True)
class Page:
    """The blocks of one page in reading order. `containers` are block elements, `paths` chains of tag, class and id."""

    texts: list[str]
    path_tags: list[str]
    path_names: list[str]
    """Class and id of each path's last element."""
    masks: Array
    """Bits of `BIT` for the elements around each block."""
    containers: Array
    """The innermost block element around each block."""
    paths: Array
    """The path of the innermost element, inline or not, around the block's first text."""
    link_chars: Array
    links: Array
    images: Array
    """Pictures seen since the block before."""
    indents: Array
    """Blanks before each block's first text in its line, where blanks count (`pre`), that are not in its text."""
    container_parents: Array
    container_paths: Array
    starts: Array
    """A container's blocks are `starts[c]:ends[c]`."""
    ends: Array
    path_parents: Array
    title: str = field(default="", init=False)
    og_type: str = field(default="", init=False)
    linked_data: list[str] = field(default_factory=list, init=False)
    """The JSON-LD scripts of the page."""
