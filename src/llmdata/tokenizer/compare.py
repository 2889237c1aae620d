"""How encodings fare on a corpus: text a token by language, words that are cut, and which tokens are ever used."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import xxhash

from llmdata.document import Rejection
from llmdata.engine.session import Session
from llmdata.errors import InputError
from llmdata.storage.encoding_kinds import Encoding
from llmdata.storage.inputs import plan_pieces, read_piece, refuse_pages
from llmdata.storage.place import Place
from llmdata.tokenizer.inputs import hash_bound
from llmdata.tokenizer.stats import ordinary_tokens

OTHERS = "other languages"
UNSAID = "no language given"
MOST_LANGUAGES = 12
MOST_TOKENS = 20
WORD = re.compile(r"[^\W\d_]+")
"""Letters that stand together. Where a script puts no blanks between words, that is more than a word."""


@dataclass(slots=True)
class Usage:
    """Text and tokens of some documents. `words` and `split` count words and those that take several tokens."""

    documents: int = 0
    bytes: int = 0
    characters: int = 0
    tokens: int = 0
    words: int = 0
    split: int = 0

    @property
    def bytes_per_token(self) -> float:
        return round(self.bytes / max(1, self.tokens), 4)

    @property
    def characters_per_token(self) -> float:
        return round(self.characters / max(1, self.tokens), 4)

    @property
    def share_split(self) -> float:
        """Share of the words that are cut."""
        return round(self.split / max(1, self.words), 4)

    def add(self, other: Usage) -> None:
        """Count what `other` counts too."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class Comparison:
    """One encoding on the sample.

    Of its tokens `used` occur, `once` of them a single time; `unused` are some that never do, of most different bytes
    first, so that rulers of dashes come last.
    """

    name: str
    n_vocab: int
    whole: Usage
    languages: dict[str, Usage]
    used: int
    once: int
    longest: list[bytes] = field(default_factory=list)
    unused: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Part:
    """The texts of one language, and how often each word occurs in them."""

    texts: list[str]
    words: Counter[str]


Sample = dict[str, Part]
"""By language, the one with most text first."""


def read_sample(inputs: Sequence[Place | str], size: int, text_column: str | None, session: Session) -> Sample:
    """About `size` bytes of the text of `inputs`, taken evenly by a hash of each text, so that it is always the same.

    Held in memory. Raises InputError where there is no text.
    """
    pieces = plan_pieces(inputs, text_column=text_column)
    refuse_pages(pieces, "auto", "`llmdata clean` makes documents of them")
    bound, held = hash_bound(pieces, size), 0
    texts: dict[str, list[str]] = {}
    session.progress.start("sample", None, "documents")
    for number, item in enumerate(item for piece in pieces for item in read_piece(piece)):
        if number % 200 == 0:
            session.stop.check()
        if isinstance(item, Rejection) or not item.text:
            continue
        data = item.text.encode("utf-8", "replace")
        if xxhash.xxh3_64_intdigest(data) < bound:
            texts.setdefault(item.language or UNSAID, []).append(data.decode())
            held += len(data)
            session.progress.advance("sample", 1, megabytes=held // 1_000_000)
            if held >= size:
                break  # compressed input is larger than its files tell
    session.progress.finish("sample")
    if not texts:
        raise InputError(f"{', '.join(map(str, inputs))}: no text to measure encodings on")
    ordered = sorted(texts, key=lambda name: (-_size(texts[name]), name))
    chosen = {name: texts[name] for name in ordered[:MOST_LANGUAGES]}
    if rest := [text for name in ordered[MOST_LANGUAGES:] for text in texts[name]]:
        chosen[OTHERS] = rest
    return {
        name: Part(held, Counter(word for text in held for word in WORD.findall(text))) for name, held in chosen.items()
    }


def compare(name: str, encoding: Encoding, sample: Sample) -> Comparison:
    """Encode `sample` and count. A word is cut if, behind a blank, it takes more than one token."""
    import pyarrow as pa

    counts = np.zeros(encoding.n_vocab, dtype=np.int64)
    whole, languages = Usage(), {}
    for language, part in sample.items():
        usage = Usage(len(part.texts), 0, 0, 0, *_words(part.words, encoding))
        for texts in _batches(part.texts):
            ids, _ = encoding.encode_arrow(pa.array(texts, pa.large_string()))
            counts += np.bincount(ids, minlength=encoding.n_vocab)
            usage.add(Usage(0, _size(texts), sum(map(len, texts)), len(ids)))
        languages[language] = usage
        whole.add(usage)
    tokens = ordinary_tokens(encoding)
    longest = sorted(tokens.values(), key=lambda token: (-len(token), token))
    unused = [token for number, token in tokens.items() if not counts[number]]
    return Comparison(
        name,
        encoding.n_vocab,
        whole,
        languages,
        used=int(np.count_nonzero(counts)),
        once=int((counts == 1).sum()),
        longest=longest[:MOST_TOKENS],
        unused=sorted(unused, key=lambda token: (-len(set(token)), token))[:MOST_TOKENS],
    )


def _size(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def _batches(texts: list[str]) -> Iterator[list[str]]:
    """Lists of some 4 MB, which bounds the arrays of ids."""
    part: list[str] = []
    size = 0
    for text in texts:
        part.append(text)
        size += len(text)
        if size >= 4_000_000:
            yield part
            part, size = [], 0
    if part:
        yield part


def _words(words: Counter[str], encoding: Encoding) -> tuple[int, int]:
    """How many words there are, and how many of them are cut."""
    import pyarrow as pa

    _, offsets = encoding.encode_arrow(pa.array([f" {word}" for word in words], pa.large_string()))
    times: npt.NDArray[np.int64] = np.fromiter(words.values(), np.int64, len(words))
    return int(times.sum()), int(times[np.diff(offsets) > 1].sum())
