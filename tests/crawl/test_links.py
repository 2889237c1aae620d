"""Links of a page: what lxml finds alone, checked against Beautiful Soup, which is slower and known to all."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup, SoupStrainer

from llmdata import urls
from llmdata.crawl.links import of_page

URL = "http://example.org/folder/page.html"
PAGES = {
    "plain": '<a href="a.html">a</a> <a href="/b">b</a> <a href="http://other.org/c?d=e#f">c</a>',
    "repeated": '<a href="a">1</a><a href="a">2</a><a href="./a">3</a>',
    "base": '<head><base href="/elsewhere/"></head><a href="x">x</a>',
    "nested and unclosed": '<table><tr><td><a href="1"><b><a href="2">2<tr><td><a href="3">3',
    "upper case and quotes": "<A HREF='single'>s</A><a\nhref = bare>b</a>",
    "entities": '<a href="q?a=1&amp;b=2">q</a><a href="&#x2f;root">r</a>',
    "no pages": '<a href="mailto:a@b.org">m</a><a href="javascript:void(0)">j</a><a href="">e</a><a name="n">n</a>',
    "map and frames": '<map><area href="area.html"></map><iframe src="frame.html"></iframe>',
    "comment and script": '<!-- <a href="hidden">h</a> --><script>"<a href=\\"s\\">"</script><a href="seen">s</a>',
    "blanks and line ends": '<a href="  spaced out.html \n">s</a><a href="bro\nken">b</a>',
    "other scripts": '<a href="/стр/日本">s</a><a href="http://bücher.example/ü">b</a>',
}


def by_beautiful_soup(page: str) -> set[str]:
    soup = BeautifulSoup(page, "lxml", parse_only=SoupStrainer(["a", "area", "iframe", "base"]))
    base = soup.find("base", href=True)
    start = urls.join(URL, str(base["href"])) if base else URL
    found = [tag.get("href") or tag.get("src") for tag in soup.find_all(["a", "area", "iframe"])]
    return {link for href in found if href is not None and (link := urls.join(start or URL, str(href)))}


@pytest.mark.parametrize("name", PAGES)
def test_the_links_are_those_that_beautiful_soup_finds(name: str) -> None:
    page = f"<html><body>{PAGES[name]}</body></html>"
    found = of_page(URL, page.encode(), "text/html; charset=utf-8", follow_nofollow=True)
    # The page itself is no link to follow, and an empty href is the page itself.
    expected = {urls.canonical(link) for link in by_beautiful_soup(page)}
    assert {urls.canonical(str(link)) for link in found.links} | {URL} == expected | {URL}


@pytest.mark.parametrize(
    ("content", "target"),
    [
        ("0;url=api/index.html", "http://example.org/folder/api/index.html"),
        ("5; URL='/next'", "http://example.org/next"),
        ("url = ?page=2", "http://example.org/folder/page.html?page=2"),
        ("30", None),
        ("0; url=javascript:alert(1)", None),
        ("", None),
    ],
)
def test_a_page_that_sends_its_reader_on_links_there(content: str, target: str | None) -> None:
    page = f'<meta http-equiv="Refresh" content="{content}">'.encode()
    found = of_page(URL, page, "text/html", follow_nofollow=True)
    assert list(map(str, found.links)) == ([target] if target else [])


def test_links_deep_in_a_page_are_found() -> None:
    page = b"<div>" * 1000 + b"<a href=deep>" + b"</div>" * 1000 + b"<a href=after>"
    assert len(of_page(URL, page, "text/html", follow_nofollow=True).links) == 2
