"""From examples to weights: vocabularies, an ensemble of trees, and a second one that sees the first one's opinions."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory

import numpy as np
from benchmarks.extractor.corpus import Example, folds
from catboost import CatBoost, Pool

from llmdata.clean.extractor import features, lexicon, model

INNER_FOLDS = 4
FIRST_TREES, SECOND_TREES = 100, 200
DEPTH = 5
BREADTH = 0.85
THREADS = 2  # part of the result: sums of floats are taken in another order by another number
LEAST = {"names": 6, "words": 6}
"""On how many sites a token must occur to be known."""
PRIOR = {"names": 0.5, "words": 0.35}
Tables = dict[str, lexicon.Lexicon]


def fit(examples: Sequence[Example], log: Callable[[str], None] = lambda line: None) -> model.Weights:
    """Weights from `examples` and nothing else; the same examples in the same order give the same weights.

    What the second ensemble learns from, the first has said of pages that it had not seen, and the log-odds of words
    that both learn from are those of other sites: else both would trust them too much.
    """
    examples = [example for example in examples if example.described is not None]
    counts = _count_tokens(examples)
    fold = folds(examples, INNER_FOLDS)
    rows = np.repeat(fold, [len(example.page.texts) for example in examples])
    target = np.concatenate([example.share for example in examples])
    weight = np.concatenate([_importance(example) for example in examples])

    hinted: list[dict[str, np.ndarray]] = [{} for _ in examples]
    for k in range(INNER_FOLDS):
        here = [i for i in range(len(examples)) if fold[i] == k]
        inside = {examples[i].domain for i in here}
        tables = _log_odds({domain: count for domain, count in counts.items() if domain not in inside})
        for i in here:
            hinted[i] = examples[i].columns | features.hints(examples[i].described, **tables)
    first_names = tuple(hinted[0])
    first_rows = _matrix(examples, hinted, first_names)
    opinion = np.empty(len(target))
    for k in range(INNER_FOLDS):
        trees = _trees(first_rows[rows != k], target[rows != k], weight[rows != k], FIRST_TREES)
        opinion[rows == k] = trees.predict(first_rows[rows == k].T)
        log(f"first ensemble, inner fold {k + 1} of {INNER_FOLDS}")
    first = _trees(first_rows, target, weight, FIRST_TREES)

    contexts, start = [], 0
    for example in examples:
        end = start + len(example.page.texts)
        contexts.append(features.context(example.described, opinion[start:end]))
        start = end
    second_names = first_names + tuple(contexts[0])
    second_rows = np.hstack([first_rows, _matrix(examples, contexts, tuple(contexts[0]))])
    second = _trees(second_rows, target, weight, SECOND_TREES)
    log("second ensemble")
    of_page = len(first_names)
    asked = np.union1d(first.features, second.features)
    return model.Weights(
        first=_asking(first, asked),
        second=_asking(second, asked),
        features=tuple(second_names[i] for i in asked if i < of_page),
        context=tuple(second_names[i] for i in asked if i >= of_page),
        breadth=BREADTH,
        **_log_odds(counts),
    )


def _importance(example: Example) -> np.ndarray:
    """What a wrong block costs of the page's F1: its words beside those of the main text and some of the page's."""
    words = np.minimum(example.words, example.described.told)
    return words / (max(example.gold_words, 20) + 0.3 * words.sum()) + 0.0002


def _matrix(examples: Sequence[Example], columns: Sequence[dict[str, np.ndarray]], names: Sequence[str]) -> np.ndarray:
    """(rows, features) of all examples."""
    sizes = [example.described.n for example in examples]
    out = np.empty((len(names), sum(sizes)), np.float32)
    end = 0
    for size, part in zip(sizes, columns, strict=True):
        end += size
        features.fill(out[:, end - size : end], part, names)
    return out.T


def _trees(rows: np.ndarray, target: np.ndarray, weight: np.ndarray, number: int) -> model.Trees:
    """`number` boosted oblivious trees whose target is the share of a block that is main text."""
    with TemporaryDirectory() as folder:
        fitted = CatBoost(
            {
                "loss_function": "CrossEntropy",
                "iterations": number,
                "depth": DEPTH,
                "learning_rate": 0.15,
                "l2_leaf_reg": 5,
                "rsm": 0.3,
                "border_count": 64,
                "bootstrap_type": "No",
                "random_strength": 0,
                "random_seed": 1,
                "thread_count": THREADS,
                "verbose": False,
                "allow_writing_files": False,
                "train_dir": folder,
            }
        )
        fitted.fit(Pool(rows, target, weight=weight))
    return _exported(fitted)


def _exported(fitted: CatBoost) -> model.Trees:
    """CatBoost's trees as ours, by way of its own JSON."""
    import json

    with TemporaryDirectory() as folder:
        fitted.save_model(f"{folder}/model.json", format="json")
        with open(f"{folder}/model.json", encoding="utf-8") as file:
            stored = json.load(file)
    trees = stored["oblivious_trees"]
    asks = np.zeros((len(trees), DEPTH), np.int32)
    borders = np.full((len(trees), DEPTH), np.inf, np.float32)  # a tree that stopped early never says yes below
    leaves = np.zeros((len(trees), 1 << DEPTH), np.int32)
    scale, bias = stored["scale_and_bias"]
    for number, tree in enumerate(trees):
        for level, split in enumerate(tree["splits"]):
            asks[number, level] = split["float_feature_index"]
            borders[number, level] = split["border"]
        values = np.array(tree["leaf_values"]) * scale * model.LEAF_UNIT
        leaves[number, : len(values)] = np.rint(values).astype(np.int32)
    return model.Trees(
        features=asks.ravel(), borders=borders.ravel(), leaves=leaves, bias=round(bias[0] * model.LEAF_UNIT)
    )


