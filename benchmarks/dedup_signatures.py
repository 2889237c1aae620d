"""MinHash signatures from the same shingles: ours, rensa's and datasketch's, in speed and in what banding finds.

rensa lives in an environment of its own (`pip install rensa numpy`), whose Python is the argument:

    python benchmarks/dedup_signatures.py /tmp/peer/bin/python

Quality is the share of pairs of known Jaccard similarity that agree in any of 14 bands of 8 values, against the
theory of independent values, over 80,000 pairs each.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DOCUMENTS, SHINGLES, VALUES, ROUNDS = 2000, 196, 112, 9
PAIRS, REPEATS = 20_000, 4

PEER = r"""
import runpy, sys
here = runpy.run_path(sys.argv[1])
import numpy as np, rensa

def sign(hashes, counts, seed):
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
    return rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, here["VALUES"], seed)

here["report"]("rensa", sign, lambda made: np.array(made.to_rows(), np.uint32))
"""


def report(name: str, sign: Callable[..., Any], rows: Callable[[Any], Any]) -> None:
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**64, DOCUMENTS * SHINGLES, dtype=np.uint64)
    counts = np.full(DOCUMENTS, SHINGLES)
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        sign(hashes, counts, 1)
        times.append(time.process_time() - began)
    print(f"{name}: {min(times) / DOCUMENTS * 1e6:.1f} µs a document (load {os.getloadavg()[0]:.1f})", flush=True)
    for similarity in (0.5, 0.6, 0.7, 0.8):
        shared = round(similarity / (1 + similarity) * 2 * SHINGLES)
        jaccard = shared / (2 * SHINGLES - shared)
        found = 0
        for seed in range(REPEATS):
            left = rng.integers(0, 2**64, (PAIRS, SHINGLES), dtype=np.uint64)
            right = left.copy()
            right[:, shared:] = rng.integers(0, 2**64, (PAIRS, SHINGLES - shared), dtype=np.uint64)
            signed = [rows(sign(side.ravel(), np.full(PAIRS, SHINGLES), seed)) for side in (left, right)]
            found += int((signed[0] == signed[1]).reshape(PAIRS, 14, 8).all(axis=2).any(axis=1).sum())
        total = PAIRS * REPEATS
        p = 1 - (1 - jaccard**8) ** 14
        z = (found - total * p) / (total * p * (1 - p)) ** 0.5
        print(
            f"  jaccard {jaccard:.3f}: found {found / total:.4f}, theory {p:.4f}, {z:+.1f} standard errors", flush=True
        )


def main() -> None:
    from datasketch import MinHash

    from llmdata.dedup.minhash import signatures
    from llmdata.dedup.words import random_numbers

    def ours(bits: int) -> Callable[..., Any]:
        def sign(hashes: Any, counts: Any, seed: int) -> Any:
            factors = random_numbers(seed, VALUES) | np.uint64(1 << 32 | 1)
            return signatures(hashes, counts, factors if bits == 64 else (factors >> np.uint64(32)).astype(np.uint32))

        return sign

    report("ours, 64 bits", ours(64), np.asarray)
    report("ours, 32 bits", ours(32), np.asarray)
    if len(sys.argv) > 1:
        subprocess.run([sys.argv[1], "-c", PEER, str(Path(__file__).resolve())], check=True)
    made = MinHash(VALUES, hashfunc=int)
    shingles = np.random.default_rng(1).integers(0, 2**32, SHINGLES).tolist()
    began = time.process_time()
    for _ in range(200):
        made.update_batch(shingles)
    print(f"datasketch: {(time.process_time() - began) / 200 * 1e6:.1f} µs a document")


if __name__ == "__main__":
    main()
