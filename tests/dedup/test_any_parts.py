"""Every method finds the same in the same documents, however they lie in parts and whoever sorts them."""

from __future__ import annotations

import copy
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmdata.dedup import config
from llmdata.dedup.exact import ExactDedup, UrlDedup
from llmdata.dedup.minhash import Minhash
from llmdata.dedup.passages import LineDedup, ParagraphDedup, SpanDedup
from llmdata.dedup.shuffle import Shuffle
from llmdata.document import Document, Rejection
from llmdata.engine.session import Session
from llmdata.storage.place import Place

from .helpers import cut, edited, text_of, write_keys

METHODS: dict[str, Shuffle] = {
    "url": UrlDedup(config.UrlDedupConfig()),
    "exact": ExactDedup(config.ExactDedupConfig()),
    "minhash": Minhash(config.MinhashConfig()),
    "verified": Minhash(config.MinhashConfig(verify_jaccard=0.7)),
    "paragraphs": ParagraphDedup(config.ParagraphDedupConfig(keep="longest")),
    "lines": LineDedup(config.LineDedupConfig()),
    "spans": SpanDedup(config.SpanDedupConfig()),
}
ODD = [
    "",
    " \n",
    "\0",
    "one",
    "one one one one one one one",
    "漢字仮名交じり文。" * 9,
    "漢字仮名交じり文。" * 9,
    "—\n—",
]


def corpus() -> list[Document]:
    rng = random.Random(3)
    texts = ODD + [text_of(30, n) for n in range(30)]
    texts += [edited(text, 1, 1) for text in texts[8:20]] + texts[12:30:3]
    texts += [". ".join(rng.choices("abcd", k=7)) + ".\nsame line\nsame line" for _ in range(12)]
    rng.shuffle(texts)
    return [
        # Ids come twice, and some documents have no address and no date.
        Document(id=f"d{n // 2}", text=text, url=f"https://e.org/{n % 40}" if n % 5 else "", date=str(n) * 14 * (n % 2))
        for n, text in enumerate(texts)
    ]


def found(
    shuffle: Shuffle, parts: Sequence[Sequence[Document]], folder: Path, workers: int
) -> list[Document | Rejection]:
    out = Place.of(folder)
    write_keys(shuffle, parts, out, batch=7)
    shuffle.resolve(out / "keys", out, Session(workers))
    outcomes = []
    for number, docs in enumerate(parts):
        verdicts = shuffle.load(out / "drops" / f"part-{number:05}.parquet")
        outcomes += [verdicts.apply(copy.deepcopy(doc), row) for row, doc in enumerate(docs)]
    return outcomes


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ends=st.lists(st.integers(0, 60), max_size=6).map(sorted), workers=st.integers(1, 4))
def test_parts_and_workers_change_nothing(method: str, ends: list[int], workers: int) -> None:
    docs, shuffle = corpus(), METHODS[method]
    with tempfile.TemporaryDirectory() as folder:
        whole = found(shuffle, [docs], Path(folder, "whole"), 1)
        assert 0 < sum(isinstance(outcome, Rejection) for outcome in whole) < len(docs)
        assert found(shuffle, cut(docs, *ends), Path(folder, "parts"), workers) == whole
