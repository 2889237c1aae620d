r"""Published patterns without their lookahead, for counting words in half the time.

`\s+(?!\S)` leaves the last blank of a run to the word behind it. No automaton can look ahead, so with it rustbpe's
regular expressions backtrack. A mark before that blank, which no other part of the pattern matches, does the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llmdata.storage.encoding_names import PATTERNS
from llmdata.tokenizer.source import buffers_of

if TYPE_CHECKING:
    import pyarrow as pa

_JOINED = 256_000
MARK = "\ufdd0"
"""A noncharacter, which Unicode keeps for use inside programs. Where a text has one all the same, it is not counted."""
_LOOKAHEAD = r"|\s+(?!\S)"
_MARK = np.frombuffer(MARK.encode(), np.uint8)

# Unicode's White_Space, which is what `\s` is to rustbpe. By number of bytes in UTF-8.
_BREAK, _SPACE = 1, 2
_KINDS = bytes(_BREAK if byte in b"\r\n" else _SPACE if byte in b"\t\v\f " else 0 for byte in range(256))
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

    bounds, raw = buffers_of(texts)
    cuts = _cuts(raw, bounds, lines=name == "gpt2")
    marked = np.insert(raw, np.repeat(cuts, len(_MARK)), np.tile(_MARK, len(cuts)))
    ends = bounds + len(_MARK) * np.searchsorted(cuts, bounds)
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(marked))


def join_marked(texts: list[str]) -> list[str]:
    """`texts` in strings of some 256,000 characters, marks between them: no word holds one, so the words are the same.

    As many bytes at a time to rustbpe, however long or short the documents are.
    """
    joined, part, size = [], [], 0
    for text in texts:
        part.append(text)
        size += len(text)
        if size >= _JOINED:
            joined.append(MARK.join(part))
            part, size = [], 0
    return [*joined, MARK.join(part)] if part else joined


def _cuts(raw: npt.NDArray[np.uint8], bounds: npt.NDArray[np.int64], lines: bool) -> npt.NDArray[np.int64]:
    """Where marks go, in order. `lines`: also before line breaks."""
    kinds = np.frombuffer(raw.tobytes().translate(_KINDS), np.uint8)
    blank = np.append(kinds > 0, False)
    wide: list[tuple[npt.NDArray[np.int64], int]] = []
    for lead in {character[0] for character in _WIDE}:
        places = np.flatnonzero(raw == lead)
        for character in (character for character in _WIDE if character[0] == lead):
            inside = places[places + len(character) <= len(raw)]
            for offset, byte in enumerate(character[1:], 1):
                inside = inside[raw[inside + offset] == byte]
            for offset in range(len(character)):
                blank[inside + offset] = True
            if len(inside):
                wide.append((inside, len(character)))
    ends = np.zeros(len(raw) + 1, dtype=bool)
    ends[bounds] = True
    # Before and behind the end of a text stands nothing.
    last = kinds[1:] >= (_SPACE if not lines else _BREAK)
    narrow = np.flatnonzero(last & blank[:-2] & ~blank[2:]) + 1
    found = []
    for places, width in [(narrow, 1), *wide]:
        inside = places[(places > 0) & ~ends[places] & ~ends[places + width]]
        found.append(inside[blank[inside - 1] & ~blank[inside + width]])
    return np.sort(np.concatenate(found))
