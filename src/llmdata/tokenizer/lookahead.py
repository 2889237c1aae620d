r"""Published patterns without their lookahead, for counting words in half the time.

`\s+(?!\S)` leaves the last blank of a run to the word behind it. No automaton can look ahead, so with it rustbpe's
regular expressions backtrack. A mark before that blank, which no other part of the pattern matches, does the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llmdata.storage.encoding_names import PATTERNS

if TYPE_CHECKING:
    import pyarrow as pa

MARK = "\ufdd0"
"""A noncharacter, which Unicode keeps for use inside programs. Where a text has one all the same, it is not counted."""
_LOOKAHEAD = r"|\s+(?!\S)"
_MARK = np.frombuffer(MARK.encode(), np.uint8)

# Unicode's White_Space, which is what `\s` is to rustbpe. By number of bytes in UTF-8.
_ONE = np.zeros(256, dtype=bool)
_ONE[[9, 10, 11, 12, 13, 32]] = True
_WIDE = [character.encode() for character in "\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"]
_WIDE += [chr(point).encode() for point in range(0x2000, 0x200B)]


def without_lookahead(name: str) -> str:
    """The pattern `name` of `PATTERNS` for marked texts."""
    return PATTERNS[name].replace(_LOOKAHEAD, "").replace("[^", f"[^{MARK}")


def mark(texts: pa.LargeStringArray, name: str) -> pa.LargeStringArray:
    """`texts` (no nulls) with a mark before the last of several blanks that something follows.

    In the patterns that end a run at its last line break, none before a line break.
    """
    import pyarrow as pa

    bounds = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    raw = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[bounds[0] : bounds[-1]]
    bounds = bounds - bounds[0]
    cuts = _cuts(raw, bounds, lines=name == "gpt2")
    marked = np.insert(raw, np.repeat(cuts, len(_MARK)), np.tile(_MARK, len(cuts)))
    ends = bounds + len(_MARK) * np.searchsorted(cuts, bounds)
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(marked))


def _cuts(raw: npt.NDArray[np.uint8], bounds: npt.NDArray[np.int64], lines: bool) -> npt.NDArray[np.int64]:
    """Where marks go, in order. `lines`: also before line breaks."""
    blank = np.append(_ONE[raw], False)
    wide: list[tuple[npt.NDArray[np.int64], int]] = []
    leads = np.flatnonzero(raw >= 0xC2)
    for lead in {character[0] for character in _WIDE}:
        places = leads[raw[leads] == lead]
        for character in (character for character in _WIDE if character[0] == lead):
            inside = places[places + len(character) <= len(raw)]
            for offset, byte in enumerate(character[1:], 1):
                inside = inside[raw[inside + offset] == byte]
            for offset in range(len(character)):
                blank[inside + offset] = True
            wide.append((inside, len(character)))
    ends = np.zeros(len(raw) + 1, dtype=bool)
    ends[bounds] = True
    # Before and behind the end of a text stands nothing.
    narrow = np.flatnonzero(blank[1:-1] & blank[:-2] & ~blank[2:]) + 1 if len(raw) > 1 else leads[:0]
    narrow = narrow[_ONE[raw[narrow]]]
    if not lines:
        narrow = narrow[(raw[narrow] != 10) & (raw[narrow] != 13)]
    found = []
    for places, width in [(narrow, 1), *wide]:
        inside = places[(places > 0) & ~ends[places] & ~ends[places + width]]
        found.append(inside[blank[inside - 1] & ~blank[inside + width]])
    return np.sort(np.concatenate(found))
