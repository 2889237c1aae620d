"""What of the chosen blocks is told, and how: pages repeat themselves, and hold signs that are there to be clicked."""

from __future__ import annotations

from llmdata.clean.extractor.features import REPEATED
from llmdata.clean.extractor.page import BIT, Page

_VERBATIM = BIT["pre"] | BIT["td"]  # code and tables repeat for reasons of their own
_PERMALINKS = "¶#§🔗"
_SHORTEST_HALF = 5  # characters


def tidy(page: Page, kept: list[int]) -> None:
    """Take out of the texts of `kept` what is there twice ("Sold outSold out", for the eye and for the ear), and
    permalinks' signs at either end: of a heading the one that is its only link, of any block ¶, which is nothing else.
    """
    masks, links = page.masks.tolist(), page.link_chars.tolist()
    for block in kept:
        if masks[block] & _VERBATIM:
            continue
        text = page.texts[block]
        if links[block]:
            signs = _PERMALINKS if masks[block] & BIT["heading"] and links[block] == 1 else "¶"
            if text[-1] in signs:
                text = text[:-1].rstrip()
            elif text[0] in signs:
                text = text[1:].lstrip()
        half = len(text) // 2
        if half >= _SHORTEST_HALF and text[:half] == text[half:] and text.find(text[:half], 1) == half:
            text = text[:half]  # a half that repeats in itself ("------", "hahaha") is found before, and left alone
        page.texts[block] = text


def without_repeats(page: Page, kept: list[int]) -> list[int]:
    """The blocks of `kept` but those that are told elsewhere: a page often holds its text once more for telephones.

    Of texts of `REPEATED` characters or more the first is told, or the first that is a heading: what stands before it
    is its entry in a table of contents. Shorter ones may recur, but not right behind themselves, nor as a link to
    a heading.
    """
    masks, links = page.masks.tolist(), page.link_chars.tolist()
    texts = {block: page.texts[block].replace("\n", " ") for block in kept}
    headings = {text for block, text in texts.items() if masks[block] & BIT["heading"]}
    seen: set[str] = set()
    out: list[int] = []
    last = ""
    for block, text in texts.items():
        if masks[block] & _VERBATIM:
            out.append(block)
            last = ""
            continue
        is_long, is_heading = len(text) >= REPEATED, masks[block] & BIT["heading"] != 0
        if not is_heading and text in headings and (is_long or links[block] >= len(text)):
            continue
        if not text or text in seen:
            continue
        if is_long:
            seen.add(text)
        if text != last:
            out.append(block)
        elif is_heading:
            out[-1] = block
        last = text
    return out
