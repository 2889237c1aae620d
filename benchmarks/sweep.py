"""A ladder of small models on a CPU: the law of their losses, how far off it is for a size that the fit has not seen,
and whether the rule for learning rates is any good.

    python benchmarks/sweep.py TEXTS --out DIR [--sizes 25K,35K,50K,100K,130K,200K] [--tokens-per-param 8]
    python benchmarks/sweep.py TEXTS --out DIR --rates [--sizes 25K,200K] [--multiples 0.5,1,2]

TEXTS is a folder of plain texts. They are cut into documents of about 4 kB, one in twenty of them for validation, and
tokenized by characters. The second form trains each size with multiples of the rate that the rule gives it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", default=None)
    parser.add_argument("--tokens-per-param", default="8")
    parser.add_argument("--rates", action="store_true")
    parser.add_argument("--multiples", default="0.25,0.5,1,2,4")
    given = parser.parse_args()
    tokens = make_tokens(given.texts, given.out)
    ratio = ["--tokens-per-param", given.tokens_per_param]
    if not given.rates:
        llmdata(
            "sweep", tokens, "-o", given.out / "ladder", "--sizes", given.sizes or "25K,35K,50K,100K,130K,200K", *ratio
        )
        return
    base = 8e-3  # the demo model's
    losses: dict[int, list[str]] = {}
    for multiple in map(float, given.multiples.split(",")):
        out = given.out / f"rate-{multiple:g}"
        rate = f"train.optim.lr={base * multiple:g}"
        options = ["--sizes", given.sizes or "25K,200K", *ratio, "--hold-out", "none", "--set", rate]
        llmdata("sweep", tokens, "-o", out, *options, quiet=True)
        for run in json.loads((out / "sweep.json").read_text())["runs"]:
            losses.setdefault(run["parameters"], []).append(f"{run['lr']:.3g}: {run['loss']:.4f}")
    for parameters, found in losses.items():
        print(f"{parameters:>9,} parameters, loss by rate ({given.multiples} of the rule's)  " + "  ".join(found))


def make_tokens(texts: Path, out: Path) -> Path:
    """A folder of tokens by characters."""
    out.mkdir(parents=True, exist_ok=True)
    documents = out / "documents.jsonl"
    if not documents.exists():
        with documents.open("w", encoding="utf-8") as stream:
            for path in sorted(path for path in texts.rglob("*") if path.is_file()):
                held = ""
                for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
                    held += paragraph + "\n\n"
                    if len(held) >= 4000:
                        stream.write(json.dumps({"text": held.strip()}) + "\n")
                        held = ""
                if held.strip():
                    stream.write(json.dumps({"text": held.strip()}) + "\n")
    kind = ["--kind", "char", "--vocab-size", "128"]
    llmdata("tokenizer", "train", documents, "-o", out / "tokenizer", *kind, quiet=True)
    tokenizer = ["--tokenizer", out / "tokenizer"]
    llmdata("tokenize", documents, "-o", out / "tokens", *tokenizer, "--val", "hash:0.05", quiet=True)
    return out / "tokens"


def llmdata(*arguments: object, quiet: bool = False) -> None:
    command = [sys.executable, "-m", "llmdata", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL if quiet else None)


if __name__ == "__main__":
    main()
