"""fastText's classification by characters (arXiv 1607.01759, 1612.03651): the library's answers, sooner.

The library makes a string and a hash of each n-gram of each word it reads. Here a word's n-grams are looked up once:
the sum of their rows is kept by the word's number, which filters of words need too (`pieces.Pieces`). Sums are of
integers (rows rounded to 2**-24): which words were kept, and in which order they are added, decides nothing, nor does
it whether `native/language.c` adds them or NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from llmdata import native
from llmdata.clean.fasttext import LABEL
from llmdata.clean.fasttext_file import BadModelFile, ModelFile, read_model
from llmdata.errors import ConfigError
from llmdata.pieces import lexicon, pieces
from llmdata.text import TextView

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_END = b"</s>"
"""A word that ends each line; in a text it is the end of what the library reads."""
_BATCH = 1 << 14  # bytes of words whose n-grams are looked up together
_UNIT = 2.0**24
_LITTLE = 1e-5  # the library adds it to what it takes the logarithm of

_PREFIX = LABEL.encode()
_FNV_BASIS, _FNV_PRIME = 2166136261, 16777619


@cache
def load_classifier(path: str, setting: str) -> Classifier | None:
    """The classifier of the model at `path`; None if it is of a kind that only the library knows.

    Raises ConfigError naming `setting` if it is no model for classification.
    """
    try:
        model = read_model(Path(path).read_bytes())
    except BadModelFile as error:
        raise ConfigError(f"{setting}: {path}: not a fastText model: {error}") from None
    simple = model.word_n_grams <= 1 and model.loss in ("hs", "softmax") and (model.min_n > 1 or model.max_n <= 0)
    return Classifier(model) if simple else None


class Classifier:
    """Tells the best label of a text. Not for word n-grams, n-grams of one character, or other losses."""

    def __init__(self, model: ModelFile) -> None:
        import numpy as np

        self._is_tree = model.loss == "hs"
        inner = len(model.labels) - 1 if self._is_tree else None
        self._output = model.output[:inner].astype(np.float64)
        if self._is_tree:
            label, self._path = np.nonzero(_tree(model.label_counts))
            self._starts = np.searchsorted(label, np.arange(len(model.labels)))
        self._labels = [label.decode("utf-8", "replace") for label in model.labels]
        self._not_words = frozenset(model.labels)
        self._row_of_word = {word: row for row, word in enumerate(model.words)}
        self._units = np.ascontiguousarray(np.rint(model.rows * np.float32(_UNIT)), np.int32)
        self._min_n, self._max_n, self._buckets = model.min_n, model.max_n, np.uint32(max(1, model.buckets))
        if model.kept is None:
            self._row_of_bucket = np.arange(model.buckets, dtype=np.int32) + np.int32(len(model.words))
        else:
            self._row_of_bucket = np.full(model.buckets, -1, np.int32)
            self._row_of_bucket[model.kept[:, 0]] = model.kept[:, 1] + len(model.words)
        self._width = model.rows.shape[1] + 1
        self._sums = np.zeros((0, self._width), np.int64)  # by the numbers of pieces, of which there are `_count`
        self._generation, self._count = 0, 0
        self._add = native.function("language_add", "int64[] int int64[] int int64[]")
        self._sum_in_c = native.function(
            "language_sums", "uint8[] int64[] int int int32[] uint8[] int int int32[] int int32[] int int64[]"
        )
        words = list(dict.fromkeys([*model.words, *model.labels]))
        self._lexicon = lexicon(words)
        if self._lexicon:
            # Of each word, and last of all others, its row and whether its n-grams count.
            self._own = np.array([*(self._row_of_word.get(word, -1) for word in words), -1], np.int32)
            self._has = np.array([*(word not in self._not_words for word in words), True], np.uint8)
        self._end = self._own_rows([_END])[0]

    def __call__(self, view: TextView) -> tuple[str, float]:
        """The best label of a text and its probability; ("", 0.0) if the model knows nothing of it.

        As the library tells it: too much by 1e-5 for each decision on the way to the label, so it may exceed 1.
        """
        import numpy as np

        total = self._end.copy()
        has_end = _END.decode() in view.text
        # The library cuts words at ASCII white space, as pieces are cut, and at NUL.
        for numbers in (view if "\0" not in view.text else TextView(view.text.replace("\0", " "))).numbers():
            end = np.flatnonzero(numbers == pieces().number_of(_END)) if has_end else numbers[:0]
            numbers = numbers[: end[0]] if len(end) else numbers
            if self._add:
                self._add(self._kept(), self._width, numbers, len(numbers), total)
            else:
                total += self._kept().take(numbers, 0).sum(axis=0)
            if len(end):
                break
        if not total[-1]:
            return "", 0.0
        outputs = self._output @ (total[:-1] / (total[-1] * _UNIT))
        if self._is_tree:
            right = 1 / (1 + np.exp(-outputs))
            steps = np.log(np.concatenate((1 - right, right)) + _LITTLE)
            logs = np.add.reduceat(steps.take(self._path), self._starts) if len(self._path) else np.zeros(1)
        else:
            shares = np.exp(outputs - outputs.max())
            logs = np.log(shares / shares.sum() + _LITTLE)
        best = int(logs.argmax())
        return self._labels[best], math.exp(logs[best])

    def _kept(self) -> npt.NDArray[np.int64]:
        """For each piece met before the sum of its row and those of its n-grams, and last how many rows that are."""
        import numpy as np

        if self._generation != pieces().generation:
            self._generation, self._count = pieces().generation, 0
        known, first, last = pieces(), self._count, len(pieces())
        if last == first:
            return self._sums
        if last > len(self._sums):
            longer = np.zeros((2 * last, self._width), np.int64)
            longer[:first] = self._sums[:first]
            self._sums = longer
        if (
            self._sum_in_c
            and self._lexicon
            and self._is_plain(known.data[known.ends[first] : known.ends[last]].tobytes())
        ):
            words = self._lexicon.numbers(known, first)
            own, has = self._own.take(words, mode="wrap"), self._has.take(words, mode="wrap")
            n_grams = self._min_n, self._max_n, self._row_of_bucket, int(self._buckets)
            model = *n_grams, self._units, self._width - 1
            self._sum_in_c(known.data, known.ends, first, last, own, has, *model, self._sums)
        else:
            self._sums[first:last] = self._sums_of(_as_read(known.since(first)))
        self._count = last
        return self._sums

    def _is_plain(self, joined: bytes) -> bool:
        """Whether no word among these may be a label, and all are UTF-8."""
        try:
            joined.decode()
        except UnicodeDecodeError:
            return False
        return _PREFIX not in joined

    def _sums_of(self, words: list[bytes]) -> npt.NDArray[np.int64]:
        """For each word the sum of its row and those of its n-grams, and last how many rows that are."""
        found = self._own_rows(words)
        if self._max_n <= 0:
            return found
        framed = [b"<%b>" % word for word in words]
        for number in self._labels_among(words):
            framed[number] = b""
        if sum(map(len, framed)) <= _BATCH:
            return found + self._n_grams(framed)
        first, size = 0, 0
        for number, word in enumerate(framed):
            if len(word) > _BATCH:
                for part, sign in _parts(word, self._max_n - 1):
                    found[number] += sign * self._n_grams([part])[0]
                framed[number] = word = b""
            size += len(word)
            if size > _BATCH:
                found[first:number] += self._n_grams(framed[first:number])
                first, size = number, len(word)
        found[first:] += self._n_grams(framed[first:])
        return found

    def _labels_among(self, words: list[bytes]) -> list[int]:
        """Numbers of the words that are labels to the library: known ones, or what looks like one and is no word."""
        if _PREFIX not in b" ".join(words) and self._not_words.isdisjoint(words):
            return []
        return [
            number
            for number, word in enumerate(words)
            if word in self._not_words or (word.startswith(_PREFIX) and word not in self._row_of_word)
        ]

    def _own_rows(self, words: list[bytes]) -> npt.NDArray[np.int64]:
        """For each word its own row and 1, or zeros if it has none."""
        import numpy as np

        found = np.zeros((len(words), self._width), np.int64)
        rows = np.array([self._row_of_word.get(word, -1) for word in words])
        has = np.flatnonzero(rows >= 0)
        found[has, :-1] = self._units[rows[has]]
        found[has, -1] = 1
        return found

    def _n_grams(self, pieces: list[bytes]) -> npt.NDArray[np.int64]:
        """The sum of the rows of all n-grams within each piece, and their number."""
        import numpy as np

        found = np.zeros((len(pieces), self._width), np.int64)
        hashes, there, bounds = _hashes(pieces, self._min_n, self._max_n)
        # The remainder, which NumPy finds slowly.
        rows = self._row_of_bucket.take(hashes - hashes // self._buckets * self._buckets).ravel()
        kept = np.flatnonzero((rows >= 0) & there.ravel())
        bounds = np.searchsorted(kept, bounds * hashes.shape[1])
        found[:, -1] = np.diff(bounds)
        some = np.flatnonzero(found[:, -1])
        if len(some):
            units = self._units.take(rows[kept], 0)
            found[some, :-1] = np.add.reduceat(units, bounds[some], axis=0, dtype=np.int64)
        return found


def _hashes(
    pieces: list[bytes], min_n: int, max_n: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """FNV-1a of the n-grams from each character on: (characters, lengths), and whether there is one within its piece.

    Last how many characters lie before each piece, and in all. Pieces are UTF-8.
    """
    import numpy as np

    joined = b"".join(pieces)
    octets = np.frombuffer(joined + bytes(max_n), np.uint8)
    bounds = np.cumsum([0, *map(len, pieces)])
    # The library's bytes have a sign, which it extends.
    signed = octets.view(np.int8).astype(np.int32).view(np.uint32)
    # The bytes of each character, first, second and so on, and what to multiply by; no byte: (hash ^ 0) * 1.
    steps: list[tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]]
    if joined.isascii():
        steps = [(signed, np.full(len(signed), _FNV_PRIME, np.uint32))]
    else:
        starts = np.flatnonzero((octets & 0xC0) != 0x80)
        bounds = np.searchsorted(starts, bounds)
        sizes = np.diff(starts, append=len(octets))
        steps = []
        for place in range(int(sizes.max())):
            there = sizes > place
            octet = np.where(there, signed.take(starts + place, mode="clip"), 0)
            steps.append((octet, np.where(there, np.uint32(_FNV_PRIME), np.uint32(1))))
    count = len(steps[0][0]) - max_n
    found = np.empty((count, max_n - min_n + 1), np.uint32)
    hashes = np.full(count, _FNV_BASIS, np.uint32)
    for n in range(1, max_n + 1):
        for octet, factor in steps:
            hashes = (hashes ^ octet[n - 1 : n - 1 + count]) * factor[n - 1 : n - 1 + count]
        if n >= min_n:
            found[:, n - min_n] = hashes
    room = np.repeat(bounds[1:], np.diff(bounds)) - np.arange(count)
    return found, room[:, None] >= np.arange(min_n, max_n + 1), bounds


def _as_read(pieces: list[bytes]) -> list[bytes]:
    """`pieces` as the library gets them: in UTF-8, which has no lone surrogates."""
    try:
        b" ".join(pieces).decode()
    except UnicodeDecodeError:
        return [piece.decode("utf-8", "surrogatepass").encode("utf-8", "replace") for piece in pieces]
    return pieces


def _parts(word: bytes, overlap: int) -> Iterator[tuple[bytes, int]]:
    """`word` in pieces to be added (1) or taken away again (-1), so that each of its n-grams counts once.

    A long word is cut into pieces that overlap by the longest n-gram less a character; what lies in an overlap counts
    twice.
    """
    at = 0
    while len(word) - at > _BATCH:
        cut = _point(word, at + _BATCH // 2, 0)
        end = _point(word, cut, overlap)
        yield word[at:end], 1
        yield word[cut:end], -1
        at = cut
    yield word[at:] if at else word, 1


def _point(word: bytes, at: int, more: int) -> int:
    """Where the character at `at` begins, or the one that stands `more` behind it."""
    while word[at] & 0xC0 == 0x80:
        at -= 1
    for _ in range(more):
        at += 1
        while word[at] & 0xC0 == 0x80:
            at += 1
    return at


def _tree(counts: list[int]) -> npt.NDArray[np.float64]:
    """Of a Huffman tree over labels, which decisions lead to each: (labels, left and then right at each inner node).

    `counts` fall. Inner nodes are numbered as they are made, from the two rarest nodes left; of equals the inner node
    is taken first.
    """
    import numpy as np

    labels, inner = len(counts), len(counts) - 1
    weights: list[float] = list(counts)
    leaf, node = labels - 1, labels
    steps = np.zeros((labels, 2 * inner))
    below: list[list[int]] = [[label] for label in range(labels)]
    for made in range(inner):
        weights_made, leaves = 0.0, []
        for side in (0, inner):
            if leaf >= 0 and (node == labels + made or weights[leaf] < weights[node]):
                taken, leaf = leaf, leaf - 1
            else:
                taken, node = node, node + 1
            steps[below[taken], side + made] = 1
            leaves += below[taken]
            weights_made += weights[taken]
        weights.append(weights_made)
        below.append(leaves)
    return steps
