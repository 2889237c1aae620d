"""The parts of one text that filters look at: lines, paragraphs, words and their hashes, each made once.

Words are cut as the published pipelines cut them (spaCy's English rules: punctuation stands alone, `don't` is two
tokens, `e.g.` one), closely enough that the filters come to the same decisions, and without spaCy: a text falls apart
at white space, and what lies between is looked up in a cache of pieces met before. Chinese, Japanese, Thai, Lao, Khmer
and Burmese are cut into words by ICU's dictionaries (`benchmarks/words.py` has how well). That makes counts and n-grams
meaningful where no spaces are, but such words are shorter than English ones: thresholds on word length and counts
belong in a recipe of that language.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.int64]

SENTENCE_END = frozenset(
    # Unicode's property Sentence_Terminal, three Khmer signs and an Arabic one: FineWeb's set of terminal punctuation.
    "!.?\u0589\u061d\u061e\u061f\u06d4\u0700\u0701\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u104a\u104b\u1362\u1367"
    "\u1368\u166e\u1735\u1736\u17d4\u17d5\u17d6\u17d9\u17da\u1803\u1809\u1944\u1945\u1aa8\u1aa9\u1aaa\u1aab\u1b5a\u1b5b"
    "\u1b5e\u1b5f\u1b7d\u1b7e\u1c3b\u1c3c\u1c7e\u1c7f\u203c\u203d\u2047\u2048\u2049\u2e2e\u2e3c\u2e53\u2e54\u3002\ua4ff"
    "\ua60e\ua60f\ua6f3\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9\uaa5d\uaa5e\uaa5f\uaaf0\uaaf1\uabeb\ufe52\ufe56"
    "\ufe57\uff01\uff0e\uff1f\uff61\U00010a56\U00010a57\U00010f55\U00010f56\U00010f57\U00010f58\U00010f59\U00010f86"
    "\U00010f87\U00010f88\U00010f89\U00011047\U00011048\U000110be\U000110bf\U000110c0\U000110c1\U00011141\U00011142"
    "\U00011143\U000111c5\U000111c6\U000111cd\U000111de\U000111df\U00011238\U00011239\U0001123b\U0001123c\U000112a9"
    "\U0001144b\U0001144c\U000115c2\U000115c3\U000115c9\U000115ca\U000115cb\U000115cc\U000115cd\U000115ce\U000115cf"
    "\U000115d0\U000115d1\U000115d2\U000115d3\U000115d4\U000115d5\U000115d6\U000115d7\U00011641\U00011642\U0001173c"
    "\U0001173d\U0001173e\U00011944\U00011946\U00011a42\U00011a43\U00011a9b\U00011a9c\U00011c41\U00011c42\U00011ef7"
    "\U00011ef8\U00011f43\U00011f44\U00016a6e\U00016a6f\U00016af5\U00016b37\U00016b38\U00016b44\U00016e98\U0001bc9f"
    "\U0001da88"
)
"""Characters that end a sentence, in all scripts."""

PUNCTUATION = SENTENCE_END | frozenset(
    # CCNet's list (arXiv 1911.00359), which FineWeb took over with its full-width one; then the control characters.
    "!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_.\"}►»"
    + "".join(map(chr, (*range(9), *range(11, 32), *range(127, 160))))
)
"""Characters that do not make a word: a token of these only is punctuation."""

_LONGEST_PIECE = 500  # between two spaces: longer is no word, and only cut at punctuation
_MOST_MARKS = 40  # around one word
_MOST_CACHED = 1 << 25  # bytes, for pieces and what is kept of them
_PER_PIECE = 350  # bytes, with the columns of all who keep some
_SLOTS = 1 << 19  # twice the pieces that _MOST_CACHED and one slice can bring
_MOST_TOGETHER = 1 << 18
"""Bytes of a text looked at together: more could fill the memory with one text."""
_LONGEST_SUM = 100
"""Bytes of a piece known by a sum of powers: two of Thue and Morse's words of 1,024 have the same for any base."""
_BLANK = re.compile(r"\s")
_MOST_HASHED = _MOST_TOGETHER + (1 << 12)  # bytes; a slice of more is one piece
_BLANKS = bytes(32 if byte in b"\t\n\v\f\r" else byte for byte in range(256))

