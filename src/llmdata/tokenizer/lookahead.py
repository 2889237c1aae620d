r"""Published patterns for counting words in half the time: without their lookahead, and without words of one byte.

`\s+(?!\S)` leaves the last blank of a run to the word behind it. No automaton can look ahead, so with it rustbpe's
regular expressions backtrack. A mark before that blank, which no other part of the pattern matches, does the same.
A word of one byte has no pair, so nothing is lost if it is not found: 18 % of cl100k's words and 40 % of gpt2's in a
sample of Debian's documentation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llmdata import native
from llmdata.storage.encoding_names import PATTERNS
from llmdata.tokenizer.source import buffers_of

if TYPE_CHECKING:
    import pyarrow as pa

MARK = "\ufdd0"
"""A noncharacter, which Unicode keeps for use inside programs. Where a text has one all the same, it is not counted."""
_MARK = np.frombuffer(MARK.encode(), np.uint8)

_SIGN = rf"[^{MARK}\s\p{{L}}\p{{N}}]"
_WIDE_SIGN = rf"[^{MARK}\x00-\x7f\s\p{{L}}\p{{N}}]"
_WIDE_BLANK = r"[^\x00-\x7f\S]"
_WIDE_NUMBER = r"[^\x00-\x7f\P{N}]"
_COUNTED = {
    # cl100k and o200k, where blanks with a line break among them are the part before the last one's.
    r"|\s*[\r\n]+|\s+(?!\S)|\s+": rf"|\s+[\r\n]+|[^\S\r\n]{{2,}}|{_WIDE_BLANK}",
    r"|\p{N}{1,3}": rf"|\p{{N}}{{2,3}}|{_WIDE_NUMBER}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*": rf"|(?: |{_SIGN}){_SIGN}+[\r\n]*|{_SIGN}[\r\n]+|{_WIDE_SIGN}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*": rf"|(?: |{_SIGN}){_SIGN}+[\r\n/]*|{_SIGN}[\r\n/]+|{_WIDE_SIGN}",
    # gpt2
    r"|\s+(?!\S)|\s+": rf"|\s{{2,}}|{_WIDE_BLANK}",
    r"| ?\p{N}+": rf"|(?: |\p{{N}})\p{{N}}+|{_WIDE_NUMBER}",
    r"| ?[^\s\p{L}\p{N}]+": rf"|(?: |{_SIGN}){_SIGN}+|{_WIDE_SIGN}",
    # Letters: few words of one byte, and none of them are simple to leave out.
    r"[^\r\n\p{L}\p{N}]?": rf"[^{MARK}\r\n\p{{L}}\p{{N}}]?",
}
"""Parts of the published patterns, and what finds the same in marked texts where it is longer than a byte."""

# Kinds of bytes, as flags: Unicode's White_Space, which is what `\s` is to rustbpe, the first bytes of those that have
# several in UTF-8, the rest of ASCII, and the rest of all.
_BREAK, _SPACE, _LEAD, _LETTER, _DIGIT, _SIGN_BYTE, _ELSE = 1, 2, 4, 8, 16, 32, 64
_WIDE = [character.encode() for character in "\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"]
_WIDE += [chr(point).encode() for point in range(0x2000, 0x200B)]
_LEADS = {character[0] for character in _WIDE}


def _kind(byte: int) -> int:
    if byte > 0x7F:
        return _LEAD if byte in _LEADS else _ELSE
    if chr(byte) in "\r\n":
        return _BREAK
    if chr(byte) in "\t\v\f ":
        return _SPACE
    return _LETTER if chr(byte).isalpha() else _DIGIT if chr(byte).isdigit() else _SIGN_BYTE


_KINDS = bytes(map(_kind, range(256)))
_BLOCK, _BLOCKS = 2048, 8
"""A word of over 16 kB is cut every 2 kB."""

_CODES = {width: [int.from_bytes(one) for one in _WIDE if len(one) == width] for width in (2, 3)}


def counting_pattern(name: str) -> str:
    """The pattern `name` of `PATTERNS` for marked texts: its words that have more than one byte."""
    pattern = PATTERNS[name]
    for published, counted in _COUNTED.items():
        pattern = pattern.replace(published, counted)
    return pattern


def mark(texts: pa.LargeStringArray, name: str, size: int) -> list[str]:
    """`texts` (no nulls) one behind the other, in strings of some `size` bytes; none that is empty.

    A mark stands between texts, and before the last of several blanks that something follows (in the patterns that end
    a run at its last line break, not before a line break). The strings are cut at marks, so the words are the same,
    however long or short the documents are; all but words of over 16 kB, which `long_words` cuts.
    """
    bounds, raw = buffers_of(texts)
    in_c = native.function("mark_blanks", "uint8[] int64[] int int64[] int int int uint8[] int64[]")
    if in_c is None:
        return _in_strings(*_marked(raw, bounds, name == "gpt2", size))
    inside = long_words(raw) if _may_have_long_words(raw) else np.empty(0, np.int64)
    marked = np.empty(4 * len(raw), np.uint8)
    cuts = np.empty(len(marked) // size + 3, np.int64)
    ends = np.ascontiguousarray(bounds[1:])
    count = in_c(raw, ends, len(ends), inside, len(inside), name == "gpt2", size, marked, cuts)
    return _in_strings(marked[: cuts[count]], cuts[:count])


def _in_strings(marked: npt.NDArray[np.uint8], cuts: npt.NDArray[np.int64]) -> list[str]:
    return [str(part.data, "utf-8") for part in np.split(marked, cuts) if len(part)]


def _marked(
    raw: npt.NDArray[np.uint8], bounds: npt.NDArray[np.int64], lines: bool, size: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """What `mark_blanks` in C does: texts with marks, and where to cut that into strings."""
    kinds = _kinds_of(raw)
    cuts = _cuts(raw, kinds, bounds, lines)
    between = np.unique(bounds[(bounds > 0) & (bounds < len(raw))])
    cuts = np.insert(cuts, np.searchsorted(cuts, between), between)
    if len(inside := long_words(raw, kinds)):
        cuts = np.union1d(cuts, inside)
    places = cuts + len(_MARK) * np.arange(len(cuts))
    marked = np.empty(len(raw) + len(_MARK) * len(cuts), np.uint8)
    text = np.ones(len(marked), dtype=bool)
    for offset, byte in enumerate(_MARK):
        marked[places + offset] = byte
        text[places + offset] = False
    marked[text] = raw
    ends = np.unique(np.searchsorted(places, np.arange(size, len(marked), size)))
    return marked, places[ends[ends < len(places)]]


def _may_have_long_words(raw: npt.NDArray[np.uint8]) -> bool:
    """Whether somewhere in half of a long word's length there is neither a blank nor a line feed."""
    text, half = raw.tobytes(), _BLOCK * _BLOCKS // 2
    starts = range(0, len(text) - half + 1, half)
    return not all(text.find(b" ", at, at + half) >= 0 or text.find(b"\n", at, at + half) >= 0 for at in starts)


