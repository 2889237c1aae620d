"""Links of a page: what lxml finds alone, checked against Beautiful Soup, which is slower and known to all."""

from __future__ import annotations

import gzip
import itertools

import pytest
from bs4 import BeautifulSoup, SoupStrainer

from llmdata import urls
from llmdata.crawl.links import MAX_SITEMAP_URLS, of_page, of_sitemap

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


@pytest.mark.parametrize("packed", [False, True])
def test_a_sitemap_ends_at_50_000_addresses(packed: bool) -> None:
    rows = "".join(f"<url><loc>/{n}</loc></url>" for n in range(MAX_SITEMAP_URLS + 10))
    page = f"<urlset>{rows}</urlset>".encode()
    found = of_sitemap("http://example.org/s.xml", gzip.compress(page, 1) if packed else page).links
    assert len(found) == 50_000
    assert str(found[-1]) == "http://example.org/49999"


def test_a_packed_sitemap_ends_at_50_mb() -> None:
    start, filler = b"<urlset><url><loc>/a</loc></url>", b"<!-- " + b"x" * 1_000_000 + b" -->"
    end = b"<url><loc>/late</loc></url></urlset>"
    for megabytes, expected in ((49, ["/a", "/late"]), (50, ["/a"])):
        found = of_sitemap("http://example.org/", gzip.compress(start + filler * megabytes + end, 1)).links
        assert [link.path for link in found] == expected


@pytest.mark.parametrize("page", [b"", b"<", b"\x1f\x8b", b"\x1f\x8b" + b"x" * 99, b"plain", b"\xff\xfe<\0"])
def test_a_sitemap_that_is_none_has_no_links(page: bytes) -> None:
    assert of_sitemap("http://example.org/", page).links == []


@pytest.mark.parametrize(
    ("entities", "paths"),
    [
        ('<!ENTITY e SYSTEM "file:///etc/passwd">', ["/", "/a"]),
        ('<!ENTITY e "lol">', ["/", "/a"]),
        ("".join(f'<!ENTITY {name} "{f"&{of};" * 99}">' for of, name in itertools.pairwise("abcde")), ["/", "/a"]),
    ],
)
def test_entities_of_a_sitemap_are_not_expanded(entities: str, paths: list[str]) -> None:
    page = f"<!DOCTYPE x [{entities}]><urlset><url><loc>/&e;</loc></url><url><loc>/a</loc></url></urlset>"
    found = of_sitemap("http://example.org/s/", page.encode()).links
    assert [link.path for link in found] == paths
