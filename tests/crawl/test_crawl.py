import gzip
import json
import signal
import sqlite3
import time
from contextlib import closing
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llmdata.cli.app import app
from llmdata.crawl import CrawlConfig, CrawlResult, crawl
from llmdata.engine.session import Session
from llmdata.errors import ChangedError, ConfigError, InputError, Interrupted, StoppedEarly
from llmdata.storage.place import Place
from tests.crawl import archives
from tests.crawl.server import Page, page, serving

QUICK = {"backoff": 0.01, "max_backoff": 0.02}


def run(folder: Path, *seeds: str, session: Session | None = None, rerun: bool = False, **settings: Any) -> CrawlResult:
    config = CrawlConfig.model_validate({"seeds": list(seeds)} | QUICK | settings)
    return crawl(config, Place.of(folder), session or Session(), rerun=rerun)


def run_in_vain(folder: Path, *seeds: str, **settings: Any) -> CrawlResult:
    """A crawl that ends with an error, as it has no page; what it counted all the same."""
    with pytest.raises(InputError, match="no page could be had"):
        run(folder, *seeds, **settings)
    return CrawlResult(**json.loads((folder / "crawl.json").read_text()))


def paths(folder: Path) -> list[str]:
    return ["/" + url.split("/", 3)[3] for url in archives.captured(folder)]


def test_follows_links_and_captures_each_page_once(tmp_path: Path) -> None:
    site: dict[str, Page] = {
        "/": page("a", "./a#part", "b/", "/style.css", "mailto:x@y.z", "http://elsewhere.example/", "gone"),
        "/a": page("/", "/b/c?x=1&amp;y=2"),
        "/b/": page("c?x=1&y=2", "../moved", head='<base href="/b/x/">'),
        "/b/c?x=1&y=2": (200, {"Content-Type": "text/plain"}, "plain, with http://127.0.0.1/ no link"),
        "/b/x/c?x=1&y=2": page(),
        "/b/moved": (301, {"Location": "/é"}, ""),
        "/%C3%A9": page("/a"),
    }
    with serving(site) as server:
        result = run(tmp_path, server.url("/"))
        archives.check(tmp_path)
        assert paths(tmp_path) == sorted(["/", "/%C3%A9", "/a", "/b/", "/b/c?x=1&y=2", "/b/x/c?x=1&y=2"])
        assert result.ended == "done"
        assert result.pages == 6
        assert result.redirects == 1
        assert result.errors == {"http_404": 1}
        assert result.not_followed == {"scope": 1, "media": 1}
        assert server.asked["/a"] == 1
        assert server.agents == {"llmdata/0.1.0"}


def test_records_of_a_page(tmp_path: Path) -> None:
    body = page("b", head='<meta name="robots" content="index, nosnippet">')
    headers = {"X-Odd": "caf\xe9", "ETag": '"1"'}
    with serving({"/a": (200, headers, body), "/b": body}) as server:
        run(tmp_path, server.url("/a"))
    info, response, request, metadata, revisit, *_ = archives.records(tmp_path)
    assert [record.rec_type for record in (info, response, request, metadata, revisit)] == [
        "warcinfo", "response", "request", "metadata", "revisit",
    ]  # fmt: skip
    assert response.payload == body.encode()
    assert response.http_headers.get_statuscode() == "200"
    assert response.http_headers.get_header("ETag") == '"1"'
    assert response.rec_headers.get_header("WARC-Identified-Payload-Type") == "text/html"
    assert response.rec_headers.get_header("WARC-IP-Address") == "127.0.0.1"
    assert request.http_headers.to_str().startswith("GET /a HTTP/1.1\r\nHost: 127.0.0.1:")
    record_id = response.rec_headers.get_header("WARC-Record-ID")
    assert request.rec_headers.get_header("WARC-Concurrent-To") == record_id
    assert metadata.rec_headers.get_header("WARC-Concurrent-To") == record_id
    assert f"outlink: {server.url('/b')}\r\n" in metadata.payload.decode()
    assert revisit.rec_headers.get_header("WARC-Refers-To-Target-URI") == server.url("/a")
    assert revisit.rec_headers.get_header("WARC-Payload-Digest") == response.rec_headers.get_header(
        "WARC-Payload-Digest"
    )


