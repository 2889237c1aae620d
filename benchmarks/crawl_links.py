"""Links of a page by lxml, as the crawl takes them, beside Beautiful Soup and selectolax, in turns, in one process.

    python benchmarks/crawl_links.py [WARC…] [--pages 200] [--rounds 5]

Without archives the page is made up (270 kB, 1,500 links). Beautiful Soup has lxml and a SoupStrainer, and only finds
the addresses; selectolax does all that ours does, by the same rules, and the pages with the same list are counted.
Last, each reads a page of 250 kB that is nothing but nested elements.
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

from llmdata import urls
from llmdata.crawl.links import of_page

URL = "http://example.org/folder/page.html"
WANTED = "a[href], area[href], iframe[src], frame[src], base[href], meta[content], link[href]"
RELATIONS = {"next", "prev", "canonical", "alternate"}
STRAINER = SoupStrainer(["a", "area", "iframe", "base", "meta", "link"])


def ours(page: bytes) -> list[str]:
    found = of_page(URL, page, "text/html; charset=utf-8", follow_nofollow=True)
    return list(map(str, found.links))


def beautiful_soup(page: bytes) -> list[str]:
    return [str(tag["href"]) for tag in BeautifulSoup(page, "lxml", parse_only=STRAINER).find_all("a", href=True)]


def selectolax(page: bytes) -> list[str]:
    from selectolax.lexbor import LexborHTMLParser

    base, hrefs, meta = urls.parse(URL), {}, []
    for node in LexborHTMLParser(page).css(WANTED):
        attributes, tag = node.attributes, node.tag
        if tag == "meta":
            meta.append((attributes.get("name") or attributes.get("http-equiv"), attributes.get("content")))
            continue
        if tag == "base":
            base = urls.parse(attributes.get("href") or "", base) or base
            continue
        relations = (attributes.get("rel") or "").lower().split()
        if tag != "link" or (RELATIONS.intersection(relations) and "stylesheet" not in relations):
            hrefs[attributes.get("href") or attributes.get("src") or ""] = None
    parsed = (urls.parse(href, base) for href in hrefs)
    links = dict.fromkeys(url._replace(fragment=None, userinfo="") for url in parsed if url is not None)
    return list(map(str, links))


def main() -> None:
    """Time the ways in turns and print milliseconds a page, each round's median taken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", nargs="*", type=Path)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    pages = [page for path in given.archives for page in pages_of(path)][: given.pages] or [made_up()] * 20
    ways: dict[str, Callable[[bytes], list[str]]] = {"lxml (ours)": ours, "Beautiful Soup": beautiful_soup}
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
    report = {"load": os.getloadavg(), "pages": len(pages), "bytes": size, "ms_per_page": milliseconds}
    if "selectolax" in ways:
        report["same_lists"] = sum(ours(page) == selectolax(page) for page in pages)
    nested = {}
    for name, way in ways.items():
        began = time.process_time()
        way(b"<div>" * 50_000)
        nested[name] = round(time.process_time() - began, 2)
    print(json.dumps(report | {"seconds_for_nested_elements": nested}))


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
