"""What fuzzing starts from: small pages of each kind, in each charset, and texts that filters have rules for."""

from __future__ import annotations

from pathlib import Path

from tests.clean.test_any_text import PIECES
from tests.clean.test_decode import CHARSETS, SENTENCES, page
from tests.clean.test_extract import PARAGRAPHS, STRUCTURED, article

LABELS = ["utf-8", "", *(label for label, _, _ in CHARSETS)]
"""What a header may say; the first byte of a fuzzed page chooses."""

PAGES = [
    STRUCTURED,
    article(PARAGRAPHS[:2], "<table><caption>c<tr><th colspan=2>a<td>b<tr><td><table><tr><td>x</table></table>"),
    "<dl><dt>term<dd>what it is<dt>next</dl><blockquote><p>said</blockquote><hr><pre>a\n  b</pre>",
    "<ul><li>a<ol start=3><li value=9>b</ol><li><p>c</ul><select><option>x<optgroup><option>y</select>",
    "<form><input value=a><textarea>b</textarea><button>c</button></form><iframe srcdoc='<p>d'></iframe>",
    "<svg><foreignObject><p>a</foreignObject></svg><math><mi>x</mi><annotation-xml><p>b</annotation-xml></math>",
    "<template><p>hidden</template><noscript><p>no</noscript><script>if (a < b) '</p>'</script><style>p{}</style>",
    "<p>a<b>b<i>c</b>d</i><a href=x>e<a href=y>f</a><div><p>g</div><center>h<font color=red>i</center>",
    "<article class=post><h2>t</h2><p>x</p></article><div class=comment id=comment-1><p>y</p></div><footer>z",
    "<!doctype html><!-- a --><![CDATA[b]]><?php c ?><p title='&amp;&#x41;&notit;&#0;'>&lt;d&gt;&nbsp;&#xD800;",
    "<head><meta http-equiv=refresh content='0;url=x'><base href=//h/><link rel=next><title>a</title><frameset>",
    "<p>" + "<br>".join(f"line {number}" for number in range(9)) + "<wbr>&shy;<ruby>漢<rt>kan</ruby>",
]
TEXTS = [
    *SENTENCES.values(),
    "\n\n".join(PARAGRAPHS),
    "- a\n- b\n• c\n# d\n| e | f |\n1. g…\nread more...\n",
    "Mail a@b.co, call +1 202-555-0143, 8.8.8.8, 2001:4860:4860::8888, 4111 1111 1111 1111, DE89370400440532013000.",
    "function() { var x; } lorem ipsum. Please enable javascript. Terms of use. Sign in [1] [edit] 3 likes",
    "word word word word word word word word. " * 5 + "line.\n" * 5,
    "".join(PIECES),
]


def write_pages(folder: Path) -> None:
    """Each page with the byte that names its charset in front."""
    for number, html in enumerate(PAGES):
        (folder / f"page-{number}").write_bytes(b"\0" + html.encode())
    for number, (_, encoding, language) in enumerate(CHARSETS):
        (folder / f"charset-{number}").write_bytes(bytes([number + 2]) + page(language, encoding)[0])


def write_texts(folder: Path) -> None:
    for number, text in enumerate(TEXTS):
        (folder / f"text-{number}").write_bytes(text.encode("utf-8", "surrogatepass"))
