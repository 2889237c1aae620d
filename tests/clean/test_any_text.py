"""Whatever the text, a filter decides: it does not raise, does not lose the document, and says the same again."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdata.document import Document, Filter, Rejection
from llmdata.pipeline.chain import FILTERS, make_filter
from llmdata.pipeline.clean_config import CleanConfig

# Of this package, but the one that needs a model and the one that needs a page.
NAMES = sorted(
    name for name, where in FILTERS.items() if "llmdata.clean" in where and name not in ("quality", "extract")
)
SPACED = "word |The end.\n|{|[1]|…|# |- |a@b.co |8.8.8.8 |3 likes\n|+1 |lorem ipsum|DE89 |0000000000000000|...|\n\n"
PIECES = (*SPACED.split("|"), *"词ไทယខລß\ud800\0\u2028\x85İ💩\u0301🇫\t")
HOSTILE = {
    "a million words": "some words of a text that goes on. " * 125_000,
    "one long line": "x" * 2_000_000,
    "no spaces": "汉字" * 200_000,
    "thai": "ภาษาไทย" * 100_000,
    "newlines": "\n" * 1_000_000,
    "punctuation": ".!?" * 500_000,
    "surrogates and NULs": "\ud800\0" * 200_000,
    "brackets": "[" * 200_000 + "]" * 200_000,
    "digits": "1234567890" * 200_000,
}


@cache
def judge(name: str) -> Filter:
    return make_filter(name, CleanConfig.model_validate({"bad_words": {"lists": ["en"]}}))


def decide(name: str, text: str) -> tuple[str, str, str]:
    doc = Document(text=text, url="http://example.com/" + text[:50].replace("\n", " "), id="1")
    found = judge(name)(doc)
    if isinstance(found, Rejection):
        assert found.document is doc
        assert found.stage == name
        assert found.reason
        return found.reason, found.detail, found.document.text
    assert found is doc
    return "", "", found.text


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=80).map("".join))
def test_any_text(name: str, text: str) -> None:
    assert decide(name, text) == decide(name, text)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.timeout(60)
def test_hostile_texts_end(name: str, text: str) -> None:
    decide(name, text)
