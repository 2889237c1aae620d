"""From HTML to main text: what is kept, what is rejected, and that pages do not know one another."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from pydantic import ValidationError

from llmdata.clean.extract import EXTRACTORS, Extract, ExtractConfig, is_nested_deeper
from llmdata.document import Document, Payload, Rejection

PARAGRAPHS = [
    f"This is paragraph number {word} of an article about old bridges, long enough for any extractor to believe in. "
    "Stone by stone they were built over slow rivers, and most of them still carry traffic today."
    for word in ("one", "two", "three", "four", "five", "six")
]


def article(paragraphs: list[str], table: str = "") -> str:
    body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return (
        "<html><head><title>Bridges</title><script>var x = 'no text';</script></head><body>"
        '<nav><a href="/">Home</a> <a href="/about">About us</a></nav>'
        f"<article><h1>Bridges</h1>{body}{table}</article><footer>Copyright notice</footer></body></html>"
    )


def page(html: str | bytes, content_type: str = "text/html", charset: str | None = "utf-8") -> Document:
    content = html.encode() if isinstance(html, str) else html
    return Document(id="1", url="http://example.com/", payload=Payload(content, content_type, charset))


def extract(doc: Document, **settings: object) -> Document | Rejection:
    return Extract(ExtractConfig.model_validate(settings))(doc)


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_the_main_text_is_kept(extractor: str) -> None:
    doc = extract(page(article(PARAGRAPHS)), extractor=extractor)
    assert isinstance(doc, Document)
    assert all(paragraph in doc.text for paragraph in PARAGRAPHS)
    assert "no text" not in doc.text
    assert ("About us" in doc.text) == (extractor == "plain")
    assert doc.payload is None
    assert doc.metadata == {}


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_tables_are_kept_or_not(extractor: str) -> None:
    rows = "".join(f"<tr><td>{name} in metres</td><td>1234 at most</td></tr>" for name in ("Length", "Width", "Height"))
    html = article(PARAGRAPHS, f"<table>{rows}</table>")
    for include in (True, False):
        doc = extract(page(html), extractor=extractor, include_tables=include)
        assert isinstance(doc, Document)
        assert ("1234 at most" in doc.text) == include


def test_charsets_are_decoded() -> None:
    html = article([paragraph.replace("bridges", "brücken") for paragraph in PARAGRAPHS])
    doc = extract(page(html.encode("latin-1"), charset="iso-8859-1"))
    assert isinstance(doc, Document)
    assert "old brücken" in doc.text


@pytest.mark.parametrize(
    ("doc", "settings", "reason"),
    [
        (page(""), {}, "empty"),
        (page("<html><body></body></html>"), {}, "empty"),
        (page("\0\0\0"), {}, "empty"),
        (page("<html><body></e><frameset><frame src=x></frameset>"), {}, "empty"),
        (page("<e><frameset>"), {}, "empty"),
        (page(article(PARAGRAPHS)), {"max_bytes": 100}, "too_large"),
        (page(article(PARAGRAPHS)), {"max_tags": 10}, "too_large"),
        (page("plain words", "text/plain"), {}, "content_type"),
        (page("<div>" * 100_000 + "deep"), {}, "too_deep"),
        (page("<b><i>" * 50_000 + "deep" + "</i></b>" * 50_000), {}, "too_deep"),
        (page("a" * 50_000_000), {}, "too_large"),
    ],
)
@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_what_is_rejected(doc: Document, settings: dict[str, object], reason: str, extractor: str) -> None:
    found = extract(Document(id="1", payload=doc.payload), extractor=extractor, **settings)
    assert isinstance(found, Rejection)
    assert (found.stage, found.reason) == ("extract", reason)
    assert found.document.payload is None


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 1_900 + "deep",
        "<p>" * 20_000 + "x",
        "<table><tr><td>" * 500 + "x",
        "<p " + 'a="b" ' * 100_000 + ">x",
        "<!--" * 10_000,
        "<![CDATA[" * 10_000,
        "<" * 7_000,
        "&#xD800;&#0;&#x110000;&#xFFFF; words",
        "<html><body><svg><math><mi><mglyph><svg>" * 300,
        "<select><option>" * 3_000,
        "<script>" + "x" * 100_000,
        "word " * 200_000,
    ],
)
def test_hostile_pages_end(extractor: str, html: str) -> None:
    found = extract(page(html), extractor=extractor)
    if isinstance(found, Document):
        assert "\0" not in found.text
        found.text.encode()


def test_an_extractor_that_raises_costs_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(html: str, url: str, config: ExtractConfig) -> str:
        raise RecursionError("too deep for me")

    monkeypatch.setitem(EXTRACTORS, "plain", broken)
    found = extract(page("<p>x"), extractor="plain")
    assert isinstance(found, Rejection)
    assert (found.reason, found.detail) == ("parse_error", "RecursionError: too deep for me")


def test_a_missing_package_is_not_held_against_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(html: str, url: str, config: ExtractConfig) -> str:
        raise ImportError("no module named parser")

    monkeypatch.setitem(EXTRACTORS, "plain", missing)
    with pytest.raises(ImportError):
        extract(page("<p>x"), extractor="plain")


def test_what_is_text_already_passes_through() -> None:
    doc = Document(text="from a WET file", id="1")
    assert extract(doc) is doc
    assert doc.text == "from a WET file"


def test_plain_text_is_taken_as_it_is_if_wanted() -> None:
    doc = extract(page("  a <b> is no tag here\n", "text/plain"), plain_text=True)
    assert isinstance(doc, Document)
    assert doc.text == "a <b> is no tag here"


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_results_do_not_depend_on_the_order_of_pages(extractor: str) -> None:
    # Pages that share paragraphs: a cache of segments seen on other pages would drop them on later ones.
    rng = random.Random(1)
    pages = {str(n): article(rng.sample(PARAGRAPHS, 5)) for n in range(12)}
    stage = Extract(ExtractConfig.model_validate({"extractor": extractor}))

    def texts(order: list[str]) -> dict[str, str]:
        found = {key: stage(page(pages[key])) for key in order}
        return {key: doc.text if isinstance(doc, Document) else doc.reason for key, doc in found.items()}

    first = texts(list(pages))
    assert texts(list(reversed(pages))) == first
    assert texts(list(pages)) == first


def test_repeated_segments_within_a_page_are_dropped() -> None:
    html = article([text for paragraph in PARAGRAPHS for text in (paragraph, PARAGRAPHS[0])])
    counts = []
    for deduplicate in (True, False):
        doc = extract(page(html), deduplicate=deduplicate)
        assert isinstance(doc, Document)
        counts.append(doc.text.count(PARAGRAPHS[0]))
    assert counts == [2, 6]


@pytest.mark.parametrize(
    "settings",
    [
        {"favor_recall": True},  # and favor_precision, the default
        {"extractor": "resiliparse", "favor_precision": False},
        {"extractor": "plain", "include_comments": True},
        {"extractor": "readability"},
        {"max_bytes": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ExtractConfig.model_validate(settings)


def test_the_defaults_are_fineweb_s() -> None:
    config = ExtractConfig()
    assert (config.extractor, config.favor_precision, config.include_comments) == ("trafilatura", True, False)
    assert config.deduplicate


@pytest.mark.parametrize(
    ("html", "limit", "deeper"),
    [
        ("<div>" * 3, 2, True),
        ("<div>" * 2, 2, False),
        ("<div></div>" * 9, 2, False),
        ("<p>" * 9 + "<li>" * 9 + "<br>" * 9, 2, False),
        ("</div>" * 9 + "<DIV>" * 3, 2, True),
        ("< div>" * 9, 2, False),
        ("<svg>" + "<path d='M0 0'/>" * 9 + "</svg>", 2, False),
        ("<div/>" * 9, 2, True),
    ],
)
def test_depth(html: str, limit: int, deeper: bool) -> None:
    assert is_nested_deeper(html, limit) == deeper


def test_the_settings_import_fast() -> None:
    code = (
        "import sys, llmdata.clean.extract, llmdata.clean.language, llmdata.storage.inputs\n"
        "heavy = {'trafilatura', 'resiliparse', 'lxml', 'fasttext', 'fasttext_pybind', 'pyarrow', 'numpy', 'fsspec'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


SENTENCE = (
    "<p>The {} over the river was built long ago, and people of the village have told stories of it ever since.</p>"
)
STRUCTURED = f"""<html><body><article><h1>Bridge</h1>{SENTENCE.format("bridge")}{SENTENCE.format("road")}
<ul><li>First point<ul><li>Inner point</li></ul></li><li>Second point</li></ul><ol><li>Step one</li></ol>
<pre><code>def cross(bridge):
    if bridge.open:
        return True
