"""MinHash dedup of generated documents: time, memory and disk at several sizes, and what is found against the theory.

Documents have 200 words (or $WORDS) of a Zipf-like vocabulary, a fifth of them near-duplicates of another with 1 to 16
words replaced. Their Jaccard similarity is known exactly: each replaced word costs five shingles on either side.

    python benchmarks/dedup_scale.py 100000 300000 1000000
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from llmdata.dedup.curve import band_probability

WORDS = int(os.environ.get("WORDS", "200"))
VOCABULARY, GROUP = 50_000, 5_000
EDITS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16)


def main() -> None:
    sizes = [int(size) for size in sys.argv[1:]] or [20_000, 60_000]
    folder = Path(tempfile.mkdtemp(prefix="dedup-scale-"))
    try:
        base = None
        for size in sizes:
            source, out = folder / f"{size}.parquet", folder / f"{size}"
            generate(source, size)
            row = measure(source, out)
            base = base or (size, row["seconds"])
            # The table's last column is 1 if the cost grows as n log n does.
            growth = row["seconds"] / base[1] / (size * math.log(size) / base[0] / math.log(base[0]))
            row |= {"documents": size, "of_n_log_n": round(growth, 2), "load": os.getloadavg()[0]}
            print(json.dumps(row), flush=True)
            truth(out)
            shutil.rmtree(out)
            source.unlink()
    finally:
        shutil.rmtree(folder)


def generate(path: Path, size: int) -> None:
    """Ids say what is what: `7` is an original, `7-3` a copy of it with 3 words replaced."""
    rng = np.random.default_rng(5)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    vocabulary = sorted({"".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(VOCABULARY)})
    words = np.array(vocabulary, object)
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    places = np.arange(5, WORDS - 5, 5)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        made = 0
        while made < size:
            originals = min(GROUP, size - made) * 4 // 5
            # Density falls as 1/√rank: common words are common, yet no two documents meet by chance.
            picks = (len(words) * rng.random((originals, WORDS)) ** 2).astype(np.int64)
            ids = [str(made + n) for n in range(originals)]
            texts = [" ".join(row) for row in words[picks]]
            for n in range(min(GROUP, size - made) - originals):
                edits = EDITS[n % len(EDITS)]
                copy = words[picks[n]].copy()
                for place in rng.choice(places, edits, replace=False):
                    copy[place] = f"new{rng.integers(1 << 40):x}"
                ids.append(f"{made + n}-{edits}")
                texts.append(" ".join(copy))
            order = rng.permutation(len(ids))
            rows = [[column[at] for at in order] for column in (ids, texts)]
            writer.write_batch(pa.RecordBatch.from_arrays([pa.array(column) for column in rows], schema=schema))
            made += len(ids)


def measure(source: Path, out: Path) -> dict[str, float]:
    command = [str(Path(sys.executable).with_name("llmdata")), "dedup", str(source), "--out", str(out)]
    began = time.monotonic()
    process = subprocess.Popen(
        [*command, "--memory", "2GB", "-w", "2", "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peaks = {"memory": 0, "disk": 0}
    watch = threading.Thread(target=_watch, args=(process.pid, out, peaks), daemon=True)
    watch.start()
    if process.wait():
        raise SystemExit(f"{' '.join(command)} failed")
    seconds = time.monotonic() - began
    watch.join()
    tasks = [json.loads(path.read_text()) for path in (out / ".llmdata" / "tasks").glob("*.json")]
    resolved = json.loads((out / "dedup/minhash/.llmdata/tasks/drops.json").read_text())
    return {
        "seconds": round(seconds, 1),
        "keys_cpu_seconds": round(sum(t["cost"]["cpu_seconds"] for t in tasks if t["task"].startswith("pass-01")), 1),
        "resolve_seconds": resolved["cost"]["seconds"],
        "drop_cpu_seconds": round(sum(t["cost"]["cpu_seconds"] for t in tasks if t["task"].startswith("pass-02")), 1),
        "peak_memory_mb": peaks["memory"] // 1_000_000,
        "keys_mb": sum(path.stat().st_size for path in (out / "dedup/minhash/keys").iterdir()) // 1_000_000,
        "spill_mb": peaks["disk"] // 1_000_000,
    }


def _watch(pid: int, out: Path, peaks: dict[str, int]) -> None:
    """Proportional memory of the command and its workers, and what it sorts on disk."""
    while True:
        try:
            command = psutil.Process(pid)
            family = [command, *command.children(recursive=True)]
            memory = 0
            for process in family:
                try:
                    memory += process.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
            if command.status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        peaks["memory"] = max(peaks["memory"], memory)
        spilled = 0
        for path in out.glob("dedup/minhash/.spill-*/**/*"):
            try:
                spilled += path.stat().st_size
            except OSError:
                continue
        peaks["disk"] = max(peaks["disk"], spilled)
        time.sleep(0.5)


def truth(out: Path) -> None:
    """How many copies of each similarity went, against the probability that banding finds them."""
    # Of a pair the longer text stays: whichever of the two it is, the pair is named by the copy.
    found: dict[int, int] = {}
    wrong = 0
    for path in (out / "rejected").iterdir():
        table = pq.read_table(path, columns=["id", "detail"]).to_pydict()
        for gone, detail in zip(table["id"], table["detail"], strict=True):
            pair = sorted([gone, detail.removeprefix("duplicate of ")], key=len)
            if pair[1].partition("-")[0] != pair[0]:
                wrong += 1
                continue
            edits = int(pair[1].partition("-")[2])
            found[edits] = found.get(edits, 0) + 1
    pairs: dict[int, int] = dict.fromkeys(EDITS, 0)
    for folder in ("rejected", "final"):
        for path in (out / folder).iterdir():
            for name in pq.read_table(path, columns=["id"]).column(0).to_pylist():
                if "-" in name:
                    pairs[int(name.partition("-")[2])] += 1
    for edits, count in pairs.items():
        jaccard = (WORDS - 4 - 5 * edits) / (WORDS - 4 + 5 * edits)
        expected = band_probability(jaccard, 14, 8)
        error = math.sqrt(count * expected * (1 - expected)) or 1
        share = found.get(edits, 0) / count
        z = (found.get(edits, 0) - count * expected) / error
        print(f"  jaccard {jaccard:.3f}: {count:7,} pairs, found {share:.4f}, expected {expected:.4f}, {z:+.1f} errors")
    print(f"  dropped though not a pair: {wrong}", flush=True)


if __name__ == "__main__":
    main()
