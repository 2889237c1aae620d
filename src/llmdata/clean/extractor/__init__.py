"""The main text of a web page, by a small learned model over its blocks.

    HTML ──blocks──▶ blocks and where they stand ──features──▶ numbers ──model──▶ probabilities ──render──▶ text

One parse, one walk. The model is two ensembles of trees: the second sees what the first said of the blocks around.
How it was trained, what it was trained on and how good it is: docs/extractor.md, benchmarks/extractor/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmdata.clean.extractor import blocks, features, model
from llmdata.clean.extractor.page import BIT, Page
from llmdata.clean.extractor.render import render
from llmdata.clean.extractor.tidy import tidy, without_repeats

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]


def main_text(html: str, url: str = "", *, tables: bool = True, weights: model.Weights | None = None) -> str:
    """The main text of `html`, "" if there is none; `url` is a hint of what kind of page it is.

    `tables=False` leaves out what stands in tables. Time and memory are linear in the page's length.
    """
    page = blocks.parse(html)
    if not page.texts:
        return ""
    weights = weights or model.shipped()
    described, p = probabilities(page, url, weights)
    kept = model.choose(p, described.told, weights.breadth)
    if not tables:
        kept &= page.masks & BIT["table"] == 0
    chosen = kept.nonzero()[0].tolist()
    tidy(page, chosen)
    return render(page, without_repeats(page, chosen))


def probabilities(page: Page, url: str, weights: model.Weights) -> tuple[features.Described, Array]:
    """For each block of `page`, the probability that it is main text."""
    import numpy as np

    described, columns = features.describe(page, url)
    columns |= features.hints(described, weights.names, weights.words)
    of_page = len(weights.features)
    rows = np.empty((of_page + len(weights.context), described.n), np.float32)
    features.fill(rows[:of_page], columns, weights.features)
    around = features.context(described, weights.first.predict(rows[:of_page]))
    features.fill(rows[of_page:], around, weights.context)
    return described, weights.second.predict(rows)
