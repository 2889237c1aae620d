"""Our own extractor: what it keeps, how its text reads, and that no page stops it."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdata.clean.extractor import blocks, features, lexicon, main_text, model
from llmdata.clean.extractor.render import render

SENTENCE = "The {} over the river was built long ago, and people of the village have told stories of it ever since."
PROSE = "".join(f"<p>{SENTENCE.format(thing)}</p>" for thing in ("bridge", "road", "tunnel", "ferry", "tower", "wall"))
PAGE = f"""<html><head><title>Bridges</title></head><body>
<nav><a href="/">Home</a> <a href="/shop">Shop</a> <a href="/about">About us</a></nav>
<div class="cookie-banner"><p>We use cookies to improve your experience.</p><button>Accept all</button></div>
<article class="post-content">{PROSE}<div class="share"><a href="#">Share on Facebook</a></div></article>
<div class="related-posts"><h3>Related posts</h3><ul><li><a href="/a">Ten castles</a></li></ul></div>
<footer><p>© 2020 Bridges Inc. All rights reserved.</p></footer></body></html>"""


def rendered(html: str) -> str:
    """All blocks of a page, as they are rendered."""
    page = blocks.parse(html)
    return render(page, range(len(page.texts)))


def test_the_article_is_kept_and_what_surrounds_it_is_not() -> None:
    text = main_text(PAGE, "http://example.com/2020/bridges")
    assert text == "\n\n".join(SENTENCE.format(x) for x in ("bridge", "road", "tunnel", "ferry", "tower", "wall"))


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<h1>A</h1><p>b</p><h2>C</h2><p>d</p>", "A\n\nb\n\nC\n\nd"),
        ("<p>one<br>two</p>", "one\ntwo"),
        ("<p>one <b>bold</b> <i>word</i>s</p>", "one bold words"),
        ("<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul><p>d</p>", "- a\n- b\n  - c\n\nd"),
        ("<p>x</p><ul><li>a</li></ul><p>y</p><ul><li>b</li></ul>", "x\n\n- a\n\ny\n\n- b"),
        ("<dl><dt>term</dt><dd>meaning</dd></dl>", "term\nmeaning"),
        ("<table><tr><th>k</th><th>v</th></tr><tr><td>1</td><td><b>2</b> m</td></tr></table>", "k | v\n1 | 2 m"),
        ("<pre>if x:\n    y()\n</pre>", "if x:\n    y()"),
        ("<pre><div>if x:</div><div>    y()</div></pre>", "if x:\n    y()"),
        ("<div><span>Name</span></div><div><span>9 €</span></div>", "Name\n9 €"),
        ("<script>no()</script><style>p{}</style><!-- no --><p>yes</p>", "yes"),
        ("bare text", "bare text"),
    ],
)
def test_how_text_reads(html: str, expected: str) -> None:
    assert rendered(f"<body>{html}") == expected


def test_a_long_text_that_repeats_is_told_once() -> None:
    again = PAGE.replace(PROSE, PROSE + PROSE)
    assert main_text(again).count("The bridge") == 1


def test_tables_can_be_left_out() -> None:
    rows = "".join(f"<tr><td>Height of tower {n}</td><td>{n} metres above the water</td></tr>" for n in range(2, 9))
    html = PAGE.replace("</p><p>The road", f"</p><table>{rows}</table><p>The road")
    assert "Height of tower 3 | 3 metres above the water" in main_text(html)
    assert "metres above" not in main_text(html, tables=False)


@pytest.mark.parametrize(
    "html",
    [
        "",
        "<html><head><title>x</title></head></html>",
        "<frameset><frame src=a></frameset>",
        "<body><script>var a;</script></body>",
        "<p>&nbsp;</p><p>\x0c\x1c</p>",
        "<template><p>hidden</p></template>",
        "<!--" * 1000,
        "<p " + "x " * 1000,
    ],
)
def test_a_page_without_text_has_none(html: str) -> None:
    assert main_text(html) == ""


@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 2_000 + PROSE,
        "<b><i>" * 1_000 + PROSE,
        "<ul><li>x " * 900 + PROSE,
        "<table><tr><td>" * 300 + PROSE,
        "<p>" + "word " * 300_000,
        "<p>" + "a" * 1_000_000,
        "<table>" + "<tr><td>1</td><td>2</td></tr>" * 3_000 + "</table>",
        f'<div class="{"Aa " * 200_000}">{PROSE}</div>',
        f'<script type="application/ld+json">{{"@type"{" " * 300_000}:{" " * 300_000}</script>{PROSE}',
        f'<p style="display:{" " * 300_000}x">{PROSE}',
        "<pre>" + " " * 500 + "x = 1</pre>" + PROSE,
        "<p>\udc80\ud800 \0 \ue000<br>\ue000</p>" + PROSE,
    ],
    ids=range(12),
)
def test_hostile_pages_come_through(html: str) -> None:
    text = main_text(html, "http://[broken")
    assert text
    assert text == main_text(html, "http://[broken")
    assert len(text) < 2 * len(html)


TAGS = st.sampled_from("div p ul li table tr td pre h1 span a b br hr article nav noscript body html".split())
PIECES = st.one_of(TAGS.map("<{}>".format), TAGS.map("</{}>".format), st.text(max_size=12), st.just(" A sentence. "))


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=40))
def test_any_soup_of_tags_has_blocks_that_nest(soup: list[str]) -> None:
    page = blocks.parse("".join(soup))
    for block, container in enumerate(page.containers):
        assert page.starts[container] <= block < page.ends[container]
        parent = page.container_parents[container]
        assert parent < container
        assert parent < 0 or page.starts[parent] <= page.starts[container] <= page.ends[container] <= page.ends[parent]
    main_text("".join(soup))


@given(st.text(st.sampled_from("ab \n\t\x1c\u3000é"), max_size=40), st.integers(1, 12))
def test_a_line_in_parts_is_the_line(text: str, together: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_TOGETHER", together)
        assert blocks.one_line(text) == " ".join(text.split())


def test_trees_answer_as_their_definition_says() -> None:
    rng = np.random.default_rng(0)
    trees = model.Trees(
        features=rng.integers(0, 7, 12).astype(np.int32),
        borders=rng.normal(size=12).astype(np.float32),
        leaves=rng.integers(-60_000, 60_000, (4, 8)).astype(np.int32),
        bias=100,
    )
    columns = rng.normal(size=(7, 1_300)).astype(np.float32)
    for row, found in zip(columns.T, trees.predict(columns), strict=True):
        score = trees.bias
        for tree in range(4):
            asks = range(3 * tree, 3 * tree + 3)
            leaf = sum(int(row[trees.features[a]] > trees.borders[a]) << level for level, a in enumerate(asks))
            score += int(trees.leaves[tree, leaf])
        assert found == pytest.approx(1 / (1 + np.exp(-score / model.LEAF_UNIT)), abs=1 / model.P_UNIT)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 9)), min_size=1, max_size=8))
def test_the_cut_is_the_best_of_all_cuts(blocks_: list[tuple[int, int]]) -> None:
    p = np.array([value / 100 for value, _ in blocks_])
    words = np.array([size for _, size in blocks_], np.float64)

    def expected_f1(kept: np.ndarray) -> float:
        return float(2 * (p * words)[kept].sum() / max(words[kept].sum() + (p * words).sum(), 1e-9))

    found = model.choose(p, words, 1.0)
    assert expected_f1(found) == pytest.approx(max(expected_f1(p >= cut) for cut in p))


def test_weights_survive_packing_and_are_those_of_the_note() -> None:
    weights = model.shipped()
    again = model.unpack(model.pack(weights))
    assert again.names == weights.names
    assert (again.features, again.context) == (weights.features, weights.context)
    assert (again.second.leaves == weights.second.leaves).all()
    for trees in (weights.first, weights.second):
        assert int(np.abs(trees.leaves).max(axis=1).sum()) + abs(trees.bias) < 1 << 31  # sums are taken in 32 bits
    folder = files("llmdata.clean.extractor")
    assert len((folder / "weights.npz").read_bytes()) < 2_000_000
    note = json.loads((folder / "weights.json").read_text())
    assert note["data_license"] == "CC-BY-4.0"
    arrays = model.pack(weights)
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + arrays[name].dtype.str.encode() + arrays[name].tobytes())
    assert digest.hexdigest() == note["weights_sha256"]


def test_features_come_in_the_order_in_which_the_weights_were_fitted() -> None:
    """In another order trees are offered others of them: fitting anew would give other weights."""
    weights = model.shipped()
    described, columns = features.describe(blocks.parse(PAGE), "")
    columns |= features.hints(described, weights.names, weights.words)
    around = features.context(described, np.zeros(described.n))
    for names, asked in ((list(columns), weights.features), (list(around), weights.context)):
        assert [name for name in names if name in set(asked)] == list(asked)


def test_names_of_classes_are_split_where_words_begin() -> None:
    names = ["post-body entryContent", "", "col2\n x_y", "Österreich"]
    assert [set(tokens) for tokens in lexicon.name_tokens(names)] == [
        {"post-body", "entrycontent", "post", "body", "entry", "content"},
        set(),
        {"col2", "col", "x_y", "x", "y"},
        {"österreich", "sterreich"},
    ]


def test_no_class_name_has_the_character_that_parts_them() -> None:
    page = blocks.parse('<p class="a\0b">one</p><p class="a&#0;b" id="&#x0;">two</p>')
    assert len(page.texts) == 2
    assert not any("\0" in name for name in page.path_names)
