"""Links of a page by lxml, as the crawl takes them, beside Beautiful Soup and selectolax, in turns, in one process.

    python benchmarks/crawl_links.py [WARC…] [--pages 200] [--rounds 5]

Without archives the page is made up (270 kB, 1,500 links). Beautiful Soup has lxml and a SoupStrainer; it and
selectolax only find the addresses, while ours also reads meta tags and rel, joins and canonicalises.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from bs4 import BeautifulSoup, SoupStrainer  # type: ignore[attr-defined]

from llmdata.crawl.links import of_page

URL = "http://example.org/folder/page.html"
STRAINER = SoupStrainer(["a", "area", "iframe", "base", "meta", "link"])


def ours(page: bytes) -> int:
    return len(of_page(URL, page, "text/html; charset=utf-8", follow_nofollow=False).links)


def beautiful_soup(page: bytes) -> int:
    return len(BeautifulSoup(page, "lxml", parse_only=STRAINER).find_all("a", href=True))


def selectolax(page: bytes) -> int:
    from selectolax.lexbor import LexborHTMLParser

    return len([node.attributes["href"] for node in LexborHTMLParser(page).css("a[href]")])


def main() -> None:
    """Time the ways in turns and print milliseconds a page, each round's median taken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", nargs="*", type=Path)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    pages = [page for path in given.archives for page in pages_of(path)][: given.pages] or [made_up()] * 20
    ways: dict[str, Callable[[bytes], int]] = {"lxml (ours)": ours, "Beautiful Soup": beautiful_soup}
    try:
        selectolax(b"<a href=x>")
        ways["selectolax"] = selectolax
    except ImportError:
        print("selectolax is not installed: left out")
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, way in ways.items():
            began = time.process_time()
            for page in pages:
                way(page)
            taken[name].append(1000 * (time.process_time() - began) / len(pages))
    size = sum(map(len, pages)) // len(pages)
    milliseconds = {name: round(statistics.median(times), 2) for name, times in taken.items()}
    print(json.dumps({"load": os.getloadavg(), "pages": len(pages), "bytes": size, "ms_per_page": milliseconds}))


def pages_of(path: Path) -> list[bytes]:
    from warcio.archiveiterator import ArchiveIterator

    with path.open("rb") as stream:
        return [record.content_stream().read() for record in ArchiveIterator(stream) if record.rec_type == "response"]


def made_up() -> bytes:
    row = (
        '<p class="c">Some text to go with it, as it is <b>found</b> on pages. <a href="/p/{0}.html?x={0}">link</a></p>'
    )
    return ("<html><body>" + "".join(row.format(number) + "x" * 70 for number in range(1500))).encode()


if __name__ == "__main__":
    main()
