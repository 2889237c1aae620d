"""gigatoken against tiktoken, token for token, on real documents in many languages.

    python benchmarks/tokenize_truth.py INPUT… [--documents 20000]

INPUT is a folder of Parquet with `text` and `language` (`tokenize_corpus.py` makes one), or lines `language<TAB>text`.
Languages take turns until there are enough documents; every hundredth has `<|endoftext|>` put into its text, which has
to come out as ordinary tokens. tiktoken is its own `get_encoding`, whose files have to be at hand.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import tiktoken

from llmdata.storage.encoding import load_encoding

MOST_BYTES = 200_000


def read(path: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each document, of none that would take the time of a hundred others."""
    if path.suffix == ".tsv":
        for line in path.read_text(encoding="utf-8").splitlines():
            language, _, text = line.partition("\t")
            yield language, text
        return
    for file in sorted(path.glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(256, columns=["language", "text"]):
            for row in batch.to_pylist():
                if row["language"] and len(row["text"]) < MOST_BYTES:
                    yield row["language"], row["text"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=Path, nargs="+")
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--encodings", nargs="+", default=["gpt2", "cl100k_base", "o200k_base"])
    options = parser.parse_args()
    by_language: dict[str, list[str]] = {}
    for path in options.input:
        for language, text in read(path):
            by_language.setdefault(language, []).append(text)
    turns = (
        (text, language)
        for turn in zip_longest(*([(t, name) for t in texts] for name, texts in by_language.items()))
        for text, language in (entry for entry in turn if entry is not None)
    )
    chosen = list(itertools.islice(turns, options.documents))
    texts = [
        text if number % 100 else f"{text[:50]}<|endoftext|>{text[50:]}" for number, (text, _) in enumerate(chosen)
    ]
    size = sum(len(text.encode()) for text in texts)
    counts = {name: sum(language == name for _, language in chosen) for name in by_language}
    several = sum(count >= 200 for count in counts.values())
    print(
        f"{len(texts):,} documents, {size / 1e6:.1f} MB, {len(counts)} languages, {several} with 200 documents or more"
    )
    wrong = 0
    for name in options.encodings:
        truth, ours = tiktoken.get_encoding(name), load_encoding(name)
        began, tokens, different = time.perf_counter(), 0, 0
        for at in range(0, len(texts), 500):
            part = texts[at : at + 500]
            ids, offsets = ours.encode_arrow(pa.array(part, pa.large_string()))
            for text, start, end in zip(part, offsets, offsets[1:], strict=False):
                found = ids[start:end].tolist()
                tokens += len(found)
                if found != truth.encode_ordinary(text) or ours.decode(found) != text:
                    different += 1
                    print(f"{name}: differs in the text that begins {text[:60]!r}")
        print(f"{name}: {tokens:,} tokens, {different} documents differ, {time.perf_counter() - began:.0f} s")
        wrong += different
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
