"""Parquet to token shards beside tiktoken and datatrove's DocumentTokenizer, in turns, in one run.

    python benchmarks/tokenize_speed.py CORPUS --peer-python PEER/bin/python [--encoding gpt2]

CORPUS is a folder of Parquet (`tokenize_corpus.py` makes one). Ours is the whole command, from its start to shards,
lineage and index, on the whole corpus and on a slice. tiktoken is `encode_ordinary` of one thread over the slice's
texts, which it is given in memory. datatrove (0.10, with Hugging Face's tokenizers, in an environment of its own: `pip
install "datatrove[io,processing]"`) reads the slice as two files with two workers and writes its own shards, unshuffled
like ours. Every token of ours on the slice is compared with tiktoken's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmdata.config import parse_size
from llmdata.storage.encoding import load_encoding
from llmdata.storage.place import Place
from llmdata.storage.token_index import load_index, open_shard
from llmdata.tokenizer.files import save_encoding

PEER = """
import sys
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.tokens import DocumentTokenizer
if __name__ == "__main__":
    texts, tokenizer, out = sys.argv[1:]
    steps = [ParquetReader(texts), DocumentTokenizer(f"{out}/tokens", tokenizer_name_or_path=tokenizer,
             eos_token="<|endoftext|>", shuffle_documents=False)]
    LocalPipelineExecutor(steps, tasks=2, workers=2, logging_dir=f"{out}/logs").run()
"""


def cut_slice(corpus: list[Path], folder: Path, size: int) -> list[str]:
    """Two files with the first `size` / 2 bytes of text of a file at the beginning and one in the middle."""
    texts: list[str] = []
    folder.mkdir()
    for number, source in enumerate((corpus[0], corpus[len(corpus) // 2])):
        batches, held = [], 0
        for batch in pq.ParquetFile(source).iter_batches(256):
            batches.append(batch)
            texts += batch.column("text").to_pylist()
            held += batch.column("text").nbytes
            if held >= size // 2:
                break
        pq.write_table(pa.Table.from_batches(batches), folder / f"{number}.parquet")
    return texts


def timed(command: list[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--peer-python")
    parser.add_argument("--encoding", default="gpt2")
    parser.add_argument("--bytes", default="1GB", help="text of ours, in whole files")
    parser.add_argument("--slice", default="60MB")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    encoding = load_encoding(options.encoding)
    work = Path(tempfile.mkdtemp())
    try:
        files, whole = [], 0
        for file in sorted(options.corpus.glob("*.parquet")):
            if whole < int(parse_size(options.bytes)):
                files.append(file)
                groups = pq.ParquetFile(file).iter_batches(256, columns=["text"])
                whole += sum(int(batch.column("text").nbytes) for batch in groups)
        texts = cut_slice(files, work / "slice", int(parse_size(options.slice)))
        size = sum(len(text.encode()) for text in texts)
        print(f"{options.encoding}: {whole / 1e6:,.0f} MB in {len(files)} files; slice of {size / 1e6:,.0f} MB")
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        save_encoding(encoding, Place(str(work / "tokenizer")), {})
        warm = encoding.tiktoken.encode_ordinary("warm")
        rates: dict[str, list[float]] = {}

        def ours(name: str, inputs: list[str], bytes_: int) -> None:
            shutil.rmtree(work / name, ignore_errors=True)
            order = [sys.executable, "-m", "llmdata", "tokenize", *inputs, "--tokenizer", options.encoding]
            seconds = timed([*order, "-o", str(work / name), "--val", "none", "-w", "2"])
            rates.setdefault(name, []).append(bytes_ / seconds / 1e6)

        expected: list[list[int]] = [warm]
        for _ in range(options.rounds):
            ours("ours, whole", [str(file) for file in files], whole)
            began = time.perf_counter()
            expected = [encoding.tiktoken.encode_ordinary(text) for text in texts]
            rates.setdefault("tiktoken", []).append(size / (time.perf_counter() - began) / 1e6)
            ours("ours, slice", [str(work / "slice")], size)
            if options.peer_python:
                shutil.rmtree(work / "peer", ignore_errors=True)
                order = [options.peer_python, "-c", PEER, str(work / "slice"), str(work / "tokenizer/tokenizer.json")]
                rates.setdefault("datatrove", []).append(size / timed([*order, str(work / "peer")]) / 1e6)
        index = load_index(Place(str(work / "ours, slice")))
        found = [open_shard(index, Place(str(work / "ours, slice")), shard) for shard in index.splits["train"].shards]
        wanted = np.concatenate([np.array([index.eot, *ids], np.uint32) for ids in expected])
        same = np.array_equal(np.concatenate(found), wanted)
        median = {name: statistics.median(values) for name, values in rates.items()}
        for name, values in rates.items():
            print(f"{name:12} {median[name]:8.1f} MB/s   ({', '.join(f'{value:.1f}' for value in values)})")
        for name in ("tiktoken", "datatrove"):
            if name in median:
                print(f"ours, whole / {name}: {median['ours, whole'] / median[name]:.1f}")
        print(json.dumps({"tokens": len(wanted), "identical": same}))
        if not same:
            sys.exit("tokens differ from tiktoken's")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
