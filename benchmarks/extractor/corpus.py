"""Pages with gold: what the extractor learns from and is judged by."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rapidfuzz.distance import Indel

from llmdata.clean.decode import decode
from llmdata.clean.extractor import blocks, features
from llmdata.document import Document
from llmdata.storage.inputs import plan_pieces, read_piece
from llmdata.urls import host, registered_domain

WORD = re.compile(r"\w+")


@dataclass(slots=True)
class Example:
    """One page. `gold_words`, `words` and `share` are what the model learns from, the rest is for judging it."""

    url: str
    kind: str
    domain: str
    html: str
    gold: str
    wanted: list[str]
    unwanted: list[str]
    page: blocks.Page
    described: features.Described | None
    columns: dict[str, np.ndarray]
    gold_words: int = 0
    words: np.ndarray | None = None
    """Words of each block."""
    share: np.ndarray | None = None
    """The share of each block's words that are main text."""


def read(folder: Path) -> list[Example]:
    """The pages of `folder/*.warc.gz` that `folder/gold.jsonl.gz` describes, in the order of their URLs."""
    with gzip.open(folder / "gold.jsonl.gz", "rt", encoding="utf-8") as lines:
        gold = {row["url"]: row for row in map(json.loads, lines)}
    found = []
    for piece in plan_pieces([str(path) for path in sorted(folder.glob("*.warc.gz"))], layout="warc"):
        for doc in read_piece(piece):
            if isinstance(doc, Document) and doc.payload is not None and doc.url in gold:
                found.append(_example(doc.url, decode(doc.payload.content, doc.payload.charset), gold[doc.url]))
    return sorted(found, key=lambda example: example.url)


def digest(folder: Path) -> str:
    """sha256 over names and bytes of the folder's files, in order of their names."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.gz")):
        total.update(f"{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _example(url: str, html: str, gold: dict) -> Example:
    page = blocks.parse(html)
    described, columns = features.describe(page, url) if page.texts else (None, {})
    name = host(url)
    example = Example(
        url=url,
        kind=gold["page_type"],
        domain=registered_domain(name) or name,
        html=html,
        gold=gold["text"],
        wanted=gold["must_contain"],
        unwanted=gold["must_not_contain"],
        page=page,
        described=described,
        columns=columns,
    )
    example.words, example.share, example.gold_words = label(page.texts, gold["text"])
    return example


def label(texts: Sequence[str], gold: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Words of each block, the share of them that are gold, and the words of the gold.

    A word is gold if it is part of the longest common subsequence of the page's words and the gold's: a menu that
    names a word of the article is not. Of a text that the page repeats, all copies count as the best of them, for only
    one will be told.
    """
    vocabulary: dict[str, int] = {}

    def numbers(text: str) -> list[int]:
        return [vocabulary.setdefault(word, len(vocabulary)) for word in WORD.findall(text.lower())]

    wanted = numbers(gold)
    found = [numbers(text) for text in texts]
    words = np.array([len(block) for block in found], np.float64)
    owner = np.repeat(np.arange(len(texts)), words.astype(np.int64))
    flat = [word for block in found for word in block]
    hits = np.zeros(len(texts))
    for step in Indel.opcodes(flat, wanted):
        if step.tag == "equal":
            hits += np.bincount(owner[step.src_start : step.src_end], minlength=len(texts))
    share = hits / np.maximum(words, 1)
    best: dict[str, float] = {}
    for text, part in zip(texts, share.tolist(), strict=True):
        best[text] = max(best.get(text, 0.0), part)
    repeated = [best[text] if len(text) >= features.REPEATED else 0.0 for text in texts]
    return words, np.maximum(share, repeated), len(wanted)


def folds(examples: Sequence[Example], number: int) -> np.ndarray:
    """A fold for each page: all pages of a registered domain in one, each kind of page spread evenly."""
    by_domain: dict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        by_domain[example.domain][example.kind] += 1

    def order(domain: str) -> tuple[int, bytes]:
        return -by_domain[domain].total(), hashlib.sha256(domain.encode()).digest()

    load: dict[str, list[int]] = defaultdict(lambda: [0] * number)
    fold = {}
    for domain in sorted(by_domain, key=order):
        kinds = by_domain[domain]
        fold[domain] = min(range(number), key=lambda k: (sum(load[kind][k] * n for kind, n in kinds.items()), k))
        for kind, n in kinds.items():
            load[kind][fold[domain]] += n
    return np.array([fold[example.domain] for example in examples])


def score(text: str, example: Example) -> tuple[float, float, float, float]:
    """Precision, recall and F1 of words, and the share of snippets as they should be; as the WCXB paper has them."""
    found, wanted = Counter(WORD.findall(text.lower())), Counter(WORD.findall(example.gold.lower()))
    low = text.lower()
    snippets = [s.lower() in low for s in example.wanted] + [s.lower() not in low for s in example.unwanted]
    right = sum(snippets) / len(snippets) if snippets else 1.0
    if not wanted or not found:
        same = float(not wanted and not found)
        return same, same, same, right
    overlap = (found & wanted).total()
    precision, recall = overlap / found.total(), overlap / wanted.total()
    return precision, recall, 2 * precision * recall / (precision + recall) if overlap else 0.0, right
