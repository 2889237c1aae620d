"""Train the extractor's weights on all pages of a folder, and write them with a note on what they were made from.

    python -m benchmarks.extractor.train --data shared/data/wcxb-dev [--out src/llmdata/clean/extractor]

Needs the extra `extractor`. The same data and versions give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import catboost
import numpy as np
from benchmarks.extractor import corpus
from benchmarks.extractor.fit import fit

from llmdata.clean.extractor import model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of WARC files and gold.jsonl.gz")
    parser.add_argument("--out", type=Path, default=Path("src/llmdata/clean/extractor"))
    args = parser.parse_args()
    examples = corpus.read(args.data)
    weights = fit(examples, log=lambda line: print(line, flush=True))
    arrays = model.pack(weights)
    args.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.out / "weights.npz", **arrays)
    contents = hashlib.sha256()
    for name in sorted(arrays):
        contents.update(name.encode() + arrays[name].dtype.str.encode() + arrays[name].tobytes())
    note = {
        "data": "WCXB (Web Content Extraction Benchmark), development part",
        "data_license": "CC-BY-4.0",
        "data_sha256": corpus.digest(args.data),
        "pages": len(examples),
        "sites": len({example.domain for example in examples}),
        "trained_by": "benchmarks/extractor/train.py",
        "catboost": catboost.__version__,
        "weights_sha256": contents.hexdigest(),
    }
    (args.out / "weights.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(note, indent=1))


if __name__ == "__main__":
    main()