def test_redirects_and_errors_are_archived_and_are_no_pages(tmp_path: Path) -> None:
    long = "not here " * 10_000
    site: dict[str, Page] = {
        "/": page("/moved", "/gone", "/busy", "/long", "/secret"),
        "/moved": (301, {"Location": "/new"}, "moved"),
        "/new": page(text="new"),
        "/gone": (410, {}, "gone"),
        "/busy": (503, {}, ""),
        "/long": (404, {}, long),
        "/secret": (404, {"X-Robots-Tag": "noarchive"}, "secret"),
    }
    with serving(site) as server:
        result = run(tmp_path, server.url("/"), retries=1)
        assert server.asked["/busy"] == 2
    assert (result.pages, result.redirects) == (2, 1)
    found = sorted((url.removeprefix(server.address), status) for url, status in archives.answers(tmp_path))
    assert found == [("/", "200"), ("/busy", "503"), ("/gone", "410"), ("/long", "404"), ("/moved", "301"),
                     ("/new", "200")]  # fmt: skip
    archives.check(tmp_path)
    bodies = {
        record.http_headers.get_statuscode(): (record.payload, record.rec_headers.get_header("WARC-Truncated"))
        for record in archives.records(tmp_path)
        if record.rec_type == "response"
    }
    assert bodies["301"] == (b"moved", None)
    assert bodies["404"] == (long.encode()[: 1 << 16], "length")
    verified = CliRunner().invoke(app, ["inspect", str(tmp_path), "--verify"])
    assert verified.exit_code == 0, verified.output


def test_a_finished_crawl_is_left_alone_and_a_limit_can_be_raised(tmp_path: Path) -> None:
    site: dict[str, Page] = {"/": page(*(f"/{number}" for number in range(20)))}
    site |= {f"/{number}": page(text=f"page {number}") for number in range(20)}
    with serving(site) as server:
        first = run(tmp_path, server.url("/"), max_pages=7, max_connections=5, connections=5)
        assert (first.pages, first.ended, first.queued) == (7, "max_pages", 14)
        asked = server.asked.total()
        again = run(tmp_path, server.url("/"), max_pages=7)
        assert (again.fresh, again.pages) == (False, 7)
        assert server.asked.total() == asked
        rest = run(tmp_path, server.url("/"), max_pages=100)
        assert (rest.pages, rest.ended, rest.queued) == (21, "done", 0)
        assert paths(tmp_path) == sorted(site)
        assert all(server.asked[path] == 1 for path in site)
        archives.check(tmp_path)
        with pytest.raises(ChangedError, match="exclude"):
            run(tmp_path, server.url("/"), exclude=["x"])
        assert run(tmp_path, server.url("/"), exclude=[r"/1\d?$"], rerun=True).pages == 10
        archives.check(tmp_path)


def test_progress_tells_pages_queue_hosts_and_errors_by_kind(tmp_path: Path) -> None:
    class Record:
        pages = 0
        facts: dict[str, float | int | str] = {}

        def start(self, stage: str, total: int | None, unit: str) -> None: ...
        def finish(self, stage: str, **facts: float | int | str) -> None: ...
        def note(self, message: str) -> None: ...
        def advance(self, stage: str, count: int, **facts: float | int | str) -> None:
            self.pages += count
            self.facts = facts

    session, progress = Session(), Record()
    session.progress = progress
    with serving({"/": page("/a", "/b", "/c"), "/a": page(text="a"), "/c": (410, {}, "")}) as server:
        run(tmp_path, server.url("/"), session=session)
    assert progress.pages == 2
    assert progress.facts.items() >= {"queue": 0, "hosts_waiting": 0, "errors": 2}.items()
    assert sorted(str(progress.facts["mostly"]).split(", ")) == ["http_404 1", "http_410 1"]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, StoppedEarly), (signal.SIGINT, Interrupted)])