_OPENING = "\\[(\\]){}<>_#*&,:;!?¿؟¡…。？！，、；：～·।،۔؛٪'\"”“`‘´’‚„»«「」『』（）〔〕【】《》〈〉⟦⟧"
_QUOTES = "'\"”“`‘´’«»"
_CURRENCY = "$£€¥฿₠-₿﷼"
_ICONS = (  # Unicode's "other symbols", by their blocks
    "¦©®°҂\u2100-\u2129\u2195-\u21cd\u21d5-\u21f3\u2300-\u23ff\u2440-\u266e\u2670-\u2bff"
    "\u2e80-\u2fff\ufffc\ufffd\U0001d000-\U0001f8ff\U0001f900-\U0001faff"
)
_UPPER = "A-ZÀ-ÖØ-ÞΑ-ΩА-Я"
_LETTER = r"[^\W\d_]"
_UNITS = (
    "km²|km³|km|m²|m³|m|dm²|dm³|dm|cm²|cm³|cm|mm²|mm³|mm|ha|µm|nm|yd|in|ft|kg|g|mg|µg|t|lb|oz|m/s|km/h|kmh|mph|hPa|Pa"
    "|mbar|mb|MB|kb|KB|gb|GB|tb|TB|T|G|M|K|%"
)
_PREFIX = re.compile(rf"\.\.+|(?:US|[CA])?\$|\+(?![0-9])|[§%=—–{_OPENING}{_CURRENCY}{_ICONS}]")
_SUFFIX = re.compile(
    rf"(?:['’][sS]|\.\.+|[—–{_OPENING}{_ICONS}]|(?<=[0-9])[+{_CURRENCY}]|(?<=[0-9])(?:{_UNITS})"
    rf"|(?<![{_UPPER}])(?<=[\w%²+\-{_OPENING}])\.|(?<=[{_UPPER}][{_UPPER}])\.)\Z"
)
_INFIX = re.compile(
    rf"\.\.+|[…{_ICONS}]|(?<=[0-9])[+\-*^](?=[0-9-])|(?:(?<=[^\W\d_{_UPPER}])|(?<=[{_QUOTES}]))\.(?=[{_UPPER}{_QUOTES}])"
    rf"|(?<={_LETTER}),(?={_LETTER})|(?<=[^\W_])(?:---|--|——|[-–—~])(?={_LETTER})|(?<=[^\W_])[:<>=/](?={_LETTER})"
)
_ADDRESS = re.compile(
    r"(?:[\w+.-]{2,}://)?(?:[^\s@]+@)?(?:[^\W_](?:[\w-]{0,62}[^\W_])?\.)+[^\W\d_A-Z]{2,63}(?::\d{2,5})?(?:[/?#]\S*)?"
)
_CLOCK = re.compile(r"(1[0-2]|[1-9])([ap]m|[ap]\.m\.)")
_FACES = frozenset(":) :( ;) ): (: :] [: :[ ;] =) =( :| :/ :D :P <3 ''".split())
"""Two marks that are one token, though `):` is mostly the end of a line of Python."""
_SIMPLE = re.compile(r"\w+|[^\w\s]")
_PLAIN = re.compile("[A-Za-z]+(?:-[A-Za-z]+)*|[0-9]+")
_HYPHEN = re.compile("(-)")

