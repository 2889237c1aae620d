"""fastText models: prediction with the wheel fasttext-predict or the full package, training with the full one only."""

from __future__ import annotations

from functools import cache
from typing import Any

from llmdata.errors import ConfigError

LABEL = "__label__"


@cache
def load_model(path: str, setting: str) -> Any:
    """The model at `path`; its `predict(line, k, threshold, "strict")` gives (score, label) pairs, the best first.

    Raises ConfigError naming `setting` if it is none. Not fasttext.load_model, which in the full package writes a
    warning to stderr each time, and whose `predict` fails with NumPy 2; what it wraps is the same in both packages.
    """
    import fasttext_pybind

    model = fasttext_pybind.fasttext()
    try:
        model.loadModel(path)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{setting}: {path}: not a fastText model: {error}") from None
    return model


def one_line(text: str) -> str:
    """`text` as fastText reads it: one line, which ends with a newline, a token of its own."""
    return text.replace("\n", " ").encode("utf-8", "replace").decode() + "\n"
