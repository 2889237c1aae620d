"""MinHash beside datatrove on the same texts with the same parameters: time of the signatures, and pairs found.

datatrove lives in an environment of its own (`pip install datatrove spacy`), whose Python is the argument:

    python benchmarks/dedup_vs_datatrove.py /tmp/peer/bin/python

Documents have 600 words, a fifth are near-duplicates of another. Hash functions differ, so the pairs that are found
differ by chance; each difference is printed with the probability that banding gives its pair.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llmdata.dedup.config import MinhashConfig
from llmdata.dedup.curve import band_probability
from llmdata.dedup.minhash import Minhash
from llmdata.document import Document
from llmdata.engine.session import Session
from llmdata.storage.parquet import write_table
from llmdata.storage.place import Place

DOCUMENTS, WORDS, ROUNDS = 3000, 600, 3
EDITS = (2, 5, 10, 14, 18, 22, 26, 30, 40)

PEER = """
import sys, time
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig

if __name__ == "__main__":
    texts, out = sys.argv[1:]
    config = MinhashConfig(hash_config=HashConfig(precision=64), num_buckets=14, hashes_per_bucket=8, n_grams=5)
    read = JsonlReader(texts)
    stages = [
        [read, MinhashDedupSignature(f"{out}/signatures", config=config)],
        [MinhashDedupBuckets(f"{out}/signatures", f"{out}/buckets", config=config)],
        [MinhashDedupCluster(f"{out}/buckets", f"{out}/remove", config=config)],
        [read, MinhashDedupFilter(f"{out}/remove", exclusion_writer=JsonlWriter(f"{out}/gone", compression=None))],
    ]
    for number, steps in enumerate(stages):
        began = time.process_time()
        tasks = 14 if number == 1 else 1
        LocalPipelineExecutor(steps, tasks=tasks, workers=1, logging_dir=f"{out}/logs/{number}").run()
        if number == 0:
            print("SECONDS", time.process_time() - began)
"""


def main() -> None:
    if len(sys.argv) < 2:
        print(f"Name the Python of an environment with datatrove.\n{__doc__}")
        return
    peer = sys.argv[1]
    docs = corpus()
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts"
        texts.mkdir()
        (texts / "all.jsonl").write_text("".join(json.dumps({"id": d.id, "text": d.text}) + "\n" for d in docs))
        (Path(folder) / "peer.py").write_text(PEER)
        ratios = []
        for number in range(ROUNDS):
            theirs, gone = run_peer(peer, Path(folder), texts, number)
            ours = signatures(docs)
            ratios.append(theirs / ours)
            rates = f"ours {len(docs) / ours:,.0f}, datatrove {len(docs) / theirs:,.0f} documents a CPU second"
            print(f"{rates}: {theirs / ours:.0f} times (load {os.getloadavg()[0]:.1f})", flush=True)
        found = {"ours": run_ours(docs, Path(folder) / "ours"), "theirs": gone}
    pairs = {doc.id for doc in docs if "-" in doc.id}
    print(f"pairs: {len(pairs)}, found by ours {len(found['ours'])}, by datatrove {len(found['theirs'])}")
    apart = sorted(probability(name) for name in found["ours"] ^ found["theirs"])
    print(f"found by one of them only: {len(apart)}, of probability {apart[0]:.4f} to {apart[-1]:.4f}")
    expected = sum(2 * p * (1 - p) for p in map(probability, pairs))
    print(f"expected by chance: {expected:.0f}; outside of 1 to 99 %: {sum(not 0.01 <= p <= 0.99 for p in apart)}")


def corpus() -> list[Document]:
    rng = random.Random(2)
    vocabulary = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(30_000)]
    docs = []
    for number in range(DOCUMENTS * 4 // 5):
        words = [vocabulary[int(len(vocabulary) * rng.random() ** 2)] for _ in range(WORDS)]
        docs.append(Document(id=str(number), text=" ".join(words)))
        if number % 4 == 0:
            edits = EDITS[number // 4 % len(EDITS)]
            for place in rng.sample(range(5, WORDS - 5, 5), edits):
                words[place] = f"new{''.join(rng.choices('abcdefghij', k=9))}"
            docs.append(Document(id=f"{number}-{edits}", text=" ".join(words)))
    return docs


def probability(name: str) -> float:
    edits = int(name.partition("-")[2])
    return band_probability((WORDS - 4 - 5 * edits) / (WORDS - 4 + 5 * edits), 14, 8)


def signatures(docs: list[Document]) -> float:
    shuffle = Minhash(MinhashConfig())
    began = time.process_time()
    for at in range(0, len(docs), 100):
        shuffle.keys(docs[at : at + 100])
    return time.process_time() - began


def run_ours(docs: list[Document], folder: Path) -> set[str]:
    out, shuffle = Place.of(folder), Minhash(MinhashConfig(keep="first"))
    write_table(out / "keys/part-00000.parquet", [shuffle.keys(docs)], shuffle.schema)
    shuffle.resolve(out / "keys", out, Session(1))
    drops = shuffle.load(out / "drops/part-00000.parquet")
    return {doc.id for row, doc in enumerate(docs) if not isinstance(drops.apply(doc, row), Document)}


def run_peer(python: str, folder: Path, texts: Path, number: int) -> tuple[float, set[str]]:
    out = folder / f"peer-{number}"
    done = subprocess.run(
        [python, str(folder / "peer.py"), str(texts), str(out)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds = next(float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("SECONDS"))
    rows = [json.loads(line) for path in (out / "gone").glob("*.jsonl") for line in path.read_text().splitlines()]
    # Which one of a pair goes is their business: a pair is named by its copy.
    copies = {name.partition("-")[0]: name for name in (doc.id for doc in corpus()) if "-" in name}
    return seconds, {row["id"] if "-" in row["id"] else copies[row["id"]] for row in rows}


if __name__ == "__main__":
    main()
