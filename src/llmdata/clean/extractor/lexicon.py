"""Words with a number each, looked up for all texts or names of a page at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from llmdata import native

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

_LOOK_UP = "bytes bytes int int bytes int64[] int32[] int int32[] int64[]"
_LETTERS = bytes(point if 97 <= point <= 122 or point == 0 else 32 for point in range(256))
_SPLIT_NAME = re.compile(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+")


class Lexicon(dict[str, float]):
    """A number for each of some words in lower case; it is not to be changed after the first look-up."""

    def of_texts(self, lowered: str) -> tuple[Array, Array]:
        """The numbers of the words of texts, and how many words each text has.

        The texts are in lower case, parted by U+0000. A word that is not here has NaN.
        """
        if native.function("table_look_up", _LOOK_UP):
            return self._look_up(lowered, lowered.count("\0") + 1, None)
        return self._numbers(text.split() for text in lowered.split("\0"))

    def of_names(self, names: Sequence[str]) -> tuple[Array, Array]:
        """The same of the words of classes and ids (see `name_tokens`), with a NaN at the end of each."""
        if native.function("table_look_up", _LOOK_UP):
            joined = "\0".join(names)
            return self._look_up(joined.lower(), len(names), joined)
        return self._numbers([*tokens, ""] for tokens in name_tokens(names))

    def _numbers(self, listed: Iterable[list[str]]) -> tuple[Array, Array]:
        import numpy as np

        lists = list(listed)
        flat = np.fromiter(map(self.get, chain.from_iterable(lists), repeat(np.nan)), np.float64)
        return flat, np.fromiter(map(len, lists), np.int64, len(lists))

    def _look_up(self, lowered: str, items: int, names: str | None) -> tuple[Array, Array]:
        import numpy as np

        letters, starts, slots, numbers = self._table
        low = lowered.encode("utf-8", "surrogatepass")
        own = b"" if names is None else names.encode("utf-8", "surrogatepass")
        found = np.empty(len(low) + len(own) + 2 * items, np.int32)
        sizes = np.empty(items, np.int64)
        call = native.function("table_look_up", _LOOK_UP)
        assert call is not None
        used = call(low, own, names is not None, items, letters, starts, slots, len(slots), found, sizes)
        return numbers[found[:used]], sizes

    @cached_property
    def _table(self) -> tuple[bytes, Array, Array, Array]:
        """The table of the words, and their numbers; NaN is that of word -1."""
        import numpy as np

        return *table_of(self), np.array([*self.values(), np.nan])


def table_of(words: Iterable[str]) -> tuple[bytes, Array, Array]:
    """Letters of all words, where each begins and the last ends, and a hash table of them, as C looks them up."""
    import numpy as np

    encoded = [word.encode("utf-8", "surrogatepass") for word in words]
    starts = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    letters, slots = b"".join(encoded), np.zeros(2 << len(encoded).bit_length(), np.int32)
    fill = native.function("table_fill", "bytes int64[] int int32[] int")
    assert fill is not None
    fill(letters, starts, len(encoded), slots, len(slots))
    return letters, starts, slots


def name_tokens(names: Sequence[str]) -> Iterator[list[str]]:
    """The words of each class and id: of `post-body entryContent` post, body, entry, content, and both names whole.

    One that is a name and a word may be there twice. All names of a page go through one string, parted by a character
    that no attribute has.
    """
    lowered = "\0".join(names).lower()
    letters = lowered.encode("ascii", "replace").translate(_LETTERS).decode("ascii")
    for name, low, parts in zip(names, lowered.split("\0"), letters.split("\0"), strict=True):
        tokens = low.split()
        if low != name:
            tokens += [part.lower() for part in _SPLIT_NAME.findall(name)]
        elif parts != low:
            tokens += parts.split()
        yield tokens
