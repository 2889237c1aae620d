"""Generated texts, a dedup run over documents in memory, and the true similarity of two texts."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

from llmdata.dedup.shuffle import DocumentShuffle, Shuffle, Verdict, load_drops
from llmdata.document import Document
from llmdata.engine.session import Session
from llmdata.storage.parquet import write_table
from llmdata.storage.place import Place

VOCABULARY = ["".join(random.Random(n).choices("abcdefghijklmnopqrstuvwxyz", k=3 + n % 7)) for n in range(8000)]


def text_of(words: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(VOCABULARY, k=words))


def edited(text: str, changes: int, seed: int, apart: int = 5) -> str:
    """`text` with so many words replaced, each at least `apart` words from the next."""
    words, rng = text.split(), random.Random(seed)
    places = rng.sample(range(apart, len(words) - apart, apart), changes)
    for place in places:
        words[place] = f"new{rng.getrandbits(40):x}x"
    return " ".join(words)


def jaccard(left: str, right: str, n: int = 5) -> float:
    """By brute force, for texts of lower-case words."""
    sets = [{tuple(words[at : at + n]) for at in range(len(words) - n + 1)} for words in (left.split(), right.split())]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def write_keys(shuffle: Shuffle, parts: Sequence[Sequence[Document]], out: Place, batch: int = 100) -> None:
    for number, docs in enumerate(parts):
        batches = [shuffle.keys(docs[at : at + batch]) for at in range(0, len(docs), batch)]
        write_table(out / "keys" / f"part-{number:05}.parquet", batches, shuffle.schema)


def verdicts(shuffle: DocumentShuffle, parts: Sequence[Sequence[Document]], out: Place) -> dict[str, Verdict]:
    """What was resolved for each document that is in a cluster, by id."""
    found = {}
    for number, docs in enumerate(parts):
        drops = load_drops(out / "drops" / f"part-{number:05}.parquet", shuffle.name)
        found |= {docs[row].id: verdict for row, verdict in drops.verdicts.items()}
    return found


def resolved(
    shuffle: DocumentShuffle, parts: Sequence[Sequence[Document]], folder: Any, workers: int = 1
) -> dict[str, Verdict]:
    out = Place.of(folder)
    write_keys(shuffle, parts, out)
    shuffle.resolve(out / "keys", out, Session(workers))
    return verdicts(shuffle, parts, out)


def dropped(found: dict[str, Verdict]) -> dict[str, str]:
    """id → the id that it duplicates."""
    return {name: verdict.duplicate_of for name, verdict in found.items() if verdict.drop}


def cut(docs: Sequence[Document], *ends: int) -> list[list[Document]]:
    """Documents in parts that end at these rows."""
    bounds = [0, *ends, len(docs)]
    return [list(docs[begin:end]) for begin, end in itertools.pairwise(bounds)]
