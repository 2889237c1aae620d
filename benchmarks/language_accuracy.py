"""Accuracy of stage `language` on sentences of known language, over the languages that the model knows.

python benchmarks/language_accuracy.py lingua-sentences-200.tsv
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

from llmdata.clean.fasttext import LABEL, load_model
from llmdata.clean.language import bundled_model, identify

ALIASES = {"nb": "no"}
"""lingua tells Bokmål from Nynorsk; lid.176 has Norwegian and Nynorsk."""


def main(path: str) -> None:
    model = bundled_model()
    known = {label.removeprefix(LABEL) for _, label in load_model(model, "language.model").predict("a\n", -1, 0.0, "")}
    rows = [line.split("\t", 1) for line in Path(path).read_text("utf-8").splitlines() if "\t" in line]
    rows = [[ALIASES.get(language, language), text] for language, text in rows]
    tested = [(language, text) for language, text in rows if language in known]
    total, right = Counter[str](), Counter[str]()
    began = time.process_time()
    for language, text in tested:
        total[language] += 1
        right[language] += identify(text, model)[0] == language
    seconds = time.process_time() - began
    print(f"languages not known: {', '.join(sorted({language for language, _ in rows} - known)) or 'none'}")
    print(f"{len(tested):,} sentences in {len(total)} languages: {right.total() / total.total():.1%} right")
    print(f"mean over languages {sum(right[one] / total[one] for one in total) / len(total):.1%}")
    print(f"{len(tested) / seconds:,.0f} sentences a CPU second")
    worst = sorted(total, key=lambda one: right[one] / total[one])[:8]
    print("worst:", ", ".join(f"{one} {right[one] / total[one]:.0%}" for one in worst))


if __name__ == "__main__":
    main(sys.argv[1])
