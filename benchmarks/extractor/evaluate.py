"""How good the extractor is on pages of sites that it was not fitted on, and how fast.

    python -m benchmarks.extractor.evaluate --data shared/data/wcxb-dev [--folds 5] [--only 0] [--pred OUT.jsonl]
    python -m benchmarks.extractor.evaluate --data shared/data/wcxb-dev --speed
    python -m benchmarks.extractor.evaluate --data shared/data/wcxb-dev --shipped

The first fits on four fifths of the sites and judges the texts of the last fifth, five times; in-sample figures are of
the pages fitted on. The second compares CPU time with resiliparse's and trafilatura's, page by page in turn. The third
judges the weights in the package, which have seen all these pages.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from benchmarks.extractor import corpus
from benchmarks.extractor.corpus import Example

from llmdata.clean.extractor import main_text
from llmdata.clean.extractor.model import Weights

KINDS = ("all", "article", "service", "forum", "documentation", "listing", "product", "collection")
Scores = dict[str, np.ndarray]


def judge(examples: Sequence[Example], weights: Weights | None) -> tuple[Scores, dict[str, str]]:
    """Mean precision, recall, F1 and snippets by kind of page, and the texts by URL."""
    rows = defaultdict(list)
    texts = {}
    for example in examples:
        text = texts[example.url] = main_text(example.html, example.url, weights=weights)
        for kind in ("all", example.kind):
            rows[kind].append(corpus.score(text, example))
    return {kind: np.mean(found, axis=0) for kind, found in rows.items()}, texts


def show(title: str, scores: Scores) -> None:
    print(f"{title:32} precision  recall      F1  snippets")
    for kind in KINDS:
        if kind in scores:
            print(f"  {kind:30}" + "".join(f"{value:10.4f}" for value in scores[kind]), flush=True)


def cross_validate(examples: Sequence[Example], folds: int, only: set[int], pred: Path | None) -> None:
    from benchmarks.extractor.fit import fit

    fold = corpus.folds(examples, folds)
    outside, inside, texts = [], [], {}
    for k in sorted(only or set(range(folds))):
        started = time.perf_counter()
        train = [example for example, part in zip(examples, fold, strict=True) if part != k]
        test = [example for example, part in zip(examples, fold, strict=True) if part == k]
        weights = fit(train)
        scores, found = judge(test, weights)
        texts |= found
        outside.append(scores)
        inside.append(judge(train[::8], weights)[0])
        show(f"fold {k}: {len(test)} pages, {time.perf_counter() - started:.0f} s", scores)
    by_kind = defaultdict(list)
    for example in examples:
        if example.url in texts:
            for kind in ("all", example.kind):
                by_kind[kind].append(corpus.score(texts[example.url], example))
    show("pages of sites not fitted on", {kind: np.mean(rows, axis=0) for kind, rows in by_kind.items()})
    show("in sample", {"all": np.mean([scores["all"] for scores in inside], axis=0)})
    f1 = np.array([scores["all"][2] for scores in outside])
    print(f"F1 by fold: mean {f1.mean():.4f}, standard deviation {f1.std():.4f}, least {f1.min():.4f}")
    if pred is not None:
        pred.write_text("".join(json.dumps({"url": url, "text": text}) + "\n" for url, text in texts.items()), "utf-8")


def speed(examples: Sequence[Example], rounds: int = 2) -> None:
    from llmdata.clean.extract import EXTRACTORS, ExtractConfig

    def extractor(name: str) -> Callable[[Example], str]:
        config = ExtractConfig.model_validate({"extractor": name})
        return lambda example: EXTRACTORS[name](example.html, example.url, config)

    names = {name: extractor(name) for name in ("llmdata", "resiliparse", "trafilatura")}
    sample = {name: examples if name != "trafilatura" else examples[::10] for name in names}
    for run in names.values():
        run(examples[0])
    gc.collect()
    gc.freeze()  # the examples are many objects, and no user of the extractor holds them
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, run in names.items():
            started = time.process_time()
            for example in sample[name]:
                run(example)
            rate = len(sample[name]) / (time.process_time() - started)
            best[name] = max(best.get(name, 0.0), rate)
            print(f"{name:12} {rate:7.1f} pages a CPU second over {len(sample[name])} pages", flush=True)
    print(f"llmdata is {best['llmdata'] / best['trafilatura']:.1f} times as fast as trafilatura")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of WARC files and gold.jsonl.gz")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, action="append", default=[], help="only this fold; may be given again")
    parser.add_argument(
        "--pred", type=Path, help="write the texts as JSONL, each by weights that had not seen the page"
    )
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--shipped", action="store_true")
    args = parser.parse_args()
    examples = corpus.read(args.data)
    if args.speed:
        speed(examples)
    elif args.shipped:
        show("weights in the package", judge(examples, None)[0])
    else:
        cross_validate(examples, args.folds, set(args.only), args.pred)


if __name__ == "__main__":
    main()