</code></pre>
<table><tr><th>Year</th><th>Height</th></tr><tr><td>1901</td><td>12 m</td></tr>
<tr><td>1950</td><td><table><tr><td>before</td><td>13 m</td></tr><tr><td>after</td><td>15 m</td></tr></table></td></tr>
</table>{SENTENCE.format("tunnel")}{SENTENCE.format("ferry")}</article></body></html>"""


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_tables_in_tables_and_code_stay_readable(extractor: str) -> None:
    found = extract(page(STRUCTURED), extractor=extractor)
    assert isinstance(found, Document)
    assert "def cross(bridge):\n    if bridge.open:\n        return True" in found.text
    lines = [line.replace("|", " ").split() for line in found.text.splitlines()]
    rows = (["Year", "Height"], ["1901", "12", "m"], ["before", "13", "m"], ["after", "15", "m"])
    places = [lines.index(row) for row in rows]
    assert places == sorted(places)
    assert ["1950"] in lines


@pytest.mark.parametrize("extractor", ["trafilatura", "plain"])  # resiliparse takes a short list for a menu
def test_lists_in_lists_stay_readable(extractor: str) -> None:
    found = extract(page(STRUCTURED), extractor=extractor)
    assert isinstance(found, Document)
    lines = found.text.splitlines()
    indents = {name: next(line.index(name) for line in lines if name in line) for name in ("First", "Inner", "Second")}
    assert indents["Inner"] > indents["First"] == indents["Second"]
