"""Where the time of a document's MinHash keys goes, in C and in NumPy alone, on the documents of `dedup_scale.py`.

python benchmarks/dedup_keys.py
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dedup_scale
import pyarrow.parquet as pq

from llmdata import native
from llmdata.dedup.config import MinhashConfig
from llmdata.dedup.minhash import Minhash, band_keys, signatures
from llmdata.dedup.words import Normal, Words, shingles
from llmdata.document import Document

DOCUMENTS, TOGETHER, ROUNDS = 10_000, 100, 7


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.parquet"
        dedup_scale.generate(path, DOCUMENTS)
        texts = pq.read_table(path, columns=["text"]).column(0).to_pylist()
    groups = [texts[at : at + TOGETHER] for at in range(0, DOCUMENTS, TOGETHER)]
    load = os.getloadavg()[0]
    print(f"µs of CPU a document of {dedup_scale.WORDS} words, best of {ROUNDS} rounds, load {load:.1f}")
    if native.library() is not None:
        measure("C", groups)
    native.function = lambda *_: None
    measure("NumPy", groups)


def measure(name: str, groups: list[list[str]]) -> None:
    config = MinhashConfig()
    words, minhash = Words(Normal.of(config)), Minhash(config)
    hashed = [words.hashes(group) for group in groups]
    runs = [shingles(*pair, config.n_grams) for pair in hashed]
    signed = [signatures(*pair, minhash._factors) for pair in runs]
    docs = [[Document(id=str(number), text=text) for number, text in enumerate(group)] for group in groups]
    parts = {
        "words": best(words.hashes, groups),
        "shingles": best(lambda pair: shingles(*pair, config.n_grams), hashed),
        "signatures": best(lambda pair: signatures(*pair, minhash._factors), runs),
        "bands": best(lambda values: band_keys(values, config.bands), signed),
        "all": best(minhash.keys, docs),
    }
    print(f"{name}: " + ", ".join(f"{part} {micros:.1f}" for part, micros in parts.items()), flush=True)


def best(function: Callable[[Any], Any], items: list[Any]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for item in items:
            function(item)
        times.append(time.process_time() - began)
    return min(times) / DOCUMENTS * 1e6


if __name__ == "__main__":
    main()