def test_a_stopped_crawl_has_whole_archives_and_goes_on(tmp_path: Path, number: int, error: type[Exception]) -> None:
    session = Session()

    class StopAtTen:
        seen = 0

        def start(self, stage: str, total: int | None, unit: str) -> None: ...
        def finish(self, stage: str, **facts: float | int | str) -> None: ...
        def note(self, message: str) -> None: ...
        def advance(self, stage: str, count: int, **facts: float | int | str) -> None:
            self.seen += count
            if self.seen >= 10:
                session.stop.signal = number

    session.progress = StopAtTen()
    site: dict[str, Page] = {f"/{n}": page(f"/{2 * n}", f"/{2 * n + 1}", text=f"{n}") for n in range(1, 64)}
    with serving(site) as server:
        with pytest.raises(error):
            run(tmp_path, server.url("/1"), session=session)
        archives.check(tmp_path)
        assert 10 <= len(archives.captured(tmp_path)) < 63
        assert run(tmp_path, server.url("/1")).pages == 63
    archives.check(tmp_path)
    assert paths(tmp_path) == sorted(site)


@pytest.mark.parametrize("limits", [{"max_bytes": 1000}, {"max_time": 1e-6}, {"max_pages": 2}])
def test_a_limit_ends_the_crawl_by_name_and_a_wider_one_goes_on(tmp_path: Path, limits: dict[str, float]) -> None:
    site: dict[str, Page] = {f"/{n}": page(f"/{n + 1}", text=f"{n} " * 300) for n in range(10)}
    with serving(site) as server:
        result = run(tmp_path, server.url("/0"), **limits)
        assert result.ended == next(iter(limits))
        assert result.pages < 10
        assert run(tmp_path, server.url("/0")).pages == 10
    archives.check(tmp_path)


def test_archives_rotate(tmp_path: Path) -> None:
    site: dict[str, Page] = {f"/{n}": page(f"/{n + 1}", text=f"{n}") for n in range(12)}
    with serving(site) as server:
        result = run(tmp_path, server.url("/0"), warc_size=4000)
    assert len(result.warcs) > 2
    assert result.warcs == sorted(path.name for path in tmp_path.glob("*.warc.gz"))
    assert paths(tmp_path) == sorted(site)
    archives.check(tmp_path)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["/", "/docs/", "/docs/a", "/docs/a/b", "/other"]),
        ({"scope": "prefix"}, ["/docs/", "/docs/a", "/docs/a/b"]),
        ({"max_depth": 1}, ["/", "/docs/", "/docs/a"]),
        ({"exclude": ["/a$"]}, ["/", "/docs/", "/other"]),
        ({"include": ["/docs/"]}, ["/docs/", "/docs/a", "/docs/a/b"]),
        ({"max_host_pages": 2}, ["/docs/", "/docs/a"]),
    ],
)
def test_scope(tmp_path: Path, settings: dict[str, Any], expected: list[str]) -> None:
    site: dict[str, Page] = {
        "/docs/": page("a", "/"),
        "/docs/a": page("a/b"),
        "/docs/a/b": page(),
        "/": page("/other"),
        "/other": page(text="other"),
    }
    with serving(site) as server:
        run(tmp_path, server.url("/docs/"), connections=1, **settings)
    assert paths(tmp_path) == expected


