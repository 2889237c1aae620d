"""What a corpus and a text may be: memory from 100 MB to 2 GB of text, and time for texts of one word.

    python benchmarks/tokenize_limits.py memory CORPUS [--sizes 100MB 500MB 2GB]
    python benchmarks/tokenize_limits.py time [--encodings gpt2 o200k_base]

`memory`: peak memory of the command and its workers together (proportional, PSS, ten times a second), for as much of
CORPUS (`tokenize_corpus.py` makes one), every so many documents of it with the longest, in at least two files. `time`:
CPU seconds for texts without spaces of one, two and four times a size, with their ratios: 2 and 4 are linear.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmdata.config import parse_size
from llmdata.storage.encoding import load_encoding
from llmdata.storage.parquet import write_table
from llmdata.storage.place import Place

FILE = 100_000_000
"""Text in a file of a sample."""


def peak_of(order: list[str]) -> tuple[int, float]:
    """Peak of the proportional memory of `order` and its children, in bytes, and its seconds."""
    began, peak = time.perf_counter(), 0
    process = subprocess.Popen(order, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            held = 0
            for member in family:
                with contextlib.suppress(psutil.Error):
                    held += member.memory_full_info().pss
            peak = max(peak, held)
        time.sleep(0.1)
    if process.returncode:
        assert process.stderr is not None
        sys.exit(f"{' '.join(order)}: exit {process.returncode}\n{process.stderr.read()}")
    return peak, time.perf_counter() - began


def longest_of(file: Path) -> pa.RecordBatch:
    """The row of `file` with the longest text."""
    rows = (
        batch.slice(int(np.argmax(pc.binary_length(batch.column("text")))), 1)
        for batch in pq.ParquetFile(file).iter_batches(1000)
    )
    longest = max(rows, key=lambda row: int(row.column("text").nbytes))
    return longest.take(pa.array([0]))


def sample(corpus: Path, size: int, folder: Path) -> int:
    """The longest document of CORPUS and every so many of all, `size` bytes of text or all there is, in files of at
    most 100 MB and at least two, as `llmdata clean` writes them: the same kind of text, and row groups of one size
    (32 MB, and a document), at every size. Returns the bytes."""
    files = sorted(corpus.glob("*.parquet"))
    facts = [file.metadata for file in map(pq.ParquetFile, files)]
    groups = [found.row_group(group) for found in facts for group in range(found.num_row_groups)]
    whole = sum(group.column(0).total_uncompressed_size for group in groups)
    step, part, total = max(1, round(whole / size)), min(FILE, size // 2), 0
    held: list[pa.RecordBatch] = [max(map(longest_of, files), key=lambda row: int(row.column("text").nbytes))]

    def write() -> int:
        write_table(Place(str(folder / f"{len(list(folder.iterdir()))}.parquet")), held, held[0].schema)
        written = sum(int(batch.column("text").nbytes) for batch in held)
        held.clear()
        return written

    seen = 0
    for batch in (batch for file in files for batch in pq.ParquetFile(file).iter_batches(1000)):
        held.append(batch.take(pa.array(range(-seen % step, len(batch), step), pa.int64())))
        seen += len(batch)
        if sum(int(batch.column("text").nbytes) for batch in held) >= part:
            total += write()
    return total + (write() if held else 0)


def memory(corpus: Path, sizes: list[int], name: str) -> None:
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "corpus").mkdir()
            whole = sample(corpus, size, Path(folder) / "corpus")
            order = [sys.executable, "-m", "llmdata", "tokenize", f"{folder}/corpus", "--tokenizer", name]
            peak, seconds = peak_of([*order, "-o", f"{folder}/tokens", "-w", "2"])
        print(f"{whole / 1e6:8,.0f} MB of text: peak {peak / 1e6:,.0f} MB, {seconds:.1f} s", flush=True)


def hard_texts(scale: int) -> dict[str, str]:
    """Texts that are one word, or none, to a pattern."""
    rng = random.Random(1)
    letters = "".join(rng.choices("etaoinshrdlu", k=1_000_000))
    return {
        "a word of random letters, 12.5 MB": (letters * 13)[:12_500_000] * scale,
        "one letter, 12.5 MB": "a" * 12_500_000 * scale,
        "Chinese without spaces, 250,000 characters": "".join(
            rng.choices("的一是不了人我在有他这中大来上国", k=250_000)
        )
        * scale,
        "emoji, 250,000": "😀😃👨‍👩‍👧" * 40_000 * scale,
        "blanks, 250,000": " " * 250_000 * scale,
        "signs, 250,000": "=" * 250_000 * scale,
        "digits, 250,000": "1234567890" * 25_000 * scale,
    }


def linear(names: list[str]) -> None:
    for name in names:
        encoding = load_encoding(name)
        encoding.encode_arrow(pa.array(["warm", "ab" * 500_000], pa.large_string()))  # with the tables of long words
        seconds: dict[str, list[float]] = {}
        for scale in (1, 2, 4):
            for kind, text in hard_texts(scale).items():
                column = pa.array([text], pa.large_string())
                began = time.process_time()
                ids, _ = encoding.encode_arrow(column)
                seconds.setdefault(kind, []).append(time.process_time() - began)
                if encoding.decode_bytes(ids.tolist()) != text.encode():
                    sys.exit(f"{name}, {kind}: does not come back")
        for kind, (one, two, four) in seconds.items():
            print(
                f"{name:12} {kind:45} {one:7.3f} {two:7.3f} {four:7.3f} s: {two / one:.1f}, {four / one:.1f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    sized = commands.add_parser("memory")
    sized.add_argument("corpus", type=Path)
    sized.add_argument("--sizes", nargs="+", default=["100MB", "500MB", "2GB"])
    sized.add_argument("--encoding", default="gpt2")
    timed = commands.add_parser("time")
    timed.add_argument("--encodings", nargs="+", default=["gpt2", "o200k_base"])
    options = parser.parse_args()
    if options.what == "memory":
        memory(options.corpus, [int(str(parse_size(size))) for size in options.sizes], options.encoding)
    else:
        linear(options.encodings)


if __name__ == "__main__":
    main()