def long_words(raw: npt.NDArray[np.uint8], kinds: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.int64]:
    """Where to cut words of over 16 kB in UTF-8, in order: between characters, every 2 kB.

    With each merge rustbpe writes the whole of every word anew in which the pair stands: 5 MB of random letters without
    a break had not ended after minutes. Looked for are runs of what may be letters, of digits, and of ASCII's signs.
    """
    kinds = _kinds_of(raw) if kinds is None else kinds
    blocks = kinds[: len(kinds) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    found = np.bitwise_or.reduce(blocks, axis=1)
    alike = (found & (_BREAK | _SPACE | _DIGIT | _SIGN_BYTE) == 0) | (found == _DIGIT) | (found == _SIGN_BYTE)
    if len(alike) < _BLOCKS or not alike.any():
        return np.empty(0, np.int64)
    starts = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(alike, _BLOCKS).all(axis=1))
    places = np.unique(starts[:, None] + np.arange(1, _BLOCKS)) * _BLOCK
    for _ in range(3):
        places += raw[places] & 0xC0 == 0x80  # not within a character
    return places


def _kinds_of(raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(raw.tobytes().translate(_KINDS), np.uint8)


def _cuts(
    raw: npt.NDArray[np.uint8], kinds: npt.NDArray[np.uint8], bounds: npt.NDArray[np.int64], lines: bool
) -> npt.NDArray[np.int64]:
    """Where marks go, in order. `lines`: also before line breaks."""
    narrow = (kinds == _SPACE) | (kinds == _BREAK)
    blank = np.append(narrow, False)
    leads = np.flatnonzero(kinds[:-1] == _LEAD)
    wide: list[tuple[npt.NDArray[np.int64], int]] = []
    codes = raw[leads].astype(np.int32)
    for offset in (1, 2):
        codes = codes << 8 | raw[np.minimum(leads + offset, len(raw) - 1)]
        found = leads[np.isin(codes, _CODES[offset + 1])]
        if len(found):
            wide.append((found, offset + 1))
        for behind in range(offset + 1):
            blank[found + behind] = True
    edge = np.zeros(len(raw) + 1, dtype=bool)  # before and behind the end of a text stands nothing
    edge[bounds] = True
    last = narrow if lines else kinds == _SPACE
    cuts = [np.flatnonzero(last[1:] & blank[:-2] & ~blank[2:] & ~edge[1:-1] & ~edge[2:]) + 1]
    for places, width in wide:
        inside = places[~edge[places] & ~edge[places + width]]
        cuts.append(inside[blank[inside - 1] & ~blank[inside + width]])
    return np.sort(np.concatenate(cuts)) if wide else cuts[0]
