"""fastText's model files, version 12: what `FastText::saveModel` writes (github.com/facebookresearch/fastText, src/).

All numbers are little-endian: a head with the training's arguments; the dictionary, words and then labels with their
counts; for pruned models which hash buckets were kept; the input matrix, a row a word and a bucket; the output matrix.
A quantised matrix is product-quantised: a row is so many codes, each the number of a centroid of some columns
(Jégou et al. 2011), and with `qnorm` one more for the row's length.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_MAGIC, _VERSION = 793712314, 12
_SUPERVISED = 3
_LOSSES = {1: "hs", 2: "ns", 3: "softmax", 4: "ova"}
_WORD, _LABEL = 0, 1
_CENTROIDS = 256


class BadModelFile(ValueError):
    """Why a file is not a model that can be used."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model for classification as it stands in the file, its matrices as float32."""

    loss: str
    """hs, ns, softmax or ova."""
    word_n_grams: int
    buckets: int
    min_n: int
    max_n: int
    """Characters of the shortest and the longest n-gram; none with `max_n` 0."""
    words: list[bytes]
    labels: list[bytes]
    label_counts: list[int]
    """How often training met each label: the most frequent first."""
    kept: npt.NDArray[np.int32] | None
    """Pairs (bucket, row behind the words' rows) of a pruned model."""
    rows: npt.NDArray[np.float32]
    """Of all words, then of the buckets."""
    output: npt.NDArray[np.float32]
    """A row a label; with hs the rows but the last are of the inner nodes of the labels' tree."""


def read_model(data: bytes) -> ModelFile:
    """The model in `data`; raises BadModelFile if it is none, cut off, or made by a fastText before 2017."""
    try:
        return _read(_Reader(data))
    except (struct.error, ValueError, IndexError) as error:
        raise BadModelFile(str(error)) from None


def _read(file: _Reader) -> ModelFile:
    if file.take("ii") != (_MAGIC, _VERSION):
        raise BadModelFile("it does not begin as one of version 12 does")
    dim, _, _, _, _, word_n_grams, loss, kind, buckets, min_n, max_n, _, _ = file.take("12id")
    if kind != _SUPERVISED or loss not in _LOSSES:
        raise BadModelFile("it is no model for classification")
    size, word_count, label_count, _, pruned = file.take("iiiqq")
    entries = file.entries(size)
    words = [word for word, _, kind in entries if kind == _WORD]
    labels = [word for word, _, kind in entries if kind == _LABEL]
    if (len(words), len(labels)) != (word_count, label_count):
        raise BadModelFile("its dictionary contradicts itself")
    kept = file.array("<i4", pruned * 2).reshape(-1, 2) if pruned >= 0 else None
    (quantised,) = file.take("?")
    rows = file.quantised() if quantised else file.matrix()
    (quantised_too,) = file.take("?")
    output = file.quantised() if quantised and quantised_too else file.matrix()
    if rows.shape[1:] != (dim,) or output.shape[1:] != (dim,):
        raise BadModelFile("its matrices have not the dimension that its head tells")
    if max_n > 0:
        places = rows.shape[0] - len(words)
        inside = buckets <= places if kept is None else _all_below(kept, (buckets, places))
        if buckets < 1 or not inside:
            raise BadModelFile("it names rows that it has not")
    counts = [count for _, count, kind in entries if kind == _LABEL]
    return ModelFile(_LOSSES[loss], word_n_grams, buckets, min_n, max_n, words, labels, counts, kept, rows, output)


def _all_below(pairs: npt.NDArray[np.int32], limits: tuple[int, int]) -> bool:
    return bool(((pairs >= 0) & (pairs < limits)).all())


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, form: str) -> tuple[Any, ...]:
        """Numbers by the letters of `struct`."""
        values = struct.unpack_from("<" + form, self._data, self._at)
        self._at += struct.calcsize("<" + form)
        return values

    def entries(self, count: int) -> list[tuple[bytes, int, int]]:
        """Words, each with how often it was met and its kind."""
        row = struct.Struct("<qb")
        found = []
        for _ in range(count):
            end = self._data.index(b"\0", self._at)
            found.append((self._data[self._at : end], *row.unpack_from(self._data, end + 1)))
            self._at = end + 1 + row.size
        return found

    def array(self, kind: str, count: int) -> npt.NDArray[Any]:
        import numpy as np

        values = np.frombuffer(self._data, kind, count, self._at)
        self._at += values.nbytes
        return values

    def matrix(self) -> npt.NDArray[np.float32]:
        rows, columns = self.take("qq")
        return self.array("<f4", rows * columns).reshape(rows, columns)

    def quantised(self) -> npt.NDArray[np.float32]:
        import numpy as np

        with_norms, rows, columns, size = self.take("?qqi")
        codes = self.array("u1", size).reshape(rows, -1)
        found = np.concatenate(
            [table[codes[:, part]] for part, table in enumerate(self.centroids(columns))], axis=1, dtype=np.float32
        )
        if with_norms:
            lengths = self.array("u1", rows)
            found *= self.centroids(1)[0][lengths]
        return found

    def centroids(self, columns: int) -> list[npt.NDArray[np.float32]]:
        """A table for each group of columns: the centroid that each code stands for."""
        import numpy as np

        dim, parts, width, last = self.take("iiii")
        if dim != columns or (parts - 1) * width + last != columns:
            raise BadModelFile("its quantised matrix contradicts itself")
        values = self.array("<f4", dim * _CENTROIDS)
        cuts = [_CENTROIDS * width * part for part in range(1, parts)]
        return [table.reshape(_CENTROIDS, -1) for table in np.split(values, cuts)]
