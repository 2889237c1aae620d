"""What paragraphs, lines, spans and decontamination cost a core: CPU time of keys, of resolving, of rewriting.

    python benchmarks/dedup_passages.py [DOCUMENTS]

Texts are generated: 600 words in 40 sentences, a line of four sentences each, of which every tenth stands in other
documents too. Evaluation sets have 10,000 items of 30 words, and every hundredth document holds a run of one.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from llmdata.dedup.config import LineDedupConfig, ParagraphDedupConfig, SpanDedupConfig
from llmdata.dedup.decontaminate import Decontaminate, DecontaminateConfig
from llmdata.dedup.passages import LineDedup, ParagraphDedup, PassageDedup, SpanDedup
from llmdata.document import Document, Rejection
from llmdata.engine.session import Session
from llmdata.storage.parquet import write_table
from llmdata.storage.place import Place

PART = 10_000


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    docs, items = generate(size)
    megabytes = sum(len(doc.text) for doc in docs) / 1e6
    print(f"{size} documents, {megabytes:.0f} MB, load {os.getloadavg()[0]:.1f}; MB/s is text by CPU time of a core")
    for shuffle in (
        ParagraphDedup(ParagraphDedupConfig()),
        LineDedup(LineDedupConfig()),
        SpanDedup(SpanDedupConfig()),
    ):
        passages(shuffle, docs, megabytes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "set.txt")
        path.write_text("\n\n".join(items))
        stage = Decontaminate(DecontaminateConfig(sets=[str(path)], action="drop"))
        show("decontaminate, index", lambda: stage(Document(text=items[0])), len(items), len(path.read_bytes()) / 1e6)
        found = show("decontaminate", lambda: sum(isinstance(stage(doc), Rejection) for doc in docs), size, megabytes)
        print(f"  found {found} of {size // 100} planted")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB, with all texts in it")


def passages(shuffle: PassageDedup, docs: list[Document], megabytes: float) -> None:
    parts = [docs[at : at + PART] for at in range(0, len(docs), PART)]
    with tempfile.TemporaryDirectory() as folder:
        out = Place.of(folder)

        def keys() -> None:
            for number, part in enumerate(parts):
                batches = (shuffle.keys(part[at : at + 100]) for at in range(0, len(part), 100))
                write_table(out / "keys" / f"part-{number:05}.parquet", batches, shuffle.schema)

        def resolve() -> None:
            shuffle.resolve(out / "keys", out, Session(1))

        def rewrite() -> int:
            gone = 0
            for number, part in enumerate(parts):
                verdicts = shuffle.load(out / "drops" / f"part-{number:05}.parquet")
                for row, doc in enumerate(part):
                    gone += isinstance(verdicts.apply(Document(id=doc.id, text=doc.text), row), Rejection)
            return gone

        for step in (keys, resolve, rewrite):
            show(f"{shuffle.name}, {step.__name__}", step, len(docs), megabytes)
        bytes_of_keys = sum(place.size() for place in (out / "keys").children())
        print(f"  keys on disk: {bytes_of_keys / len(docs):.0f} bytes a document")


def show(what: str, work: Callable[[], object], count: int, megabytes: float) -> object:
    began = time.process_time()
    result = work()
    seconds = time.process_time() - began
    each = 1e6 * seconds / count
    print(
        f"{what:26} {count / seconds:10,.0f} a second {megabytes / seconds:8.1f} MB/s {each:8.1f} µs each", flush=True
    )
    return result


def generate(size: int) -> tuple[list[Document], list[str]]:
    rng = np.random.default_rng(5)
    vocabulary = np.array(
        ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), rng.integers(2, 10))) for _ in range(20_000)]
    )
    items = [" ".join(row) for row in vocabulary[rng.integers(0, len(vocabulary), (10_000, 30))]]

    def lines(count: int) -> list[str]:
        words = vocabulary[rng.integers(0, len(vocabulary), (count * 4, 15))]
        sentences = [" ".join(row).capitalize() + "." for row in words]
        return [" ".join(sentences[at : at + 4]) for at in range(0, len(sentences), 4)]

    common = lines(1000)
    docs = []
    for number in range(size):
        own = lines(10)
        if number % 2:
            own[number % 10] = common[number % 1000]
        if number % 100 == 7:
            own[3] += " " + items[number % len(items)][:150]
        docs.append(Document(id=str(number), text="\n".join(own)))
    return docs, items


if __name__ == "__main__":
    main()
