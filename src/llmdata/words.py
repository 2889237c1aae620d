"""Words, as the published pipelines cut them: how a text falls apart into tokens.

The rules are spaCy's for English (punctuation stands alone, `don't` is two tokens, `e.g.` one), closely enough that the
filters come to the same decisions, and without spaCy. Chinese, Japanese, Thai, Lao, Khmer and Burmese are cut into
words by ICU's dictionaries (`benchmarks/words.py` has how well). That makes counts and n-grams meaningful where no
spaces are, but such words are shorter than English ones: thresholds on word length and counts belong in a recipe of
that language. `native/words.c` cuts most pieces by the same rules; the regular expressions here say what they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

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
_MARKS = f"§%=—–{_OPENING}{_CURRENCY}{_ICONS}"
_PREFIX = re.compile(rf"\.\.+|(?:US|[CA])?\$|\+(?![0-9])|[{_MARKS}]")
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
HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")
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
    if not piece.isascii() and HAS_UNSPACED.search(piece):
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
    if not HAS_UNSPACED.match(run):
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


_CLASSES = [
    re.compile(pattern)
    for pattern in (
        r"[\s\S]",
        r"\w",
        _LETTER,
        f"[{_UPPER}]",
        r"\s",
        f"[{_OPENING}]",
        f"[{_CURRENCY}]",
        f"[{_ICONS}]",
        f"[{_QUOTES}]",
        f"[{_MARKS}]",
        f"[{_UNSPACED}]",
    )
]


def class_of(character: str) -> int:
    """What the rules ask of a character, as `native/words.c` names the bits; never 0."""
    asked = [bool(pattern.match(character)) for pattern in _CLASSES]
    asked += [character.isalpha(), character.islower(), character in PUNCTUATION]
    return sum(answer << bit for bit, answer in enumerate(asked))


UNITS = f"|{_UNITS}|".encode()


@cache
def exceptions() -> npt.NDArray[np.void]:
    """Sorted, for `native/words.c`: a key of 16 bytes, the sizes of its parts in bytes, whether it is a face."""
    import numpy as np

    rows = []
    for piece, parts in _EXCEPTIONS.items():
        sizes = [len(part.encode()) for part in parts]
        rows.append((piece.encode(), [*sizes, 0, 0][:3], piece in _FACES))
    return np.array(sorted(rows), np.dtype([("key", "S16"), ("sizes", "u1", 3), ("face", "u1")]))


def cut_piece(piece: str) -> tuple[str, ...]:
    """Tokens of what lies between ASCII white space: other white space of Unicode may be in it."""
    parts = piece.split()
    return _cut(parts[0]) if len(parts) == 1 else tuple(chain.from_iterable(map(_cut, parts)))


def words_of(text: str) -> Iterator[str]:
    """The tokens of `text`, punctuation among them, white space not, each cut when it is asked for."""
    return chain.from_iterable(map(_cut, text.split()))


def split_words(text: str) -> list[str]:
    """All tokens of `text`."""
    return list(words_of(text))


def is_punctuation(word: str) -> bool:
    """Whether `word` has no character but punctuation."""
    return PUNCTUATION.issuperset(word)


def hash_of(token: str) -> int:
    """As in `Tokens.hashes`."""
    from xxhash import xxh3_64_intdigest

    return xxh3_64_intdigest(token.encode("utf-8", "surrogatepass"))