def test_politeness(tmp_path: Path) -> None:
    site: dict[str, Page] = {
        "/robots.txt": "User-agent: *\nDisallow: /private\nUser-agent: llmdata\nDisallow: /ours\nCrawl-delay: 0.001\n",
        "/": page("/private", "/ours", "/ok"),
        "/private": page(text="1"),
        "/ours": page(text="2"),
        "/ok": page(text="3"),
    }
    with serving(site) as server:
        result = run(tmp_path, server.url("/"), connections=1)
        assert paths(tmp_path) == ["/", "/ok", "/private"]
        assert result.left_out == {"robots": 1}
        assert server.asked["/ours"] == 0
        assert server.most_at_once == 1
    with serving(site) as server:
        run(tmp_path, server.url("/"), connections=1, contact="https://example.org/bot", rerun=True)
        assert server.agents == {"llmdata/0.1.0 (+https://example.org/bot)"}


@pytest.mark.parametrize(
    ("status", "settings", "pages", "left_out"),
    [
        (404, {}, 1, {}),
        (403, {}, 1, {}),
        (429, {}, 0, {"robots_http_429": 1}),
        (503, {}, 0, {"robots_http_503": 1}),
        (503, {"robots": False}, 1, {}),
    ],
)
def test_robots_status(
    tmp_path: Path, status: int, settings: dict[str, Any], pages: int, left_out: dict[str, int]
) -> None:
    with serving({"/robots.txt": (status, {}, ""), "/": page()}) as server:
        result = (run if pages else run_in_vain)(tmp_path, server.url("/"), retries=1, **settings)
    assert (result.pages, result.left_out) == (pages, left_out)


def test_rules_for_other_crawlers_count_when_asked(tmp_path: Path) -> None:
    site: dict[str, Page] = {"/robots.txt": "User-agent: CCBot\nDisallow: /a\n", "/": page("/a"), "/a": page(text="a")}
    with serving(site) as server:
        assert run(tmp_path / "1", server.url("/")).pages == 2
        assert run(tmp_path / "2", server.url("/"), honour_agents=["CCBot", "GPTBot"]).left_out == {"robots": 1}


def test_a_crawl_delay_beyond_the_limit_leaves_the_host_out(tmp_path: Path) -> None:
    with serving({"/robots.txt": "User-agent: *\nCrawl-delay: 86400\n", "/": page()}) as server:
        assert run(tmp_path, server.url("/")).left_out == {"crawl_delay": 1}


CONSENT: dict[str, tuple[Page, str]] = {
    "/noindex": (page("/found", head='<meta name="ROBOTS" content="NoIndex,follow">'), "noindex"),
    "/none": (page("/hidden", head='<meta name="robots" content="none">'), "noindex"),
    "/noarchive": ((200, {"X-Robots-Tag": "noarchive"}, page()), "noarchive"),
    "/noai": (page(head='<meta name="robots" content="noai, noimageai">'), "noai"),
    "/ours": (page(head='<meta name="llmdata" content="noindex">'), "noindex"),
    "/tdm": ((200, {"TDM-Reservation": "1"}, page()), "tdm"),
    "/tdm-meta": (page(head='<meta name="tdm-reservation" content="1">'), "tdm"),
    "/usage": ((200, {"Content-Usage": "train-ai=n"}, page()), "signals"),
    "/signal": ((200, {"Content-Signal": "search=yes, ai-train=no"}, page()), "signals"),
    "/reserved/x": (page(text="reserved"), "tdm"),
    "/signed/x": (page(text="signed"), "signals"),
}
WELCOME: dict[str, Page] = {
    "/googlebot": (200, {"X-Robots-Tag": "googlebot: noindex"}, page(text="g")),
    "/open": (200, {"TDM-Reservation": "0", "Content-Signal": "ai-train=yes"}, page(text="o")),
    "/found": page(text="found"),
    "/nofollow": page("/hidden", head='<meta name="robots" content="nofollow">'),
    "/link": page(text='<a rel="nofollow" href="/hidden">x</a>'),
    "/robots.txt": (200, {}, "User-agent: *\nAllow: /\nContent-Signal: /signed/ ai-train=no\n"),
    "/.well-known/tdmrep.json": (200, {}, '[{"location": "/reserved/*", "tdm-reservation": 1}]'),
}


