"""A small web of generated English prose, as HTML pages and as WARC files: the same bytes every time."""

from __future__ import annotations

import io
import random
from pathlib import Path

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

NOUNS = """river garden machine teacher village engine winter letter harbour student market window doctor mountain
bridge kitchen captain forest library island farmer painting station orchard lantern valley merchant factory journal
festival railway cathedral blanket compass meadow theatre hospital colony museum sailor workshop""".split()
VERBS = """carried followed painted repaired discovered described measured opened crossed watched gathered restored
remembered visited explained examined collected changed surprised welcomed protected borrowed imagined""".split()
ADJECTIVES = """old quiet narrow bright heavy early famous broken gentle distant wooden careful hungry northern modern
curious golden patient empty local honest sudden dusty clever""".split()
PLACES = """near the coast, behind the hill, in the old town, across the water, under the tall trees, along the northern
road, in the middle of the square, beside the railway, at the edge of the wood""".split(",")
WHEN = """In the spring, After the long war, During the first week, Before the storm, Every summer, In those years,
Late in the century, At the beginning, For many days, On a cold evening""".split(",")


def sentence(rng: random.Random) -> str:
    """One English sentence."""

    def thing() -> str:
        return f"{rng.choice(['the', 'a', 'this', 'every'])} {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"

    shapes = (
        lambda: f"{rng.choice(WHEN).strip()}, {thing()} {rng.choice(VERBS)} {thing()} {rng.choice(PLACES).strip()}.",
        lambda: f"The {rng.choice(NOUNS)} that {thing()} {rng.choice(VERBS)} was to be {rng.choice(ADJECTIVES)} again.",
        lambda: (
            f"We have {rng.choice(VERBS)} {thing()} with {thing()}, and {thing()} was {rng.choice(PLACES).strip()}."
        ),
        lambda: f"Nobody of {thing()} {rng.choice(VERBS)} {thing()}, because {thing()} had to be {rng.choice(VERBS)}.",
    )
    text = rng.choice(shapes)()
    return text[0].upper() + text[1:]


def prose(seed: int, paragraphs: int = 6) -> list[str]:
    """Paragraphs of several sentences each."""
    rng = random.Random(seed)
    return [" ".join(sentence(rng) for _ in range(rng.randint(4, 7))) for _ in range(paragraphs)]


def page(number: int, pages: int, text: list[str] | None = None) -> str:
    """Page `number` of a site: some prose, links to its neighbours."""
    body = "\n".join(f"<p>{paragraph}</p>" for paragraph in (prose(number) if text is None else text))
    links = " ".join(
        f'<a href="/page-{other % pages}.html">next {other % pages}</a>' for other in (number + 1, number * 2)
    )
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>Page {number}</title></head>"
        f"<body><nav>{links}</nav><main><h1>The chronicle, chapter {number}</h1>\n{body}</main></body></html>"
    )


def write_warc(path: Path, numbers: range, pages: int = 10_000) -> Path:
    """A WARC file, one response a page. Every tenth page repeats its neighbour's text, every seventh is too short."""
    buffer = io.BytesIO()
    writer = WARCWriter(buffer, gzip=True)
    for number in numbers:
        text = None
        if number % 10 == 9:
            text = prose(number - 1)
        elif number % 7 == 3:
            text = ["Nothing to read here."]
        record = writer.create_warc_record(
            f"http://example.org/page-{number}.html",
            "response",
            payload=io.BytesIO(page(number, pages, text).encode()),
            http_headers=StatusAndHeaders(
                "200 OK", [("Content-Type", "text/html; charset=utf-8")], protocol="HTTP/1.1"
            ),
            warc_headers_dict={
                "WARC-Record-ID": f"<urn:uuid:00000000-0000-4000-8000-{number:012}>",
                "WARC-Date": "2026-01-01T00:00:00Z",
            },
        )
        writer.write_record(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return path
