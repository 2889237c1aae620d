"""The kinds of encoding: byte pairs, characters, and whatever `tokenizers` reads.

An encoding treats all text as text: a document that contains `<|endoftext|>` is spelled out in ordinary tokens, and
special tokens are put between documents by id alone.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from llmdata import native
from llmdata.errors import ConfigError, InputError
from llmdata.storage.encoding_names import END_OF_TEXT, resolve_pattern
from llmdata.storage.long_words import LONG, WordTables, find_long, word_tables
from llmdata.storage.ranks import byte_alphabet, dump_ranks, load_gigatoken

if TYPE_CHECKING:
    import pyarrow as pa

CONFIG, RANKS, JSON = "tokenizer_config.json", "vocab.tiktoken", "tokenizer.json"
UNKNOWN = "<|unk|>"
"""Stands for what a word or character vocabulary does not have. Byte pairs need none."""

CACHE_BYTES = 48_000_000
"""Growth of memory after which gigatoken's cache of words goes, so that a gigabyte takes no more than the first
megabytes; loading it anew takes 0.1 to 0.3 s."""

Ids = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]


class Encoding(ABC):
    """A vocabulary and the rule that cuts text into it.

    `n_vocab` is one more than the largest id; `special_tokens` maps names to ids; `eot` is the id of the end-of-text
    token, the first of them unless a `tokenizer.json` says otherwise; `digest` is equal for encodings that encode
    equally.
    """

    kind: str
    special_tokens: dict[str, int]
    n_vocab: int
    eot: int
    by_words: bool = False
    """Whether a text's ids are those of its words one after the other, words as the patterns of OpenAI's cut them, so
    that a long text may be encoded in parts."""

    @property
    @abstractmethod
    def digest(self) -> str: ...

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of `text`; no special token is ever among them."""

    @abstractmethod
    def encode_batch(self, texts: Sequence[bytes]) -> tuple[Ids, Offsets]:
        """The ids of many texts in UTF-8, one after the other; text i is `ids[offsets[i]:offsets[i + 1]]`."""

    def encode_arrow(self, texts: pa.LargeStringArray) -> tuple[Ids, Offsets]:
        """As `encode_batch`, of a column without nulls; byte pairs are read where they lie."""
        return self.encode_batch([scalar.as_buffer().to_pybytes() for scalar in texts])

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """What `token` stands for, a special token for its name; raises ValueError if there is no such id."""

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`; may begin or end inside a character."""
        return b"".join(self.token_bytes(int(token)) for token in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, with U+FFFD where bytes are not UTF-8."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def release(self) -> None:  # noqa: B027 - most kinds have none
        """Give back the memory that only encoding needs; it is taken again when something is encoded."""

    def _missing(self, token: int) -> ValueError:
        return ValueError(f"token {token} is not in this vocabulary of {self.n_vocab}")


def _memory() -> int:
    """Bytes of memory that this process holds outside of Arrow, whose columns come and go."""
    import psutil
    import pyarrow as pa

    return int(psutil.Process().memory_info().rss) - int(pa.total_allocated_bytes())


def pack(rows: Sequence[Sequence[int] | Ids]) -> tuple[Ids, Offsets]:
    """Rows of ids one after the other, and where each begins."""
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    ids = np.empty(int(offsets[-1]), dtype=np.uint32)
    for row, start, end in zip(rows, offsets, offsets[1:], strict=False):
        ids[start:end] = row
    return ids, offsets


class BpeEncoding(Encoding):
    """Byte-level byte pairs, as OpenAI's: gigatoken for the bulk, tiktoken for single texts and as the truth."""

    kind = "bpe"
    long_word = LONG
    """Bytes from which words are encoded in C."""

    def __init__(self, ranks: dict[bytes, int], pattern: str, special_tokens: dict[str, int]) -> None:
        self.ranks, self.special_tokens = ranks, special_tokens
        self.pattern, self.pattern_name = resolve_pattern(pattern)
        self.by_words = self.pattern_name is not None
        self.n_vocab = max([*ranks.values(), *special_tokens.values()]) + 1
        self.eot = next(iter(special_tokens.values()))
        self._bulk_memory: int | None = None
        """Memory of this process when gigatoken had done its first batch."""

    @cached_property
    def digest(self) -> str:
        hasher = hashlib.sha256(json.dumps([self.kind, self.pattern, sorted(self.special_tokens.items())]).encode())
        hasher.update(self.file)
        return hasher.hexdigest()

    @cached_property
    def file(self) -> bytes:
        """The ranks as a `.tiktoken` file."""
        return dump_ranks(self.ranks)

    @cached_property
    def tiktoken(self) -> Any:
        """As tiktoken's own class, without special tokens."""
        import tiktoken

        try:
            return tiktoken.Encoding(
                "llmdata", pat_str=self.pattern, mergeable_ranks=self.ranks, special_tokens=self.special_tokens
            )
        except ValueError as error:
            raise ConfigError(f"pattern {self.pattern}: not a regular expression: {error}") from None

    @cached_property
    def bulk(self) -> Any:
        """gigatoken's tokenizer, for the patterns and vocabularies that it can take; None for others.

        Loaded without special tokens: with them it would encode a document's own text `<|endoftext|>` as one.
        """
        names = {"gpt2": "gpt2", "cl100k": "gpt4", "o200k": "o200k"}
        return load_gigatoken(self.ranks, names[self.pattern_name]) if self.pattern_name in names else None

    @cached_property
    def _gaps(self) -> Ids | None:
        """The rank of each of gigatoken's ids; None where they are the same, in vocabularies without gaps."""
        ordered = np.array(sorted(self.ranks.values()), dtype=np.uint32)
        return ordered if ordered[-1] >= len(ordered) else None

    def _ranks_of(self, ids: Ids) -> Ids:
        return ids if self._gaps is None else self._gaps[ids]

    def encode(self, text: str) -> list[int]:
        pieces = cut_runs(text)
        if len(pieces) > 1 and self.bulk is not None:
            exact: list[int] = self._ranks_of(self.bulk.encode(text.encode("utf-8", "replace"))).tolist()
            return exact
        try:
            return [token for piece in pieces for token in self.tiktoken.encode_ordinary(piece)]
        except BaseException as error:
            raise panic_as_error(error, self.pattern, text) from None

    def encode_batch(self, texts: Sequence[bytes]) -> tuple[Ids, Offsets]:
        # One by one: batches of gigatoken's come as awkward arrays, which take longer to import than a few texts.
        return pack([self._encode_bulk(text) for text in texts])

    def _encode_bulk(self, text: bytes) -> Sequence[int] | Ids:
        if self.bulk is None or (not text.isascii() and re.search(_NEW, text.decode())):
            return self.encode(text.decode())
        parts, at = [], 0
        for start, end in self._long_words(text):
            parts += [self.bulk.encode(text[at:start]), self._tables.encode(text[start:end])]
            at = end
        parts.append(self.bulk.encode(text[at:]))
        return self._ranks_of(np.concatenate(parts) if at else parts[0])

    def _long_words(self, text: bytes) -> list[tuple[int, int]]:
        """Where `text` has words that are left to C; nowhere if there is none."""
        if len(text) < self.long_word or self.pattern_name is None or native.library() is None:
            return []
        return find_long(text, self.pattern_name, self.long_word)

    @cached_property
    def _tables(self) -> WordTables:
        return word_tables(sorted(self.ranks, key=self.ranks.__getitem__), self.bulk.merges)

    def encode_arrow(self, texts: pa.LargeStringArray) -> tuple[Ids, Offsets]:
        if self.bulk is None:
            return super().encode_arrow(texts)
        import awkward as ak
        import pyarrow.compute as pc

        if pc.any(pc.match_substring_regex(texts, _NEW)).as_py():
            return super().encode_arrow(texts)
        _, bounds, data = texts.buffers()
        starts = np.frombuffer(bounds, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        large = np.flatnonzero(np.diff(starts) >= self.long_word).tolist()
        alone = len(texts) == 1 and bool(large)  # then one by one is no slower, and long words are looked for once
        if alone or any(self._long_words(texts[number].as_buffer().to_pybytes()) for number in large):
            return super().encode_arrow(texts)
        raw = np.frombuffer(data or b"", np.uint8)
        characters = ak.contents.NumpyArray(raw, parameters={"__array__": "byte"})
        column = ak.contents.ListOffsetArray(
            ak.index.Index64(starts), characters, parameters={"__array__": "bytestring"}
        )
        layout = self.bulk.encode_batch(ak.Array(column), parallel=False).layout
        self._bound_cache()
        return self._ranks_of(np.asarray(layout.content.data)), np.asarray(layout.offsets.data)

    def _bound_cache(self) -> None:
        """gigatoken keeps the ids of every word it has met and never forgets one: then it is loaded anew.

        Ordinary text in forty languages grows it by 0.4 to 0.8 bytes for each of its own, random words by nine.
        """
        if self._bulk_memory is None:
            self._bulk_memory = _memory()
        elif _memory() - self._bulk_memory > CACHE_BYTES:
            self.release()

    def release(self) -> None:
        self.__dict__.pop("bulk", None)
        self._bulk_memory = None

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        names = {token: name.encode() for name, token in self.special_tokens.items()}
        return {rank: token for token, rank in self.ranks.items()} | names

    def token_bytes(self, token: int) -> bytes:
        if token not in self._bytes:
            raise self._missing(token)
        return self._bytes[token]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        table = self._bytes
        try:
            return b"".join([table[token] for token in ids])
        except KeyError as error:
            raise self._missing(error.args[0]) from None


# Characters that Unicode 17 brought: letters, marks and numbers to gigatoken 0.10, unassigned to tiktoken 0.14 (Unicode
# 16), so the two cut text differently around them. Found by comparing them on every code point; so does the test.
_NEW = (
    "[\u088f\u0c5c\u0cdc\u1acf-\u1add\u1ae0-\u1aeb\ua7ce\ua7cf\ua7d2\ua7d4\ua7f1\U00010940-\U00010959"
    "\U00010ec5-\U00010ec7\U00010efa\U00010efb\U00011b60-\U00011b67\U00011db0-\U00011ddb\U00011de0-\U00011de9"
    "\U00016ea0-\U00016eb8\U00016ebb-\U00016ed3\U00016ff2-\U00016ff6\U000187f8-\U000187ff\U00018d09-\U00018d1e"
    "\U00018d80-\U00018df2\U0001e6c0-\U0001e6de\U0001e6e0-\U0001e6f5\U0001e6fe\U0001e6ff\U0002b73a-\U0002b73f"
    "\U0002cea2-\U0002cead\U000323b0-\U00033479]"
)

_RUN = re.compile(r"\s{100000}")


def cut_runs(text: str) -> list[str]:
    """`text` cut inside runs of 100,000 blanks and more; nearly always just the text.

    tiktoken and rustbpe match lookaheads by backtracking, and a million blanks overflow its stack: a panic.
    """
    if not any(text[at].isspace() for at in range(0, len(text), 100_000)):  # a run as long holds one of these
        return [text]
    bounds = [0, *(match.end() for match in _RUN.finditer(text)), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(bounds) if start < end] or [text]


def panic_as_error(error: BaseException, pattern: str, text: str = "") -> BaseException:
    """A panic of a Rust library, which is not even an Exception, as an InputError; any other error as it is."""
    if type(error).__name__ != "PanicException":
        return error
    where = f" in the text that begins {text[:60]!r}" if text else " somewhere in the corpus"
    return InputError(f"pattern {pattern}: backtracks too far{where}; use a simpler pattern (gpt2, cl100k, o200k)")


class CharEncoding(Encoding):
    """One token a character; one that is not in the vocabulary becomes `<|unk|>`."""

    kind = "char"
    by_words = True

    def __init__(self, characters: Sequence[str], special_tokens: dict[str, int]) -> None:
        self.characters, self.special_tokens = list(characters), special_tokens
        self.n_vocab = max([len(self.characters) - 1, *special_tokens.values()]) + 1
        self.eot = next(iter(special_tokens.values()))
        self._ids = np.full(0x110000, special_tokens[UNKNOWN], dtype=np.uint32)
        self._ids[[ord(character) for character in self.characters]] = np.arange(len(self.characters))
        self._names = {token: name.encode() for name, token in special_tokens.items()}

    @cached_property
    def digest(self) -> str:
        settings = [self.kind, self.characters, sorted(self.special_tokens.items())]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._look_up(text.encode("utf-8", "replace").decode()).tolist()
        return ids

    def encode_batch(self, texts: Sequence[bytes]) -> tuple[Ids, Offsets]:
        return pack([self._look_up(text.decode()) for text in texts])

    def _look_up(self, text: str) -> Ids:
        ids: Ids = self._ids[np.frombuffer(text.encode("utf-32-le"), dtype="<u4")]
        return ids

    def token_bytes(self, token: int) -> bytes:
        if token in self._names:
            return self._names[token]
        if not 0 <= token < len(self.characters):
            raise self._missing(token)
        return self.characters[token].encode()


class JsonEncoding(Encoding):
    """What Hugging Face `tokenizers` reads from a `tokenizer.json`: our word vocabularies, other people's models."""

    def __init__(self, source: bytes, eot: str | None = None, kind: str = "json") -> None:
        from tokenizers import Tokenizer

        self.source, self.kind = source, kind
        try:
            self._model = Tokenizer.from_buffer(source)
        except Exception as error:  # the library raises no narrower class
            raise InputError(f"not a tokenizer.json: {error}") from None
        self._model.no_padding()
        self._model.no_truncation()
        self._model.encode_special_tokens = True  # special tokens in a document's text are text
        added = self._model.get_added_tokens_decoder()
        self.special_tokens = {str(entry.content): int(token) for token, entry in added.items() if entry.special}
        self.n_vocab = max(self._model.get_vocab(with_added_tokens=True).values()) + 1
        self.eot = self._end_of_text(eot)

    def _end_of_text(self, wanted: str | None) -> int:
        candidates = [wanted] if wanted else [END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>"]
        for name in candidates:
            token = self._model.token_to_id(name)
            if token is not None:
                return int(token)
        raise InputError(
            f"tokenizer.json has no end-of-text token (looked for {', '.join(candidates)}); "
            f'put a {CONFIG} with "eos_token": "NAME" beside it'
        )

    @cached_property
    def digest(self) -> str:
        model = json.loads(self.source)
        settings = ["json", model, self.eot]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        ids, _ = self.encode_batch([text.encode("utf-8", "replace")])
        return [int(token) for token in ids]

    def encode_batch(self, texts: Sequence[bytes]) -> tuple[Ids, Offsets]:
        encoded = self._model.encode_batch_fast([text.decode() for text in texts], add_special_tokens=False)
        ids, offsets = pack([entry.ids for entry in encoded])
        if UNKNOWN in self.special_tokens:
            # In a vocabulary of words, a word of the text may be spelled like a special token.
            ids[np.isin(ids, list(self.special_tokens.values()))] = self.special_tokens[UNKNOWN]
        return ids, offsets

    @cached_property
    def _byte_level(self) -> dict[str, int] | None:
        """Which byte each character of a byte-level vocabulary stands for; None for vocabularies of text."""
        return byte_alphabet() if '"ByteLevel"' in json.dumps(json.loads(self.source).get("decoder")) else None

    def token_bytes(self, token: int) -> bytes:
        name = self._model.id_to_token(token) if token >= 0 else None
        if name is None:
            raise self._missing(token)
        if token in self._added:
            return str(name).encode()
        if self._byte_level is not None:
            return bytes(self._byte_level[character] for character in name)
        return str(self._model.decode([token], skip_special_tokens=False)).encode()

    @cached_property
    def _added(self) -> frozenset[int]:
        return frozenset(self._model.get_added_tokens_decoder())

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        if self._byte_level is not None:
            return super().decode_bytes(ids)
        # SentencePiece's models decode a whole differently from its parts: the first space is not the text's.
        return str(self._model.decode([int(token) for token in ids], skip_special_tokens=False)).encode()