_UNSPACED = (
    "\u0e01-\u0eff\u1000-\u109f\u1780-\u17d3\u17dc-\u17df\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_RUN = re.compile(f"[{_UNSPACED}]+|\u200b+|[^{_UNSPACED}\u200b]+")
_MOST_IN_ONE_RUN = 1 << 20  # characters: ICU holds a copy of what it cuts


def _exceptions() -> dict[str, tuple[str, ...]]:
    """Pieces that the rules would cut otherwise: contractions, abbreviations that keep their period."""
    rows: set[tuple[str, ...]] = {
        ("can", "not"),
        ("gon", "na"),
        ("got", "ta"),
        ("let", "'s"),
        ("c'm", "on"),
        ("y'", "all"),
    }
    negated = "ai are ca could dare did do does had has have is may might must need ought sha should was were wo would"
    for verb in negated.split():
        rows |= {(verb, "n't"), (verb, "n't", "'ve")}
    for verb in "could might must not should would".split():
        rows.add((verb, "'ve"))
    for word in "i you he she it we they that this these those there who what when where why how".split():
        rows |= {
            (word, "'ll"),
            (word, "'d"),
            (word, "'ll", "'ve"),
            (word, "'d", "'ve"),
            (word, "'ve"),
            (word, "'re"),
            (word, "'s"),
        }
    rows |= {("i", "'m"), ("i", "'m", "a")}
    never = {"is", "here", "ill", "its", "hell", "shell", "shed", "were", "well", "whore", "lets", "cmon", "yall"}
    found: dict[str, tuple[str, ...]] = {}
    for row in rows:
        title = (row[0].capitalize(), *row[1:])
        for parts in (row, title):
            for apostrophe in ("'", "’", ""):
                spelt = tuple(part.replace("'", apostrophe) for part in parts)
                if "".join(spelt).lower() not in never:
                    found["".join(spelt)] = spelt
    kept = (
        "a.m. p.m. e.g. i.e. E.g. I.e. E.G. I.E. v.s. vs. co. and/or w/o C++ o'clock o’clock ma'am ma’am 'em ’em"
        " 'll ’ll 's ’s :-) ;-) :-("
        " Adm. Ak. Ala. Apr. Ariz. Ark. Aug. Bros. Calif. Co. Colo. Conn. Corp. D.C. Dec. Del. Dr. Feb. Fla. Ga. Gen."
        " Gov. Ia. Id. Ill. Inc. Ind. Jan. Jr. Jul. Jun. Kan. Kans. Ky. La. Ltd. Mar. Mass. Md. Messrs. Mich. Minn."
        " Miss. Mo. Mont. Mr. Mrs. Ms. Mt. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa."
        " Ph.D. Prof. Rep. Rev. S.C. Sen. Sep. Sept. St. Tenn. Va. Wash. Wis."
    ).split()
    kept += [f"{letter}." for letter in "abcdefghijklmnopqrstuvwxyzäöü"]
    return found | {piece: (piece,) for piece in (*kept, *_FACES)}


_EXCEPTIONS = _exceptions()


def _cut(piece: str) -> tuple[str, ...]:
    if not piece.isascii() and _HAS_UNSPACED.search(piece):
        return tuple(chain.from_iterable(map(_cut_run, _RUN.findall(piece))))
    if piece in _EXCEPTIONS:
        return _EXCEPTIONS[piece]
    if piece.isalpha():
        return (piece,)
    # Most of the rest: a word and one mark behind it. The rules below say the same, slowly.
    word = piece[:-1]
    if word.isalpha() and (piece[-1] in ',:;!?)"”' or (piece[-1] == "." and word[-1].islower())):
        return (*_EXCEPTIONS.get(word, (word,)), piece[-1])
    if len(piece) > _LONGEST_PIECE:
        return tuple(_SIMPLE.findall(piece))
    head: list[str] = []
    tail: list[str] = []
    while piece and piece not in _EXCEPTIONS:
        if _PLAIN.fullmatch(piece):  # the rules below would find no mark but these hyphens, slowly
            return (*head, *_HYPHEN.split(piece), *reversed(tail))
        if len(head) + len(tail) > _MOST_MARKS:
            return (*head, *_SIMPLE.findall(piece), *reversed(tail))
        prefix = _PREFIX.match(piece)
        if prefix:
            end = 2 if piece[:2] in _FACES else prefix.end()
            head.append(piece[:end])
            piece = piece[end:]
            if piece in _EXCEPTIONS:
                break
        suffix = _SUFFIX.search(piece, max(0, len(piece) - 6))
        if suffix:
            start = suffix.start()
            if piece.endswith(".."):  # a run of periods is one token: the search window must not cut it
                start = len(piece.rstrip("."))
            elif piece[-2:] in _FACES:
                start = len(piece) - 2
            tail.append(piece[start:])
            piece = piece[:start]
        if not prefix and not suffix:
            break
    return (*head, *_inner(piece), *reversed(tail))


def _cut_run(run: str) -> Iterable[str]:
    """Tokens of a run of letters of scripts without spaces, of what stands between two such, or of no-width spaces."""
    if not _HAS_UNSPACED.match(run):
        return () if run[0] == "\u200b" else _cut(run)  # where Khmer and Thai writers put it, it is a space
    from icu4py.breakers import WordBreaker

    if len(run) <= _MOST_IN_ONE_RUN:
        return WordBreaker(run, "root")
    slices = (run[at : at + _MOST_IN_ONE_RUN] for at in range(0, len(run), _MOST_IN_ONE_RUN))
    return chain.from_iterable(WordBreaker(part, "root") for part in slices)


def _inner(piece: str) -> tuple[str, ...]:
    """Tokens of a piece that has lost its punctuation at both ends."""
    if not piece:
        return ()
    if piece in _EXCEPTIONS:
        return _EXCEPTIONS[piece]
    if clock := _CLOCK.fullmatch(piece):
        return clock[1], clock[2]
    if "." in piece and _ADDRESS.fullmatch(piece):
        return (piece,)
    parts = []
    start = 0
    for infix in _INFIX.finditer(piece):
        parts += [piece[start : infix.start()], infix[0]]
        start = infix.end()
    return tuple(part for part in (*parts, piece[start:]) if part)


WORD, LETTERS, PUNCTUATION_ONLY = 0, 1, 2
"""Kinds of tokens: neither of the others (numbers, symbols), with a letter in them, of punctuation only."""


def kind_of(token: str) -> int:
    """LETTERS, PUNCTUATION_ONLY, or WORD for what is neither."""
    if token.isalpha():
        return LETTERS
    if is_punctuation(token):
        return PUNCTUATION_ONLY
    return LETTERS if any(map(str.isalpha, token)) else WORD


class Pieces:
    """What lies between the ASCII white space of texts, by numbers: a look-up costs a thirtieth of cutting.

    All that looks at the words of a text shares the numbers, and keeps columns of its own by them: here the tokens of
    each piece, in `clean.language_model` the n-grams. Numbers hold for one `generation`: once there are too many
    pieces, they are forgotten and a new one begins.
    """

    def __init__(self) -> None:
        import numpy as np

        self.generation = 0
        # Of each byte a number, 0 for white space; powers of a base modulo 2**64, and those of its inverse. They are
        # chance, lest pages have pieces made to crowd the table. Nothing else goes by them.
        self._codes = np.frombuffer(os.urandom(8 * 256), np.uint64).copy()
        self._codes[list(b" \t\n\v\f\r")] = 0
        self._seed = int(self._codes[0])
        base = int.from_bytes(os.urandom(8), "little") | 1  # odd, so that it has an inverse
        self._powers, self._inverses = (
            np.append(np.uint64(1), np.multiply.accumulate(np.full(_MOST_HASHED + 1, number, np.uint64)))
            for number in (base, pow(base, -1, 1 << 64))
        )
        self._begin()

    def _begin(self) -> None:
        import numpy as np

        self.generation += 1
        self.all: list[bytes] = []
        self._keys = np.zeros(_SLOTS, np.uint64)  # hashes of pieces, each in the first free slot from its own on
        self._number = np.zeros(_SLOTS, np.int32)
        self._size = 0
        self._first, self._count = np.zeros((2, 0), np.int64)  # where a piece's tokens stand below; -1: not yet cut
        self._hashes, self._lengths, self._kinds = array("Q"), array("q"), array("B")

    def numbers(self, data: bytes) -> Numbers:
        """The numbers of the pieces of `data`: their places in `all`."""
        import numpy as np

        if self._size > _MOST_CACHED:
            self._begin()
        hashes, starts, ends = self._hash(data)
        slots = self._find(hashes)
        new = np.flatnonzero(self._keys.take(slots) == 0)
        if len(new):
            _, first = np.unique(hashes[new], return_index=True)
            first.sort()
            self._add(hashes[new[first]], slots[new[first]])
            for start, end in zip(starts[new[first]].tolist(), ends[new[first]].tolist(), strict=True):
                self.all.append(data[start:end])
                self._size += end - start + _PER_PIECE
            slots[new] = self._find(hashes[new])
        return self._number.take(slots).astype(np.int64)

    def _add(self, hashes: npt.NDArray[np.uint64], slots: Numbers) -> None:
        """Number distinct hashes in their order; `slots` are those free for each, of which two may be the same."""
        import numpy as np

        left = np.arange(len(hashes))
        while len(left):
            self._keys[slots[left]] = hashes[left]
            there = self._keys.take(slots[left]) == hashes[left]
            self._number[slots[left[there]]] = left[there] + len(self.all)
            left = left[~there]
            slots[left] = self._find(hashes[left])

    def number_of(self, piece: bytes) -> int | None:
        """Its number, if it was met in this generation."""
        slot = int(self._find(self._hash(piece)[0])[0])
        return int(self._number[slot]) if self._keys[slot] else None

    def _hash(self, data: bytes) -> tuple[npt.NDArray[np.uint64], Numbers, Numbers]:
        """A hash of each piece, never 0, and where it begins and ends."""
        import numpy as np
        from xxhash import xxh3_64_intdigest

        if len(data) > _MOST_HASHED:  # see _slices
            word = data.strip()
            starts = np.array([data.index(word)])
            ends = starts + len(word)
            hashes = np.array([xxh3_64_intdigest(word, self._seed)], np.uint64)
        else:
            codes = self._codes.take(np.frombuffer(b"".join((b" ", data, b" ")), np.uint8))
            letters = codes != 0
            bounds = np.flatnonzero(letters[1:] != letters[:-1])
            starts, ends = bounds[::2], bounds[1::2]
            sums = np.cumsum(codes * self._powers[: len(codes)], dtype=np.uint64)
            hashes = (sums[ends] - sums[starts]) * self._inverses[starts]
            for long in np.flatnonzero(ends - starts > _LONGEST_SUM).tolist():
                hashes[long] = xxh3_64_intdigest(data[starts[long] : ends[long]], self._seed)
        # The last bits, which choose the slot, come from the last bits of all bytes alone.
        hashes ^= hashes >> np.uint64(32)
        hashes *= self._powers[1]
        hashes ^= hashes >> np.uint64(29)
        return np.maximum(hashes, np.uint64(1)), starts, ends

    def _find(self, hashes: npt.NDArray[np.uint64]) -> Numbers:
        """For each hash the slot that holds it, or else the free one where it belongs."""
        import numpy as np

        slots = (hashes & np.uint64(_SLOTS - 1)).astype(np.int64)
        left = np.arange(len(hashes))
        while True:
            held = self._keys.take(slots[left])
            left = left[(held != hashes[left]) & (held != 0)]
            if not len(left):
                return slots
            slots[left] = (slots[left] + 1) & (_SLOTS - 1)

    def tokens(self, numbers: Numbers) -> Tokens:
        """The tokens of the pieces one after the other."""
        import numpy as np

        if len(self._first) < len(self.all):
            more = np.full(len(self.all) * 2 - len(self._first), -1)
            self._first, self._count = np.append(self._first, more), np.append(self._count, more)
        unknown = numbers[self._first.take(numbers) < 0]
        if len(unknown):
            self._cut(np.unique(unknown))
        counts = self._count.take(numbers)
        before = np.cumsum(counts) - counts
        places = np.repeat(self._first.take(numbers) - before, counts)
        places += np.arange(len(places))
        return Tokens(
            np.frombuffer(self._hashes, np.uint64).take(places),
            np.frombuffer(self._lengths, np.int64).take(places),
            np.frombuffer(self._kinds, np.uint8).take(places),
        )

    def _cut(self, numbers: Numbers) -> None:
        import numpy as np
        from xxhash import xxh3_64_intdigest

        found = [_tokens_between(self.all[number].decode("utf-8", "surrogatepass")) for number in numbers.tolist()]
        counts = np.fromiter(map(len, found), np.int64, len(found))
        self._count[numbers] = counts
        self._first[numbers] = len(self._hashes) + np.cumsum(counts) - counts
        tokens = list(chain.from_iterable(found))
        self._hashes.extend([xxh3_64_intdigest(token.encode("utf-8", "surrogatepass")) for token in tokens])
        self._lengths.extend(map(len, tokens))
        self._kinds.extend([LETTERS if token.isalpha() else kind_of(token) for token in tokens])


def _tokens_between(piece: str) -> tuple[str, ...]:
    """Tokens of what lies between ASCII white space: other white space of Unicode may be in it."""
    parts = piece.split()
    return _cut(parts[0]) if len(parts) == 1 else tuple(chain.from_iterable(map(_cut, parts)))


@cache
def pieces() -> Pieces:
    """Those of this process."""
    return Pieces()


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a text in order, punctuation among them, as columns of the same length."""

    hashes: npt.NDArray[np.uint64]
    """XXH3-64 of each token in UTF-8: the same on every machine and in every run."""
    lengths: npt.NDArray[np.int64]
    """In characters."""
    kinds: npt.NDArray[np.uint8]
    """LETTERS, PUNCTUATION_ONLY or WORD."""

    def __len__(self) -> int:
        return len(self.hashes)


def hash_of(token: str) -> int:
    """As in `Tokens.hashes`."""
    from xxhash import xxh3_64_intdigest

    return xxh3_64_intdigest(token.encode("utf-8", "surrogatepass"))


def _slices(text: str) -> Iterator[bytes]:
    """`text` cut between pieces, some 200,000 bytes at a time or one longer piece, so that memory is bounded.

    A part of more than _MOST_HASHED bytes is one piece.
    """
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= _MOST_TOGETHER:
        yield data
        return
    data = data.translate(_BLANKS)
    at = 0
    while at < len(data):
        end = data.find(b" ", at + _MOST_TOGETHER)
        end = end if end >= 0 else len(data)
        if end - at > _MOST_HASHED:
            last = data.rfind(b" ", at + 1, at + _MOST_TOGETHER)
            end = last if last > 0 else end
        yield data[at:end]
        at = end


def portions(text: str) -> Iterator[str]:
    """`text` in parts of some 200,000 characters, cut before white space.

    The words of a line of 50 MB, as a list, would take 600 MB.
    """
    at = 0
    while blank := _BLANK.search(text, at + _MOST_TOGETHER) if len(text) - at > _MOST_TOGETHER else None:
        yield text[at : blank.start()]
        at = blank.start()
    yield text[at:] if at else text


def split_words(text: str) -> list[str]:
    """All tokens of `text`, punctuation among them, white space not."""
    return list(chain.from_iterable(map(_cut, text.split())))


def count_sentences(line: str) -> int:
    """Sentences of `line`, at least 1: a new one begins at the first word after a token that ends one."""
    count, ended = 1, False
    for word in chain.from_iterable(map(split_words, portions(line))):
        if word in SENTENCE_END:
            ended = True
        elif ended and not is_punctuation(word):
            count, ended = count + 1, False
    return count


def count_words(line: str) -> int:
    """Words of `line` between white space; in scripts without spaces, those of `split_words` but punctuation."""
    if line.isascii() or not _HAS_UNSPACED.search(line):
        return len(line.split()) if len(line) <= _MOST_TOGETHER else sum(len(part.split()) for part in portions(line))
    return sum(not is_punctuation(word) for part in portions(line) for word in split_words(part))


def is_punctuation(word: str) -> bool:
    """Whether `word` has no character but punctuation."""
    return PUNCTUATION.issuperset(word)


class TextView:
    """One text and what filters need of it, made on demand and kept. Do not change what it hands out."""

    __slots__ = ("_lines", "_numbers", "_paragraphs", "_tokens", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines: list[str] | None = None
        self._paragraphs: list[str] | None = None
        self._tokens: Tokens | None = None
        self._numbers: tuple[int, Numbers] | None = None

    @property
    def lines(self) -> list[str]:
        """`text` cut at every newline."""
        if self._lines is None:
            self._lines = self.text.split("\n")
        return self._lines

    @property
    def paragraphs(self) -> list[str]:
        """`text` without white space around it, cut at two or more newlines."""
        if self._paragraphs is None:
            self._paragraphs = re.split(r"\n\n+", self.text.strip())
        return self._paragraphs

    def numbers(self) -> Iterator[Numbers]:
        """The numbers of the pieces of `text`, in slices: each holds until the next is asked for."""
        if self._numbers and self._numbers[0] == pieces().generation:
            yield self._numbers[1]
            return
        for part in _slices(self.text):
            numbers = pieces().numbers(part)
            if len(self.text) < _MOST_TOGETHER // 4:  # then this is all of it
                self._numbers = (pieces().generation, numbers)
            yield numbers

    @property
    def tokens(self) -> Tokens:
        """Hashes, lengths and kinds of all tokens, in order: those of `split_words(text)`."""
        if self._tokens is None:
            self._tokens = _joined([pieces().tokens(numbers) for numbers in self.numbers()])
        return self._tokens


def _joined(parts: list[Tokens]) -> Tokens:
    import numpy as np

    if len(parts) == 1:
        return parts[0]
    return Tokens(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("hashes", "lengths", "kinds")))
