"""What the extractor tells of the blocks it chose, and that it reads as the page does."""

from __future__ import annotations

import pytest

from llmdata import native
from llmdata.clean.extractor import blocks
from llmdata.clean.extractor.render import render
from llmdata.clean.extractor.tidy import tidy, without_repeats

LONG = "How bridges were built in those days"
CODE = "print('the same line of code again')"


def told(html: str) -> str:
    """The text of a page all of whose blocks were chosen."""
    page = blocks.parse(f"<body>{html}")
    kept = list(range(len(page.texts)))
    tidy(page, kept)
    return render(page, without_repeats(page, kept))


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        (f"<p>{LONG}</p><p>x</p><p>{LONG}</p>", f"{LONG}\n\nx"),
        (
            "<p>How bridges<br>were built in those days</p><p>x</p><p>" + LONG,
            "How bridges\nwere built in those days\n\nx",
        ),
        (f"<pre><div>{CODE}</div><div>{CODE}</div></pre><p>{CODE}</p><p>{CODE}</p>", f"{CODE}\n{CODE}\n\n{CODE}"),
        (f"<tr><td>{LONG}</td><td>1</td></tr><tr><td>{LONG}</td><td>2</td></tr>", f"{LONG} | 1\n{LONG} | 2"),
        # The heading, not its entries in the table of contents, however short.
        (f"<ul><li><a>{LONG}</a></li><li><a>Rope</a></li></ul><h2>{LONG}</h2><h2>Rope</h2>", f"{LONG}\n\nRope"),
        (f"<p>{LONG}</p><h2>{LONG}</h2><p>x</p><h2>{LONG}</h2>", f"{LONG}\n\nx"),
        ("<p>Rope</p><p>Ropes are laid.</p><h2>Rope</h2>", "Rope\n\nRopes are laid.\n\nRope"),
        ("<p>See <a>Rope</a></p><h2>Rope</h2>", "See Rope\n\nRope"),
        # Short texts, one behind the other.
        ("<p>Dark roast</p><p>Dark roast</p><p>9 €</p><p>Dark roast</p>", "Dark roast\n\n9 €\n\nDark roast"),
        ("<ul><li>Rope<h3>Rope</h3>is laid</li></ul>", "Rope\n\nis laid"),
        ("<tr><td>0</td><td>0</td></tr>", "0 | 0"),
        # Twice in one block.
        ("<p>EUR 163.12EUR 163.12</p>", "EUR 163.12"),
        ("<p>------------</p><p>hahahahahaha</p><p>sososo soso</p>", "------------\n\nhahahahahaha\n\nsososo soso"),
        ("<pre>x = 1;x = 1;</pre>", "x = 1;x = 1;"),
        # Permalinks.
        ("<h2>HTML forms<a>¶</a></h2><h3><a>§</a>Examples</h3>", "HTML forms\n\nExamples"),
        ("<h2>C#</h2><p>F<a>#</a></p><h2>C#<a>#</a></h2>", "C#\n\nF#\n\nC#"),
        ("<h2><a>Contents</a><a>¶</a></h2><dl><dt>size<a>¶</a></dt></dl>", "Contents\n\nsize"),
        ("<h2><a>#</a></h2><p>x</p><p>¶</p>", "x\n\n¶"),
    ],
)
def test_what_is_told(html: str, expected: str) -> None:
    if html.startswith("<tr>"):
        html = f"<table>{html}</table>"
    assert told(html) == expected


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<ul><li><h3>Sofa</h3><p>Blue</p><p>75 reviews</p></li></ul>", "Sofa\n\nBlue\n75 reviews"),
        ("<ul><li><h3>Sofa</h3><ul><li>blue</li><li>red</li></ul></li></ul>", "Sofa\n\n- blue\n- red"),
        ("<ul><li>Sofa<h3>Blue</h3><p>new</p></li></ul>", "- Sofa\n\nBlue\n\n  new"),
        ("<ul><li>a<ul><li>b</li></ul>c</li><li>d</li></ul>", "- a\n  - b\n  c\n- d"),
        ("<ul><li><pre>x</pre>is code</li></ul>", "x\n\nis code"),
    ],
)
def test_an_item_is_indented_only_behind_its_dash(html: str, expected: str) -> None:
    assert told(html) == expected


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<div>def f():</div><div>    <b>return</b> 1</div>", "def f():\n    return 1"),
        ("<div>if x:</div><div><i>  </i><i>\t</i>y</div>", "if x:\n    y"),
        ("<div>if x:</div><div>\u3000<i>\t</i>\ty</div>", "if x:\n        y"),
        ("\n  <b>x</b>\n  y", "  x\n  y"),
        ("  <div>x</div> \n <div>y</div>", "x\ny"),
        (" \n<b>\n x</b>  ", " x"),
        (" <br><b>x</b><hr> <!-- c --> <b>y</b>", "x\n  y"),
    ],
)
def test_code_keeps_the_blanks_before_its_first_word(html: str, expected: str) -> None:
    assert told(f"<pre>{html}</pre>") == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "function", lambda *_: None)
        assert told(f"<pre>{html}</pre>") == expected


def test_blanks_before_code_are_no_part_of_what_the_model_sees() -> None:
    assert blocks.parse("<pre><div>    <b>x</b></div></pre>").texts == ["x"]
