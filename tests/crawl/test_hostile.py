"""Servers that mean no good: each ends as a counted, named outcome within its limit, and nothing else is lost."""

import gzip
import itertools
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from llmdata.crawl import CrawlConfig, CrawlResult, crawl
from llmdata.engine.session import Session
from llmdata.errors import InputError
from llmdata.storage.place import Place
from tests.crawl import archives
from tests.crawl.server import Page, Rude, Site, page, serving

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
MEGABYTE = b"<p>" + b"x" * 1_000_000


def drip(site: Site, start: bytes, drop: bytes) -> Rude:
    def answer(stream: IO[bytes]) -> None:
        stream.write(start)
        while not site.over.wait(0.02):
            stream.write(drop)
            stream.flush()

    return answer


def endless(start: bytes, chunk: bytes) -> Rude:
    def answer(stream: IO[bytes]) -> None:
        stream.write(start)
        for _ in itertools.count():  # until the crawler hangs up
            stream.write(chunk)

    return answer


def once(data: bytes) -> Rude:
    def answer(stream: IO[bytes]) -> None:
        stream.write(data)

    return answer


def bomb(megabytes: int) -> bytes:
    """Gzip that unpacks to so many megabytes: one flushed block, repeated, for a fifty-thousandth of their time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.flush(zlib.Z_FULL_FLUSH)
    return head + (packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)) * megabytes


def silent(site: Site) -> Rude:
    def answer(stream: IO[bytes]) -> None:
        site.over.wait()

    return answer


CASES: list[tuple[str, Callable[[Site], Page], str, str]] = [
    ("slow headers", lambda site: drip(site, b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"), "errors", "page_timeout"),
    ("slow header line", lambda site: drip(site, b"HTTP/1.1 200 OK\r\nX-A: ", b"b"), "errors", "page_timeout"),
    ("slow chunk size", lambda site: drip(site, HEAD + CHUNKED, b"0"), "errors", "page_timeout"),
    ("silence", silent, "errors", "timeout"),
    ("header bomb", lambda _: endless(HEAD, b"X-Bomb: " + b"x" * 1000 + b"\r\n"), "errors", "bad_response"),
    ("endless header", lambda _: endless(HEAD + b"X-Bomb: ", b"x" * 1000), "errors", "bad_response"),
    ("no http", lambda _: once(b"SSH-2.0-OpenSSH_9.2\r\n"), "errors", "bad_response"),
    ("hangs up", lambda _: once(b""), "errors", "reset"),
    ("short body", lambda _: once(HEAD + b"Content-Length: 1000\r\n\r\nshort"), "errors", "incomplete"),
    ("broken chunks", lambda _: once(HEAD + CHUNKED + b"zz\r\nshort"), "errors", "incomplete"),
    ("cut chunks", lambda _: once(HEAD + CHUNKED + b"10\r\nshort"), "errors", "incomplete"),
    ("gzip bomb", lambda _: (200, {"Content-Encoding": "gzip"}, bomb(10_000)), "errors", "decompression_bomb"),
    ("HTTP/0.9", lambda _: once(b"<html>hello"), "errors", "bad_response"),
    ("interim flood", lambda _: endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), "errors", "page_timeout"),
    ("cookie flood", lambda _: once(HEAD + b"Set-Cookie: a=b\r\n" * 5000 + b"\r\n"), "errors", "bad_response"),
    ("two lengths", lambda _: once(HEAD + b"Content-Length: 3\r\nContent-Length: 7\r\n\r\n"), "errors", "bad_response"),
    ("huge chunk", lambda _: once(HEAD + CHUNKED + b"ffffffffffffffff\r\nabc"), "errors", "incomplete"),
    ("endless chunk size", lambda _: endless(HEAD + CHUNKED + b"3;", b"x" * 1000), "errors", "bad_response"),
    ("no such page, broken", lambda _: once(b"HTTP/1.1 404 No\r\n" + CHUNKED + b"zz\r\nshort"), "errors", "http_404"),
    ("endless error", lambda _: endless(b"HTTP/1.1 410 Gone\r\n\r\n", b"x" * 1000), "errors", "http_410"),
    ("encoded twice", lambda _: (200, {"Content-Encoding": "gzip, gzip"}, bomb(1)), "errors", "bad_encoding"),
    ("not gzip", lambda _: (200, {"Content-Encoding": "gzip"}, "plain"), "errors", "bad_encoding"),
    ("odd encoding", lambda _: (200, {"Content-Encoding": "zstd"}, "plain"), "errors", "bad_encoding"),
    ("picture", lambda _: (200, {"Content-Type": "image/png"}, MEGABYTE), "left_out", "content_type"),
    ("to itself", lambda _: (302, {"Location": "/bad"}, ""), "errors", "redirect_to_itself"),
    ("to nowhere", lambda _: (302, {}, ""), "left_out", "redirect_no_location"),
    ("to a file", lambda _: (302, {"Location": "file:///etc/passwd"}, ""), "left_out", "redirect_no_location"),
    ("out of scope", lambda _: (302, {"Location": "http://192.168.0.1/"}, ""), "left_out", "redirect_scope"),
    ("always 503", lambda _: (503, {"Retry-After": "soon"}, ""), "errors", "http_503"),
    ("no number", lambda _: (503, {"Retry-After": "\xb2"}, ""), "errors", "http_503"),
    ("come back tomorrow", lambda _: (429, {"Retry-After": "86400"}, ""), "errors", "http_429"),
]  # fmt: skip


def run(folder: Path, site: Site, path: str = "/", **settings: Any) -> Any:
    quick = {"backoff": 0.01, "max_backoff": 0.02, "retries": 1, "page_timeout": 0.7, "timeout": 0.5}
    config = CrawlConfig.model_validate({"seeds": [site.url(path)], "max_page_bytes": 2_000_000} | quick | settings)
    return crawl(config, Place.of(folder), Session())


def run_in_vain(folder: Path, site: Site, path: str = "/", **settings: Any) -> CrawlResult:
    """A crawl that ends with an error, as it has no page; what it counted all the same."""
    with pytest.raises(InputError, match="no page could be had"):
        run(folder, site, path, **settings)
    return CrawlResult(**json.loads((folder / "crawl.json").read_text()))


def test_each_rude_answer_is_one_named_outcome(tmp_path: Path) -> None:
    site = Site("")
    for group, outcome in (("errors", "errors"), ("left_out", "left_out")):
        cases = [case for case in CASES if case[2] == group]
        pages: dict[str, Page] = {f"/bad{number}": case[1](site) for number, case in enumerate(cases)}
        pages |= {"/bad": (302, {"Location": "/bad"}, "")}
        pages |= {f"/good{number}": page(text=str(number)) for number in range(len(cases))}
        pages["/"] = page(*(path for path in pages if path != "/bad"))
        with serving(pages, site) as server:
            result = run(tmp_path / group, server, robots=False, honour=[], connections=8)
        reasons = [case[3] for case in cases]
        assert getattr(result, outcome) == {reason: reasons.count(reason) for reason in sorted(set(reasons))}
        assert result.pages == 1 + len(cases)
        archives.check(tmp_path / group)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda site: endless(HEAD + b"\r\n", MEGABYTE), "length"),
        (lambda site: endless(HEAD + CHUNKED, b"5\r\n<p>ab\r\n"), "length"),
        (lambda site: drip(site, HEAD + b"\r\n<a href='/good'>g</a>", b" drip "), "time"),
    ],
)
def test_what_came_of_an_endless_page_is_kept_and_marked(
    tmp_path: Path, answer: Callable[[Site], Rude], reason: str
) -> None:
    site = Site("")
    with serving({"/": answer(site), "/good": page()}, site) as server:
        result = run(tmp_path, server, robots=False, honour=[], max_page_bytes=30_000)
    archives.check(tmp_path)
    first = next(record for record in archives.records(tmp_path) if record.rec_type == "response")
    assert first.rec_headers.get_header("WARC-Truncated") == reason
    assert 0 < len(first.payload) <= 30_000
    assert result.pages == (2 if reason == "time" else 1)


def test_more_than_the_declared_length_is_not_taken_for_the_next_answer(tmp_path: Path) -> None:
    lies = HEAD + b"Content-Length: 18\r\n\r\n<a href='/2'>2</a>" + HEAD + b"Content-Length: 4\r\n\r\nlie!"
    with serving({"/": once(lies), "/2": page(text="the truth")}) as site:
        result = run(tmp_path, site, robots=False, honour=[], connections=1)
    bodies = [record.payload for record in archives.records(tmp_path) if record.rec_type == "response"]
    assert (result.pages, result.errors) == (2, {})
    assert b"the truth" in bodies[1]


def test_endless_redirects_end(tmp_path: Path) -> None:
    pages: dict[str, Page] = {f"/{n}": (302, {"Location": f"/{n + 1}"}, "") for n in range(100)}
    with serving(pages) as server:
        result = run_in_vain(tmp_path, server, "/0")
        assert result.errors == {"too_many_redirects": 1}
        assert server.asked.total() < 20


def test_endless_paths_are_a_trap(tmp_path: Path) -> None:
    pages: dict[str, Page] = {}
    path = "/"
    for _ in range(10):
        pages[path] = page("a/", text=path)
        path += "a/"
    with serving(pages) as server:
        result = run(tmp_path, server)
    assert result.not_followed == {"trap": 1}
    assert result.pages == 3


@pytest.mark.parametrize("target", ["http://{address}/secret", "http://localhost.localdomain:{port}/secret"])
def test_a_crawl_of_a_loopback_seed_reaches_no_other_inner_address(tmp_path: Path, target: str) -> None:
    with serving({"/secret": page(text="secret")}) as secret:
        address = secret.address.removeprefix("http://")
        location = target.format(address=address, port=address.partition(":")[2])
        with serving(
            {"/": (302, {"Location": location}, ""), "/robots.txt": (302, {"Location": location}, "")}
        ) as site:
            result = run_in_vain(tmp_path, site, scope="any", contact="me@example.org", retries=0)
        assert secret.asked.total() == 0
        assert result.pages == 0
        assert set(result.left_out) | set(result.errors) <= {"private_address", "robots_dns", "dns"}


def test_allow_private_lifts_the_rule(tmp_path: Path) -> None:
    with (
        serving({"/secret": page(text="secret")}) as secret,
        serving({"/": (302, {"Location": secret.url("/secret")}, "")}) as site,
    ):
        result = run(tmp_path, site, scope="any", contact="me@example.org", allow_private=True)
    assert result.pages == 1


def test_a_compressed_page_is_kept_as_it_was_sent(tmp_path: Path) -> None:
    body = gzip.compress(page("/other").encode())
    with serving({"/": (200, {"Content-Encoding": "gzip"}, body), "/other": page(text="2")}) as site:
        assert run(tmp_path, site).pages == 2
    archives.check(tmp_path)


def test_pages_that_are_no_html(tmp_path: Path) -> None:
    odd: list[bytes] = [
        b"", b"\x00" * 10, b"<", b"<a href", b"\xff\xfe<\x00a\x00", b"<a href=http://[>" + b"<div>" * 50_000,
        b"<a href='http://x:y/'><a href='//'><a href='\xff\xfe'><base href='::'>",
        b"<?xml version='1.0' encoding='x'?>",
    ]  # fmt: skip
    pages: dict[str, Page] = {
        f"/{n}": (200, {"Content-Type": "text/html; charset=klingon"}, o) for n, o in enumerate(odd)
    }
    pages["/"] = page(*pages)
    with serving(pages) as site:
        result = run(tmp_path, site, exclude=["%"])
    assert result.pages == len(pages)
    assert result.errors == {}
    archives.check(tmp_path)


def test_interim_answers_are_passed_over(tmp_path: Path) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 20
    with serving({"/": once(interim + HEAD + b"Content-Length: 5\r\n\r\nfinal")}) as site:
        assert run(tmp_path, site, robots=False, honour=[]).pages == 1
    (response,) = (record for record in archives.records(tmp_path) if record.rec_type == "response")
    assert (response.http_headers.get_statuscode(), response.payload) == ("200", b"final")


def test_odd_links_are_followed_as_browsers_do_or_not_at_all(tmp_path: Path) -> None:
    with serving({}) as taken:
        port = taken.address.rpartition(":")[2]
    odd = ["/" + "y" * 400_000, f"http://{'h' * 400_000}.invalid/", "http://[fe80::1%25eth0]/", "http://a b/", "//"]
    odd += ["http://169.254.169.254/", "http://[::ffff:10.0.0.1]/", "http://2130706433/x", "http://bücher.invalid/ü"]
    with serving({"/a": page(text="a")}) as site:
        seed_port = site.address.rpartition(":")[2]
        own = [f"http://user:word@127.0.0.1:{seed_port}/a", f"http://127.1:{seed_port}/a", f"http://127.0.0.1:{port}/"]
        pages: dict[str, Page] = {"/odd": page(*odd, *own)}
        with serving(pages) as start:
            result = run(tmp_path, start, "/odd", scope="any", contact="me@example.org", retries=0)
    assert result.pages == 1
    assert result.not_followed == {"url_too_long": 1}
    # 127.0.0.1 by three ports, of which none is the seed's, and three addresses within.
    assert result.left_out == {"private_address": 5}
    assert set(result.errors) == {"robots_dns"}


@pytest.mark.parametrize("delay", ["nan", "inf", "1e999", "-5", "9" * 400, "²"])
def test_a_crawl_delay_that_is_no_number_of_seconds(tmp_path: Path, delay: str) -> None:
    with serving({"/robots.txt": f"User-agent: *\nCrawl-delay: {delay}\n", "/": page()}) as site:
        result = run(tmp_path, site)
    assert (result.pages, result.left_out) in ((1, {}), (0, {"crawl_delay": 1}))
