"""What banding finds among real paragraphs with planted edits, against the theory; true similarities by brute force.

Takes 10,000 paragraphs of 40 words and more from the docstrings of installed packages, and a copy of each in which
words are replaced at random until about a chosen similarity. Of each copy the Jaccard similarity of its sets of word
5-grams is counted exactly, and the share found in each band of similarity compared with the mean of the curve.

    python benchmarks/dedup_truth.py
"""

from __future__ import annotations

import ast
import itertools
import math
import random
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from llmdata.dedup.config import MinhashConfig
from llmdata.dedup.curve import band_probability, changed_words
from llmdata.dedup.minhash import Minhash
from llmdata.document import Document

PARAGRAPHS, SEED = 10_000, 4


def main() -> None:
    rng = random.Random(SEED)
    originals = list(itertools.islice(paragraphs(), PARAGRAPHS))
    words = sorted({word for text in originals for word in re.findall(r"[a-z]+", text)})
    copies = []
    for text in originals:
        parts = text.split(" ")
        rate = changed_words(rng.uniform(0.45, 0.97), 5)
        copies.append(" ".join(rng.choice(words) if rng.random() < rate else part for part in parts))
    shuffle = Minhash(MinhashConfig())
    keys = []
    for texts in (originals, copies):
        batch = shuffle.keys([Document(id=str(n), text=text) for n, text in enumerate(texts)])
        keys.append(np.array([batch.column(name).to_numpy() for (name,) in shuffle.bands]).T)
    found = (keys[0] == keys[1]).any(axis=1)
    truth = np.array([jaccard(left, right) for left, right in zip(originals, copies, strict=True)])
    expected = np.array([band_probability(value, 14, 8) for value in truth])
    print(f"{2 * len(originals):,} texts of {np.mean([text.count(' ') + 1 for text in originals]):.0f} words")
    for low in np.arange(0.45, 1.0, 0.05):
        chosen = (truth >= low) & (truth < low + 0.05)
        if not chosen.any():
            continue
        mean, error = expected[chosen].sum(), math.sqrt((expected[chosen] * (1 - expected[chosen])).sum()) or 1
        z = (found[chosen].sum() - mean) / error
        share, count = found[chosen].mean(), chosen.sum()
        print(f"jaccard {low:.2f}–{low + 0.05:.2f}: {count:5,} pairs, found {share:.4f}, "
              f"expected {mean / count:.4f}, {z:+.1f} standard errors")  # fmt: skip


def paragraphs() -> Iterator[str]:
    """Distinct paragraphs of docstrings, in lower case without punctuation, so that a word is a word to everybody."""
    seen = set()
    for path in sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py")):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(path.read_text(errors="replace"))
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            for block in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                text = " ".join(re.findall(r"[a-z]+", block.lower()))
                if text.count(" ") >= 39 and text not in seen:
                    seen.add(text)
                    yield text


def jaccard(left: str, right: str) -> float:
    sets = []
    for text in (left, right):
        words = text.split()
        sets.append({tuple(words[at : at + 5]) for at in range(len(words) - 4)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


if __name__ == "__main__":
    main()