def test_consent_is_honoured_and_counted(tmp_path: Path) -> None:
    site = {path: answer for path, (answer, _) in CONSENT.items()} | WELCOME
    site |= {"/": page(*(path for path in site if path not in ("/found", "/robots.txt"))), "/hidden": page(text="h")}
    with serving(site) as server:
        result = run(tmp_path, server.url("/"), exclude=["well-known"])
        assert paths(tmp_path) == ["/", "/found", "/googlebot", "/link", "/nofollow", "/open"]
        reasons = [reason for _, reason in CONSENT.values()]
        assert result.left_out == {reason: reasons.count(reason) for reason in sorted(set(reasons))}
        everything = run(tmp_path, server.url("/"), exclude=["well-known"], honour=[], rerun=True)
        assert everything.left_out == {}
        assert everything.pages == 7 + len(CONSENT)


def test_seeds_may_be_sitemaps_and_feeds(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    site: dict[str, Page] = {
        "/sitemap.xml": (200, {"Content-Type": "application/xml"}, f"{bomb}<urlset><url><loc>/a</loc></url></urlset>"),
        "/feed": (200, {"Content-Type": "application/atom+xml"}, '<feed><entry><link href="/b"/></entry></feed>'),
        "/a": page(text="a"),
        "/b": page(text="b"),
    }
    with serving(site) as server:
        result = run(tmp_path, server.url("/sitemap.xml"), server.url("/feed"))
    assert paths(tmp_path) == ["/a", "/b"]
    assert result.left_out == {}


def test_a_served_folder_is_crawled_with_seeds_as_paths(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    (pages / "sub").mkdir(parents=True)
    (pages / "index.html").write_text(page("sub/a.html"))
    (pages / "sub/a.html").write_text(page())
    result = run(tmp_path / "out", "/index.html", site={"folder": str(pages)})
    assert paths(tmp_path / "out") == ["/index.html", "/sub/a.html"]
    assert result.pages == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": ["https://example.org/"]}, "contact"),
        ({"seeds": ["http://localhost/"], "scope": "any"}, "contact"),
        ({"seeds": []}, "nothing to crawl"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_created(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        crawl(CrawlConfig.model_validate(settings), Place.of(tmp_path / "out"), Session())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("settings", [{"seeds": ["/a"]}, {"seeds": ["ftp://x/"]}, {"include": ["("]}])
def test_wrong_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"seed|regular expression"):
        CrawlConfig.model_validate(settings)


def test_a_frontier_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "frontier.sqlite").write_text("this is no database, but it is long enough to be looked at" * 100)
    with pytest.raises(InputError, match="not the frontier"):
        run(tmp_path, "http://127.0.0.1:9/")


def test_what_was_left_out_is_listed_with_its_reason(tmp_path: Path) -> None:
    site: dict[str, Page] = {
        "/robots.txt": "User-agent: *\nDisallow: /private\n",
        "/": page("/gone", "/private/x", "/noai"),
        "/noai": (200, {"X-Robots-Tag": "noai"}, page()),
    }
    with serving(site) as server:
        run(tmp_path, server.url("/"))
    header, *rows = [line.split("\t") for line in (tmp_path / "left-out.tsv").read_text().splitlines()]
    assert header == ["url", "outcome", "reason", "found_on"]
    assert sorted((url.split("/", 3)[3], outcome, reason) for url, outcome, reason, _ in rows) == [
        ("gone", "error", "http_404"),
        ("noai", "left_out", "noai"),
        ("private/x", "left_out", "robots"),
    ]
    assert {found_on for *_, found_on in rows} == {server.url("/")}


XML = {"Content-Type": "application/xml"}


def sitemap(*locations: str, of: str = "url") -> str:
    return f"<urlset>{''.join(f'<{of}><loc>{location}</loc></{of}>' for location in locations)}</urlset>"


@pytest.mark.parametrize("named", [True, False])
def test_sitemap_indexes_lead_to_sitemaps_and_pages(tmp_path: Path, named: bool) -> None:
    """From robots.txt when asked for, or as a seed; gzip, an index that names itself, and one of another host."""
    packed = gzip.compress(sitemap("/b", "/c").encode())
    site: dict[str, Page] = {
        "/": page(text="home"),
        "/index.xml": (200, XML, sitemap("/index.xml", "/1.xml.gz", "http://elsewhere.example/s.xml", of="sitemap")),
        "/1.xml.gz": (200, {"Content-Type": "application/x-gzip"}, packed),
        "/b": page(text="b"),
        "/c": page(text="c"),
    }
    with serving(site) as server:
        site["/robots.txt"] = f"User-agent: *\nDisallow: /c\nSitemap: {server.url('/index.xml')}\n"
        seed, settings = ("/", {"sitemaps": True}) if named else ("/index.xml", {})
        result = run(tmp_path, server.url(seed), **settings)
    assert paths(tmp_path) == (["/", "/b"] if named else ["/b"])
    assert (result.errors, result.left_out) == ({}, {"robots": 1})


def test_a_sitemap_may_be_larger_than_a_page(tmp_path: Path) -> None:
    site: dict[str, Page] = {"/s.xml": (200, XML, sitemap("/a") + " " * 50_000), "/a": page()}
    with serving(site) as server:
        assert run(tmp_path, server.url("/s.xml"), max_page_bytes=10_000).pages == 1


def test_feeds_lead_to_their_entries(tmp_path: Path) -> None:
    rss = "<rss><channel><link>/home</link><item><title>t</title><link>/a</link></item></channel></rss>"
    entries = '<entry><link href="b"/></entry><entry><link href="/c"/></entry>'
    atom = f'<feed xmlns="http://www.w3.org/2005/Atom">{entries}</feed>'
    site: dict[str, Page] = {
        "/rss": (200, {"Content-Type": "application/rss+xml"}, rss),
        "/blog/atom": (200, {"Content-Type": "application/atom+xml; charset=utf-8"}, atom),
        **{path: page(text=path) for path in ("/home", "/a", "/blog/b", "/c")},
    }
    with serving(site) as server:
        result = run(tmp_path, server.url("/rss"), server.url("/blog/atom"))
    assert paths(tmp_path) == ["/a", "/blog/b", "/c", "/home"]
    assert (result.errors, result.left_out) == ({}, {})


@pytest.mark.parametrize("answer", [(503, "120"), (429, "date")])
def test_a_host_that_says_when_to_come_back_is_left_alone_until_then(tmp_path: Path, answer: tuple[int, str]) -> None:
    status, wait = answer
    value = formatdate(time.time() + 120, usegmt=True) if wait == "date" else wait
    with serving({"/": (status, {"Retry-After": value}, "")}) as server:
        began = time.time()
        result = run(tmp_path, server.url("/"), max_time=0.3, max_backoff=300)
        assert server.asked["/"] == 1
    assert (result.ended, result.queued, result.errors) == ("max_time", 1, {})
    with closing(sqlite3.connect(tmp_path / "frontier.sqlite")) as db:
        ((due,),) = db.execute("SELECT due FROM host").fetchall()
    assert 118 < due - began < 130


def test_query_variants_end(tmp_path: Path) -> None:
    class Endless(dict[str, Page]):
        """Every page links to two more that differ in the query alone, as calendars and shops do."""

        def get(self, path: str, default: Page = "") -> Page:  # type: ignore[override]
            if not path.startswith("/shop"):
                return (404, {}, "")
            number = int(path.partition("?page=")[2] or 1)
            return page(f"/shop?page={2 * number}", f"/shop?page={2 * number + 1}", text=str(number))

    with serving(Endless()) as server:
        result = run(tmp_path, server.url("/shop"), max_query_variants=20, connections=1)
    assert result.pages == 21
    assert result.not_followed["query_variants"] > 0
    assert result.queued == 0


def test_a_server_that_answers_all_alike_has_an_end(tmp_path: Path) -> None:
    class Alike(dict[str, Page]):
        def get(self, path: str, default: Page = "") -> Page:  # type: ignore[override]
            return (404, {}, "") if path == "/robots.txt" else page("a/", "b/")

    with serving(Alike()) as server:
        result = run(tmp_path, server.url("/"), connections=1, honour=[])
    assert result.pages < 80
    assert result.not_followed["repeated_page"] > 0


def test_proxies_are_used_only_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: dict[str, Page] = {"/": page("/b", text="direct"), "/b": page(text="b")}
    with serving(pages) as server:
        proxied: dict[str, Page] = {server.url("/"): page(text="through the proxy")}
        with serving(proxied) as proxy:
            monkeypatch.setenv("http_proxy", proxy.address)
            monkeypatch.setenv("no_proxy", "")
            assert run(tmp_path / "direct", server.url("/")).pages == 2
            assert proxy.asked.total() == 0
            assert run(tmp_path / "proxy", server.url("/"), use_proxies=True).pages == 1
            assert proxy.asked[server.url("/")] == 1
    (response,) = (record for record in archives.records(tmp_path / "proxy") if record.rec_type == "response")
    assert b"through the proxy" in response.payload
    assert response.rec_headers.get_header("WARC-IP-Address") is None


def test_an_expired_robots_txt_is_better_than_none(tmp_path: Path) -> None:
    site: dict[str, Page] = {
        "/robots.txt": "User-agent: *\nDisallow: /b\n",
        "/": page("/a", "/b"),
        "/a": page("/b", text="a"),
        "/b": page(text="b"),
    }
    with serving(site) as server:
        assert run(tmp_path, server.url("/"), max_pages=1).pages == 1
        site["/robots.txt"] = (503, {}, "")
        with closing(sqlite3.connect(tmp_path / "frontier.sqlite")) as db, db:
            db.execute("UPDATE host SET ruled_at = 0")  # more than a day has passed
        result = run(tmp_path, server.url("/"))
        assert server.asked["/robots.txt"] == 2
    assert paths(tmp_path) == ["/", "/a"]
    assert result.left_out == {"robots": 1}


@pytest.mark.parametrize(("hops", "pages"), [(5, 0), (6, 1)])
def test_robots_txt_is_followed_through_five_redirects(tmp_path: Path, hops: int, pages: int) -> None:
    site: dict[str, Page] = {f"/r{n}": (301, {"Location": f"/r{n + 1}"}, "") for n in range(1, hops)}
    site["/robots.txt"] = (301, {"Location": "/r1"}, "")
    site |= {f"/r{hops}": "User-agent: *\nDisallow: /\n", "/": page()}
    with serving(site) as server:
        assert run(tmp_path, server.url("/")).pages == pages


def test_rules_of_robots_txt_beyond_500_kib_are_ignored(tmp_path: Path) -> None:
    filler = "# filler\n" * (500 * 1024 // 9 - 10)
    text = f"User-agent: *\nDisallow: /a\n{filler}{'#' * 100}\nDisallow: /b\n"
    site: dict[str, Page] = {"/robots.txt": text, "/": page("/a", "/b"), "/a": page(text="a"), "/b": page(text="b")}
    with serving(site) as server:
        run(tmp_path, server.url("/"))
    assert paths(tmp_path) == ["/", "/b"]


def test_a_page_in_trouble_is_tried_again_and_captured(tmp_path: Path) -> None:
    class Flaky(dict[str, Page]):
        answers = iter([(503, {"Retry-After": "0"}, ""), (429, {}, ""), (500, {}, "")])

        def get(self, path: str, default: Page = "") -> Page:  # type: ignore[override]
            return super().get(path, default) if path != "/" else next(self.answers, page(text="at last"))

    with serving(Flaky()) as server:
        result = run(tmp_path, server.url("/"), retries=3)
        assert server.asked["/"] == 4
    assert (result.pages, result.errors) == (1, {})
