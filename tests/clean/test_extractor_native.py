"""The extractor's loops in C and their counterparts: the same answers on any page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmdata import native
from llmdata.clean.extractor import blocks, features, lexicon, model

built = pytest.mark.skipif(native.library() is None, reason="no C library was built")


def without_c(function: Callable[..., Any], *arguments: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "function", lambda *_: None)
        return function(*arguments)


TAGS = st.sampled_from(
    "div p ul li table tr td th pre h1 span a b br hr img input article nav noscript body html head title script style "
    "svg template select object frameset xmp noframes plaintext form button font nobr p:x own-tag caption label".split()
)
VALUES = st.sampled_from(
    [
        "a",
        "a  b",
        "post-123",
        "١٢x",
        "𝟘𝟙z",
        "navigation",
        "article",
        "articleBody",
        "text",
        "",
        "\xa0",
        "İD1",
        "é&quot;",
    ]
)
ATTRIBUTES = st.one_of(
    st.builds(
        '{}="{}"'.format, st.sampled_from(["class", "id", "CLASS", "role", "itemprop", "aria-hidden", "x:y"]), VALUES
    ),
    st.sampled_from(["hidden", "class", "id=''", "style", "aria-hidden=true", 'style="Display:\u2003NONE"', "=z"]),
    st.sampled_from(['style="visibility: hidden"', 'style="display:\xa0;none"', 'type="application/ld+json"']),
    st.sampled_from(['property="og:type" content="Article"', 'name="OG:type" property content="x"']),
)
PIECES = st.one_of(
    st.builds("<{} {}>".format, TAGS | st.just("meta"), st.lists(ATTRIBUTES, max_size=3).map(" ".join)),
    TAGS.map("</{}>".format),
    st.sampled_from(
        ["word ", "é日😀", "\ue000", "&#13;", "&#9;", "\0&#0;\ud800", "&nGt;", "<!-- c -->", "<?p i?>", "İ"]
    ),
    st.text(st.sampled_from(" \n\t\r\x0b\x0c\x1c\x85\xa0\u1680\u2003\u2028\u3000\u200bx"), max_size=4),
)


@built
@settings(max_examples=200, deadline=None)
@example(["<pre>", "\ta\r", "<br>", "\tb \r\n\n\t"])
@example(["<a>", "x ", "<br>", "\ue000 ", "<hr>", "<a>", "y\r\n"])
@given(st.lists(PIECES, max_size=40))
def test_blocks_are_those_of_the_walk_in_python(soup: list[str]) -> None:
    html = "".join(soup)
    for found, expected in zip(astuple(blocks.parse(html)), astuple(without_c(blocks.parse, html)), strict=True):
        assert np.array_equal(found, expected) if isinstance(found, np.ndarray) else found == expected


@built
@settings(max_examples=50, deadline=None)
@given(st.lists(PIECES, max_size=40), st.text(max_size=12))
def test_features_are_those_of_numpy(soup: list[str], title: str) -> None:
    page = blocks.parse(f"<title>{title} word</title><p class='Post-body'>The title: a word" + "".join(soup))
    weights = model.shipped()
    if not page.texts:
        return

    def described() -> dict[str, Any]:
        d, columns = features.describe(page, "http://example.com/a-b")
        return columns | features.hints(d, weights.names, weights.words)

    found, expected = described(), without_c(described)
    assert list(found) == list(expected)
    assert all(np.array_equal(found[name], expected[name]) for name in found)


NAMES = st.text(st.sampled_from("aabBCDz09-_ \xa0\u2003éÉßİKΣ😀"), max_size=12)


@built
@given(st.lists(NAMES, min_size=1, max_size=8), st.lists(NAMES.map(str.lower).filter(bool), max_size=12, unique=True))
def test_words_are_looked_up_as_in_a_dictionary(texts: list[str], known: list[str]) -> None:
    of_texts = [word for text in texts for word in text.lower().split()]
    of_names = [token for tokens in lexicon.name_tokens(texts) for token in tokens]
    words = lexicon.Lexicon({word: float(number) for number, word in enumerate(known + of_texts[::2] + of_names[::2])})
    for ask, items in ((words.of_texts, "\0".join(texts).lower()), (words.of_names, texts)):
        for found, expected in zip(ask(items), without_c(ask, items), strict=True):
            assert np.array_equal(found, expected, equal_nan=found.dtype == np.float64)


@built
@given(st.lists(st.text(st.characters(), max_size=20), min_size=1, max_size=6))
def test_characters_are_counted_as_in_numpy(texts: list[str]) -> None:
    assert (features.count_characters(texts) == without_c(features.count_characters, texts)).all()


@built
def test_every_blank_and_every_digit_is_known() -> None:
    characters = [chr(point) for point in range(1, 0x1F000) if not 0xD800 <= point < 0xE000 and chr(point) not in '&<"']
    text = "".join(f"x{character}" for character in characters)
    html = f'<p id="{text}">{text}<pre>{text}</pre><p class="x\0y">z'
    found, expected = blocks.parse(html), without_c(blocks.parse, html)
    assert found.texts == expected.texts
    assert found.path_names == expected.path_names


@built
def test_a_page_with_more_in_it_than_its_length_tells() -> None:
    html = "<pre>" + "\t" * 50_000 + "x</pre>" + f'<b class="{"c" * 3_000}">' * 2 + "<p>x" * 50 + "x<hr>" * 200
    found, expected = blocks.parse(html), without_c(blocks.parse, html)
    assert found.texts == expected.texts
    assert found.path_names == expected.path_names


@built
@given(st.integers(1, 5), st.integers(1, 8), st.integers(1, 150), st.integers(0, 99))
def test_trees_answer_as_those_in_numpy(n_trees: int, depth: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    trees = model.Trees(
        features=rng.integers(0, 3, n_trees * depth).astype(np.int32),
        borders=rng.normal(size=n_trees * depth).astype(np.float32),
        leaves=rng.integers(-90_000, 90_000, (n_trees, 1 << depth)).astype(np.int32),
        bias=-1_000,
    )
    columns = rng.normal(size=(3, rows)).astype(np.float32)
    columns[0, ::3] = [np.nan, np.inf, 0.0][seed % 3]
    assert (trees.predict(columns) == without_c(trees.predict, columns)).all()


@built
def test_trees_ask_about_no_feature_that_is_not_there() -> None:
    trees = model.shipped().first
    with pytest.raises(IndexError, match="more than the 2 features"):
        trees.predict(np.zeros((2, 9), np.float32))
