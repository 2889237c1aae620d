"""Training byte pairs beside rustbpe alone, and compression beside Hugging Face's trainer, in one run.

    python benchmarks/tokenize_train.py CORPUS [--bytes 40MB] [--vocab-size 32768]

CORPUS is a folder of Parquet (`tokenize_corpus.py` makes one). Ours is the whole command, from its start over reading
Parquet to the four files; rustbpe alone is its training on texts that lie in memory, with the same pattern and size.
Hugging Face's trainer gets the same pattern; both vocabularies encode text that none has seen.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmdata.config import parse_size
from llmdata.storage.encoding import load_encoding
from llmdata.storage.encoding_names import PATTERNS
from llmdata.storage.place import Place


def read(corpus: Path, size: int) -> tuple[pa.Table, list[str]]:
    """Some `size` bytes of text, the first documents of each file; and as much as a tenth of it from behind them."""
    files = sorted(corpus.glob("*.parquet"))
    parts, unseen = [], []
    for file in files:
        table = pa.Table.from_batches([next(pq.ParquetFile(file).iter_batches(20_000))])
        ends = np.cumsum(pc.binary_length(table.column("text")).to_numpy(), dtype=np.int64)
        first, last = np.searchsorted(ends, [size / len(files), 1.1 * size / len(files)], side="right").tolist()
        parts.append(table.slice(0, max(1, first)))
        unseen += table.column("text").slice(max(1, first), last - first).to_pylist()
    return pa.concat_tables(parts), unseen


def hugging_face(texts: list[str], pattern: str, size: int) -> tuple[float, object]:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    model = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    model.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    began = time.perf_counter()
    model.train_from_iterator(texts, trainer)
    return time.perf_counter() - began, model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--bytes", default="40MB")
    parser.add_argument("--vocab-size", type=int, default=32_768)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-compression", action="store_true")
    options = parser.parse_args()
    import rustbpe

    wanted, pattern = int(parse_size(options.bytes)), PATTERNS["cl100k"]
    table, unseen = read(options.corpus, wanted)
    texts = table.column("text").to_pylist()
    size = sum(len(text.encode()) for text in texts)
    print(f"{len(texts):,} documents, {size / 1e6:.1f} MB; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, f"{folder}/corpus.parquet", row_group_size=5000, compression="zstd")
        alone, whole = [], []
        for number in range(options.rounds):
            began = time.perf_counter()
            trainer = rustbpe.Tokenizer()
            trainer.train_from_iterator(iter(texts), options.vocab_size - 1, pattern=pattern)
            alone.append(size / (time.perf_counter() - began) / 1e6)
            order = [sys.executable, "-m", "llmdata", "tokenizer", "train", f"{folder}/corpus.parquet"]
            began = time.perf_counter()
            subprocess.run(
                [*order, "-o", f"{folder}/{number}", "--vocab-size", str(options.vocab_size)],
                check=True,
                capture_output=True,
            )
            whole.append(size / (time.perf_counter() - began) / 1e6)
        ratio = statistics.median(ours / peer for ours, peer in zip(whole, alone, strict=True))
        print(f"rustbpe alone {', '.join(f'{rate:.1f}' for rate in alone)} MB/s")
        print(f"ours, whole   {', '.join(f'{rate:.1f}' for rate in whole)} MB/s; median of the ratios {ratio:.2f}")
        if options.no_compression:
            return
        seen = set(texts)
        held = [text for text in unseen if text not in seen]
        held_size = sum(len(text.encode()) for text in held)
        ids, _ = load_encoding(Place(f"{folder}/0")).encode_batch([text.encode() for text in held])
        seconds, model = hugging_face(texts, pattern, options.vocab_size - 1)
        theirs = sum(len(entry.ids) for entry in model.encode_batch(held))  # type: ignore[attr-defined]
        print(f"Hugging Face {size / seconds / 1e6:.1f} MB/s, in memory")
        print(
            f"{held_size / 1e6:.1f} MB unseen: ours {held_size / len(ids):.4f} bytes a token, Hugging Face "
            f"{held_size / theirs:.4f}: {theirs / len(ids) - 1:+.3%}"
        )


if __name__ == "__main__":
    main()
