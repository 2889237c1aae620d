"""Training a tokenizer on a corpus: byte pairs counted by rustbpe; words and characters to compare with."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import xxhash

from llmdata.document import Rejection
from llmdata.engine.session import Session
from llmdata.errors import ChangedError, ConfigError, InputError
from llmdata.storage import manifest
from llmdata.storage.encoding import load_encoding
from llmdata.storage.encoding_kinds import (
    UNKNOWN,
    BpeEncoding,
    CharEncoding,
    Encoding,
    JsonEncoding,
    cut_runs,
    panic_as_error,
)
from llmdata.storage.encoding_names import PATTERNS, resolve_pattern
from llmdata.storage.inputs import Piece, plan_pieces, refuse_pages
from llmdata.storage.place import Place
from llmdata.tokenizer.ahead import reading_ahead
from llmdata.tokenizer.config import TokenizerConfig
from llmdata.tokenizer.files import FILES, level_json, save_encoding
from llmdata.tokenizer.inputs import describe_changes, describe_inputs, hash_bound
from llmdata.tokenizer.lookahead import counting_pattern, mark
from llmdata.tokenizer.source import buffers_of, count_characters, read_texts
from llmdata.tokenizer.stats import measure

if TYPE_CHECKING:
    import pyarrow as pa

STATS = "stats.json"
PATTERN = "cl100k"
STAGE = "tokenizer"
_BUFFER, _BUFFER_MARKED = 1024, 16
"""Strings that rustbpe takes at a time, of texts as they are and of marked ones; while it counts, the next are read."""
_LEAST, _MOST = 256_000, 1_000_000
"""Bytes of a marked string: so few at first that counting soon begins, later so many that it seldom stops."""
_AHEAD = 4
"""Batches of 4 MB that are read ahead: as much as rustbpe takes at a time."""
HELD = 1_000_000
"""Bytes of text that are kept to measure the tokenizer on."""


@dataclass(frozen=True, slots=True)
class TokenizerResult:
    """What training came to. `stats` is the content of stats.json; `fresh` is False if all had been done before."""

    n_vocab: int
    digest: str
    stats: dict[str, Any]
    seconds: float
    fresh: bool


def train_tokenizer(
    inputs: Sequence[Place | str],
    out: Place,
    config: TokenizerConfig,
    session: Session,
    *,
    rerun: bool = False,
) -> TokenizerResult:
    """Train the tokenizer that `config` describes on the text of `inputs`, and write it into the folder `out`.

    The same text gives the same vocabulary, in whatever files and order it comes. Raises ChangedError if `out` holds
    a tokenizer of other settings or inputs and `rerun` is not set; ConfigError for a pattern that loses text.
    """
    began = time.monotonic()
    existing = config.name or config.path
    pieces = [] if existing else plan_pieces(inputs, layout=config.layout, text_column=config.text_column)
    refuse_pages(pieces, config.layout, "`llmdata clean` makes documents of them")
    state = {"inputs": describe_inputs(pieces, out), "config": config.model_dump(mode="json")}
    manifest.check_stage(out, STAGE)
    before = manifest.stamp_of(out)
    if before and before.get("finished") and before.get("state") != state and not rerun:
        changes = describe_changes(STAGE, before.get("state", {}), state)
        raise ChangedError(f"{out}: {changes}. Give --rerun to make the tokenizer anew, or choose another folder.")
    whole = manifest.finished(out, STAGE, manifest.digest(state))
    if before and before.get("state") == state and before.get("finished") and whole:
        stats = (out / STATS).read_json()
        return TokenizerResult(stats["n_vocab"], before["digest"], stats, time.monotonic() - began, fresh=False)
    for name in (*FILES, STATS):
        (out / name).remove()
    manifest.save_stamp(out, STAGE, {"state": state, "finished": False})
    corpus = Corpus(pieces, config, session)
    if existing:
        source = config.name or Place.of(str(config.path))
        encoding = load_encoding(source, config.pattern)
    else:
        session.progress.start(STAGE, None, "documents")
        encoding = _TRAINERS[config.kind](corpus, config)
        session.progress.finish(STAGE, vocabulary=encoding.n_vocab)
        _check(encoding, corpus.held, config)
    stats = measure(encoding, corpus.held) | {"corpus": corpus.facts()}
    names = save_encoding(encoding, out, {"corpus": corpus.facts()})
    (out / STATS).write_json(stats)
    outputs = [manifest.output_of(out, name, 0) for name in (*names, STATS)]
    files = [asdict(piece) for piece in pieces]
    manifest.Manifest(STAGE, manifest.digest(state), inputs=files, outputs=outputs).save(out)
    manifest.save_stamp(out, STAGE, {"state": state, "finished": True, "digest": encoding.digest})
    if not existing and encoding.n_vocab < config.vocab_size and config.kind == "bpe":
        session.progress.note(
            f"tokenizer: the corpus has pairs for {encoding.n_vocab:,} tokens, not for {config.vocab_size:,}"
        )
    return TokenizerResult(encoding.n_vocab, encoding.digest, stats, time.monotonic() - began, fresh=True)


@dataclass(slots=True)
class Corpus:
    """The texts to train on, counted, digested and sampled on their way past."""

    pieces: Sequence[Piece]
    config: TokenizerConfig
    session: Session
    documents: int = 0
    bytes: int = 0
    characters: int = 0
    unreadable: list[Rejection] = field(default_factory=list)
    _hasher: Any = field(default_factory=hashlib.sha256)
    _heap: list[tuple[int, Any]] = field(default_factory=list)
    _held: int = 0

    def batches(self) -> Iterator[pa.LargeStringArray]:
        """Text of every document in the sample: those whose hash falls below the share that `sample` is of all."""
        import pyarrow as pa

        bound = hash_bound(self.pieces, self.config.sample)
        for batch in (batch for piece in self.pieces for batch in read_texts(piece, self.unreadable)):
            self.session.stop.check()
            chosen, full = self._choose(batch.texts, bound)
            sample = batch.texts if len(chosen) == len(batch.texts) else batch.texts.take(pa.array(chosen, pa.int64()))
            self.characters += count_characters(sample)
            yield sample
            if full:
                return
            self.session.progress.advance(STAGE, len(batch.rows), megabytes=self.bytes // 1_000_000)
        if not self.bytes:
            where = ", ".join(dict.fromkeys(piece.path for piece in self.pieces[:3]))
            raise InputError(f"{where}: no text to train a tokenizer on, {self.documents} documents, all empty")

    def _choose(self, texts: pa.LargeStringArray, bound: int) -> tuple[list[int], bool]:
        """Which of `texts` are in the sample, and whether it is full: compressed input is larger than files tell."""
        bounds, data = buffers_of(texts)
        raw = data.data
        chosen: list[int] = []
        for number, (start, end) in enumerate(itertools.pairwise(bounds.tolist())):
            text = raw[start:end]
            key = xxhash.xxh3_64_intdigest(text)
            if key >= bound:
                continue
            if self.bytes + len(text) > self.config.sample and self.documents:
                return chosen, True
            chosen.append(number)
            self.documents += 1
            self.bytes += len(text)
            self._hasher.update(len(text).to_bytes(8, "little"))
            self._hasher.update(text)
            self._hold(key, text)
        return chosen, False

    def texts(self) -> Iterator[str]:
        """The same, one by one."""
        for batch in self.batches():
            yield from batch.to_pylist()

    def _hold(self, key: int, text: memoryview) -> None:
        """Keep the texts of the smallest hashes: a sample that does not depend on their order."""
        self._held += len(text)
        heapq.heappush(self._heap, (-key, text.tobytes()))
        while self._held > HELD and len(self._heap) > 1:
            self._held -= len(heapq.heappop(self._heap)[1])

    @property
    def held(self) -> list[str]:
        """The texts to measure on."""
        return [text.decode() for _, text in sorted(self._heap, reverse=True)]

    def facts(self) -> dict[str, Any]:
        if not self.documents:
            return {}
        facts = {"documents": self.documents, "bytes": self.bytes, "characters": self.characters}
        return {**facts, "unreadable": len(self.unreadable), "digest": self._hasher.hexdigest()}


def _special_ids(names: Sequence[str], first: int) -> dict[str, int]:
    return {name: first + index for index, name in enumerate(names)}


def _train_bpe(corpus: Corpus, config: TokenizerConfig) -> Encoding:
    import rustbpe

    pattern, name = resolve_pattern(config.pattern or PATTERN)
    trainer = rustbpe.Tokenizer()
    size = config.vocab_size - len(config.special_tokens)
    counted, buffer = (pattern, _BUFFER) if name is None else (counting_pattern(name), _BUFFER_MARKED)
    try:
        with reading_ahead(_texts_for(corpus, name), _AHEAD) as batches:
            texts = (text for batch in batches for text in batch)
            trainer.train_from_iterator(texts, size, buffer_size=buffer, pattern=counted)
    except ValueError as error:
        raise ConfigError(f"pattern {pattern}: not a regular expression: {error}") from None
    except BaseException as error:
        raise panic_as_error(error, pattern) from None
    ranks = {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()}
    return BpeEncoding(ranks, pattern, _special_ids(config.special_tokens, len(ranks)))


def _texts_for(corpus: Corpus, name: str | None) -> Iterator[list[str]]:
    """Texts as the pattern `name`, or one of the user's own, takes them."""
    for batch in corpus.batches():
        if name is not None:
            yield mark(batch, name, min(max(corpus.bytes // _BUFFER_MARKED, _LEAST), _MOST))
        else:
            yield [part for text in batch.to_pylist() for part in cut_runs(text)]


def _train_words(corpus: Corpus, config: TokenizerConfig) -> Encoding:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    pattern, _ = resolve_pattern(config.pattern or PATTERN)
    try:
        splitter = Split(Regex(pattern), "isolated")
    except Exception as error:  # the library raises no narrower class
        raise ConfigError(f"pattern {pattern}: not a regular expression: {error}") from None
    counts: Counter[str] = Counter()
    for text in corpus.texts():
        counts.update(word for word, _ in splitter.pre_tokenize_str(text))
    words = _most_common(counts, config)
    return JsonEncoding(level_json(words, pattern, _with_unknown(words, config)), config.special_tokens[0], "word")


def _train_chars(corpus: Corpus, config: TokenizerConfig) -> Encoding:
    counts: Counter[str] = Counter()
    for text in corpus.texts():
        counts.update(text)
    characters = sorted(_most_common(counts, config))
    return CharEncoding(characters, _with_unknown(characters, config))


def _with_unknown(vocabulary: Sequence[str], config: TokenizerConfig) -> dict[str, int]:
    return _special_ids([*config.special_tokens, UNKNOWN], len(vocabulary))


def _most_common(counts: Counter[str], config: TokenizerConfig) -> list[str]:
    room = config.vocab_size - len(config.special_tokens) - 1
    names = {*config.special_tokens, UNKNOWN}
    ordered = sorted((item for item in counts.items() if item[0] not in names), key=lambda item: (-item[1], item[0]))
    return [token for token, _ in ordered[:room]]


def _check(encoding: Encoding, texts: Sequence[str], config: TokenizerConfig) -> None:
    """A pattern that leaves some text unmatched would silently lose it: try it on what the corpus has."""
    if encoding.kind != "bpe" or (config.pattern or PATTERN) in PATTERNS:
        return
    for text in texts:
        data = text.encode("utf-8", "replace")
        ids, _ = encoding.encode_batch([data])
        if encoding.decode_bytes(ids.tolist()) != data:
            decoded = encoding.decode(ids.tolist())
            raise ConfigError(
                f"pattern {config.pattern}: does not fit all text: of {text[:60]!r}… it leaves {decoded[:60]!r}…. "
                r"End it with |[\s\S]"
            )


_TRAINERS = {"bpe": _train_bpe, "word": _train_words, "char": _train_chars}