def _asking(trees: model.Trees, asked: np.ndarray) -> model.Trees:
    """The same trees, over the features `asked` (in order) and no others."""
    rows = np.searchsorted(asked, trees.features).astype(np.int32)
    return model.Trees(rows, trees.borders, trees.leaves, trees.bias)


Counts = dict[str, dict[tuple[str, str], float]]


def _count_tokens(examples: Sequence[Example]) -> Counts:
    """For each site and token, the mean share of main text where the token occurs."""
    sums: dict[str, dict[tuple[str, str], list[float]]] = {}
    for example in examples:
        page, share, words = example.page, example.share, example.words
        site = sums.setdefault(example.domain, defaultdict(lambda: [0.0, 0.0]))
        size = len(page.path_tags)
        good, total = np.bincount(page.paths, share * words, size), np.bincount(page.paths, words, size)
        for path in range(size - 1, -1, -1):  # parents come before their children
            if (parent := page.path_parents[path]) >= 0:
                good[parent] += good[path]
                total[parent] += total[path]
        found: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])

        def add(kind: str, token: str, good: float, total: float, found: dict = found) -> None:
            entry = found[kind, token]
            entry[0] += good
            entry[1] += total

        for path, tokens in enumerate(lexicon.name_tokens(page.path_names)):
            for token in set(tokens) if total[path] else ():
                if 2 <= len(token) <= 40:
                    add("names", token, good[path], total[path])
        for text, part in zip(page.texts, share.tolist(), strict=True):
            if len(text) < features.LONG:
                for word in set(features.beginnings([text]).split()):
                    add("words", word, part, 1)
        for key, (hits, number) in found.items():
            site[key][0] += hits / number
            site[key][1] += 1
    return {domain: {key: hits / number for key, (hits, number) in site.items()} for domain, site in sums.items()}


def _log_odds(counts: Counts) -> Tables:
    """Log-odds of main text for each token that enough sites have, drawn to the prior; rounded as they are kept."""
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for domain in sorted(counts):
        for key, value in counts[domain].items():
            entry = sums[key]
            entry[0] += value
            entry[1] += 1
    out: Tables = {kind: lexicon.Lexicon() for kind in LEAST}
    for (kind, token), (total, sites) in sums.items():
        if sites >= LEAST[kind]:
            prior = PRIOR[kind]
            share = (total + 3 * prior) / (sites + 3)
            odds = math.log(share / (1 - share)) - math.log(prior / (1 - prior))
            out[kind][token] = round(odds * model.SCORE_UNIT) / model.SCORE_UNIT
    return out
