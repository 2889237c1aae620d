"""The walk of `blocks` in C (`native/blocks.c`), on Lexbor's own tree, by Lexbor's own functions.

The library that selectolax carries exports the public functions of Lexbor, among them those (`…_noi`) that are there
for callers who do not know how its nodes lie in memory. Where it does not, or no C library was built, there is no walk
in C.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import TYPE_CHECKING

from llmdata import native
from llmdata.clean.extractor.lexicon import table_of
from llmdata.clean.extractor.page import BIT, BODY_PROPERTIES, DROPPED, LONGEST_NAME, ROLES, TAGS, Page

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

    from llmdata.clean.extractor.page import Array

_FUNCTIONS = (
    "lxb_dom_node_first_child_noi lxb_dom_node_next_noi lxb_dom_node_parent_noi lxb_dom_node_type_noi "
    "lxb_dom_element_qualified_name lxb_dom_node_tag_id_noi "
    "lxb_dom_node_text_content lxb_dom_document_destroy_text_noi "
    "lxb_dom_element_first_attribute_noi lxb_dom_element_next_attribute_noi lxb_dom_attr_qualified_name "
    "lxb_dom_attr_value_noi"
).split()
_KINDS = "inline block empty dropped a br img hr title meta script".split()
_ARGUMENTS = (
    "uint64[] int int bytes int64[] int32[] int int64[] int64[] uint32[] int int int64[] uint8[] uint8[] uint8[] "
    "int64[] int64[] int64[] int64[] int64[]"
)
_HEAD = {"t": "title", "o": "og:type", "l": "script"}


def walk(tree: LexborHTMLParser, body: LexborNode | None, html: str) -> tuple[Page, list[tuple[str, str]]] | None:
    """What `blocks.parse` makes of `tree`, the tree of `html`; None where it has to do without C."""
    call, functions = native.function("blocks_walk", _ARGUMENTS), _functions()
    if call is None or functions is None or tree.root is None:
        return None
    import numpy as np

    root, body_id = tree.root.mem_id, body.mem_id if body else 0
    (words, starts, slots), meanings, bits, zeros = _vocabulary()
    elements, length = html.count("<") + 64, len(html) + 1024
    while True:
        rooms = np.array([2 * length, length, length, 0, 0, 0], np.int64)
        text, path_names, head = (np.empty(room, np.uint8) for room in rooms[:3])
        blocks, containers, paths, opened = (np.empty((elements, columns), np.int64) for columns in (7, 4, 5, 4))
        known = np.zeros(2 * elements, np.int64)
        was_short = call(
            functions, root, body_id, words, starts, slots, len(slots), meanings, bits, zeros, len(zeros), elements,
            rooms, text, path_names, head, blocks, containers, paths, opened, known,
        )  # fmt: skip
        if not was_short:
            break
        elements, length = 2 * elements, 2 * length
    texts, named, noted = (
        str(part[:used], "utf-8", "replace").split("\0")[:-1]  # type: ignore[call-overload]
        for part, used in zip((text, path_names, head), rooms[:3].tolist(), strict=True)
    )
    n_blocks, n_containers, n_paths = rooms[3:].tolist()
    columns = [*blocks[:n_blocks].T.copy(), *containers[:n_containers].T.copy(), paths[:n_paths, 0].copy()]
    tags, names = named[::2], named[1::2]
    if length > LONGEST_NAME:
        names = [name[:LONGEST_NAME] for name in names]
    page = Page(texts, tags, names, *columns)
    return page, [(_HEAD[record[0]], record[1:]) for record in noted]


@cache
def _functions() -> Array | None:
    """Addresses of `_FUNCTIONS`."""
    import ctypes

    import numpy as np
    from selectolax import lexbor

    try:
        library = ctypes.CDLL(lexbor.__file__)
        found = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in _FUNCTIONS]
    except (OSError, AttributeError):  # a build that keeps them to itself
        return None
    return np.array(found, np.uint64)


@cache
def _vocabulary() -> tuple[tuple[bytes, Array, Array], Array, Array, Array]:
    """The words that C knows, what each means (bits × 16 + kind), three bits, and the digit 0 of every script."""
    import numpy as np

    kinds = {tag: kind for tag, (_, kind) in TAGS.items()} | dict.fromkeys(DROPPED, _KINDS.index("dropped"))
    kinds |= {tag: _KINDS.index(tag) for tag in _KINDS[4:]}
    means = {tag: TAGS.get(tag, (0, 0))[0] << 4 | kind for tag, kind in kinds.items() if tag}
    means |= {f"role {role}": bits << 4 for role, bits in ROLES.items()}
    means |= {f"itemprop {value}": BIT["body_prop"] << 4 for value in BODY_PROPERTIES}
    means["aria-hidden true"] = BIT["aria_hidden"] << 4
    digits = (point for point in range(0x20000) if chr(point).isdecimal())
    return (
        table_of(means),
        np.array(list(means.values()), np.int64),
        np.array([BIT["link"], BIT["pre"], BIT["hidden"]], np.int64),
        np.array([point for point in digits if unicodedata.decimal(chr(point)) == 0], np.uint32),
    )
