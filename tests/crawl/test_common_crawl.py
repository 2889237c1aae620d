"""Files and captures from a server laid out like Common Crawl's, which cuts, refuses and changes its mind."""

import gzip
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from llmdata.crawl import CrawlConfig, records
from llmdata.crawl.common_crawl import Fetched, fetch_domain, fetch_files
from llmdata.crawl.fetch import Answer, Job
from llmdata.engine.session import Session
from llmdata.errors import ConfigError, InputError, StoppedEarly
from llmdata.storage.manifest import Manifest
from llmdata.storage.place import Place
from tests.crawl import archives

FOLDER = "crawl-data/CC-MAIN-2024-10/segments/1/warc/"


class Mirror:
    """What the server has, what it is to do wrong, and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.index: list[dict[str, str]] = []
        self.pages = True
        self.ranges = True
        self.trouble: dict[str, list[Any]] = {}
        """Per path, what the next answers do: a status, a redirect, or after how many bytes to cut."""
        self.asked: Counter[str] = Counter()
        self.sent = 0
        self.address = ""

    def add(self, path: str, data: bytes) -> None:
        self.files[f"/{path}"] = data


@contextmanager
def serving() -> Iterator[Mirror]:
    mirror = Mirror()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            mirror.asked[path] += 1
            trouble = mirror.trouble.get(path, [])
            act = trouble.pop(0) if trouble else None
            if isinstance(act, str):
                self.answer(302, b"", {"Location": act})
            elif act in (403, 429, 500, 503):
                self.answer(act, b"slow down", {"Retry-After": "0"})
            elif path.endswith("-index"):
                self.look_up()
            elif path not in mirror.files:
                self.answer(404, b"<Error>NoSuchKey</Error>")
            else:
                self.file(mirror.files[path], act)

        def file(self, data: bytes, cut: int | None) -> None:
            etag = f'"{hashlib.md5(data).hexdigest()}"'
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if wanted is None or not mirror.ranges or self.headers.get("If-Range", etag) != etag:
                self.answer(200, data, {"ETag": etag}, cut)
                return
            start, end = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
            if start >= len(data):
                self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            part = {"ETag": etag, "Content-Range": f"bytes {start}-{end}/{len(data)}"}
            self.answer(206, data[start : end + 1], part, cut)

        def look_up(self) -> None:
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            assert query["matchType"] == "domain"
            if not mirror.pages and query.keys() & {"showNumPages", "page"}:
                self.answer(400, b'{"message": "Page API not supported"}')
                return
            found = [line for line in mirror.index if urlsplit(line["url"]).netloc.endswith(query["url"])]
            if "showNumPages" in query:
                self.answer(200, json.dumps({"pages": -(-len(found) // 3), "pageSize": 5, "blocks": 1}).encode())
                return
            at = 3 * int(query["page"]) if "page" in query else 0
            lines = found[at : at + 3] if "page" in query else found
            body = "".join(json.dumps(line) + "\n" for line in lines).encode()
            self.answer(200 if lines else 404, body or b'{"message": "No Captures found"}')

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: Any = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:cut])
            mirror.sent += len(body[:cut])
            self.close_connection = cut is not None

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        mirror.address = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield mirror
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serving() as found:
        yield found


def config(**settings: Any) -> CrawlConfig:
    return CrawlConfig.model_validate({"backoff": 0.01, "max_backoff": 0.02, "timeout": 5} | settings)


def noise(seed: int, size: int = 300_000) -> bytes:
    return hashlib.shake_128(bytes([seed])).digest(size)


def files(mirror: Mirror, out: Path, session: Session | None = None, **settings: Any) -> Fetched:
    source = settings.pop("source", f"{mirror.address}crawl-data/CC-MAIN-2024-10/warc.paths.gz")
    return fetch_files(config(), source, Place.of(out), session or Session(), **settings)


@pytest.fixture
def three(mirror: Mirror) -> list[str]:
    names = [f"CC-MAIN-20240220-0000{n}.warc.gz" for n in range(3)]
    for n, name in enumerate(names):
        mirror.add(FOLDER + name, noise(n))
    listed = "".join(f"{FOLDER}{name}\n" for name in names)
    mirror.add("crawl-data/CC-MAIN-2024-10/warc.paths.gz", gzip.compress(listed.encode()))
    return names


def test_files_come_whole_through_503_and_cut_connections(mirror: Mirror, three: list[str], tmp_path: Path) -> None:
    mirror.trouble = {f"/{FOLDER}{three[0]}": [503, 429, 100_000, 503, 50_000], f"/{FOLDER}{three[1]}": [403]}
    done = files(mirror, tmp_path, limit=2)
    assert (done.files, done.fetched, done.bytes) == (2, 2, 600_000)
    assert sorted(path.name for path in tmp_path.glob("CC-*")) == three[:2]
    assert all((tmp_path / name).read_bytes() == noise(n) for n, name in enumerate(three[:2]))
    assert mirror.sent < 601_000  # what had arrived before a cut was not sent again
    again = files(mirror, tmp_path)
    assert (again.files, again.fetched) == (3, 1)
    assert mirror.asked[f"/{FOLDER}{three[1]}"] == 2


def test_a_stopped_download_goes_on_where_it_was(mirror: Mirror, three: list[str], tmp_path: Path) -> None:
    mirror.trouble = {f"/{FOLDER}{three[0]}": [200_000, 503, 503, 503, 503]}
    with pytest.raises(InputError, match=r"1 of 1 files could not be had.*http_503"):
        files(mirror, tmp_path, limit=1)
    assert (tmp_path / f"{three[0]}.part").stat().st_size == 200_000
    before = mirror.sent
    assert files(mirror, tmp_path, limit=1).fetched == 1
    assert mirror.sent - before < 101_000
    assert (tmp_path / three[0]).read_bytes() == noise(0)
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_changed_meanwhile_is_fetched_anew(
    mirror: Mirror, three: list[str], tmp_path: Path, ranges: bool
) -> None:
    mirror.trouble = {f"/{FOLDER}{three[0]}": [200_000, 503, 503, 503, 503]}
    with pytest.raises(InputError):
        files(mirror, tmp_path, limit=1)
    mirror.add(FOLDER + three[0], noise(9, 150_000))
    mirror.ranges = ranges
    files(mirror, tmp_path, limit=1)
    assert (tmp_path / three[0]).read_bytes() == noise(9, 150_000)


def test_a_part_that_is_complete_needs_no_more_bytes(mirror: Mirror, three: list[str], tmp_path: Path) -> None:
    data = noise(0)
    address = f"{mirror.address}{FOLDER}{three[0]}"
    (tmp_path / f"{three[0]}.part").write_bytes(data)
    mark = {"url": address, "validator": f'"{hashlib.md5(data).hexdigest()}"'}
    (tmp_path / f"{three[0]}.part.json").write_text(json.dumps(mark))
    assert files(mirror, tmp_path, source=address).fetched == 1
    assert mirror.sent == 0
    assert (tmp_path / three[0]).read_bytes() == data


def test_a_file_that_was_whole_when_the_command_was_killed_is_not_sent_again(
    mirror: Mirror, three: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Manifest, folder: Place) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Manifest, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            files(mirror, tmp_path, limit=1)
    assert files(mirror, tmp_path, limit=1).fetched == 1
    assert mirror.asked[f"/{FOLDER}{three[0]}"] == 1
    assert not list(tmp_path.glob("*.part*"))


def test_redirects_are_followed_but_not_to_inner_addresses(mirror: Mirror, three: list[str], tmp_path: Path) -> None:
    address = f"{mirror.address}{FOLDER}moved.warc.gz"
    with serving() as inner:
        mirror.trouble = {f"/{FOLDER}moved.warc.gz": [three[0], f"{inner.address}secret"]}
        assert files(mirror, tmp_path, source=address).bytes == 300_000
        with pytest.raises(InputError, match="private_address"):
            files(mirror, tmp_path / "other", source=address)
        assert inner.asked.total() == 0


def test_one_missing_file_does_not_keep_the_others(mirror: Mirror, three: list[str], tmp_path: Path) -> None:
    del mirror.files[f"/{FOLDER}{three[1]}"]
    with pytest.raises(InputError, match=rf"1 of 3 files.*{three[1]}: http_404"):
        files(mirror, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("CC-*")) == [three[0], three[2]]


def test_a_list_on_the_own_disk_may_name_whole_addresses(mirror: Mirror, three: list[str], tmp_path: Path) -> None:
    paths = tmp_path / "mine.paths"
    paths.write_text(f"{mirror.address}{FOLDER}{three[2]}\n")
    assert files(mirror, tmp_path / "out", source=str(paths)).bytes == 300_000


def test_files_of_one_name_are_kept_apart(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add("a/wet.paths", b"x/1.gz\ny/1.gz\n")
    mirror.add("a/x/1.gz", b"one")
    mirror.add("a/y/1.gz", b"two")
    assert files(mirror, tmp_path, source=f"{mirror.address}a/wet.paths").files == 2
    assert sorted(path.read_bytes() for path in tmp_path.glob("*1.gz")) == [b"one", b"two"]


def test_a_list_from_the_network_names_no_inner_address(mirror: Mirror, three: list[str], tmp_path: Path) -> None:
    with serving() as inner:
        inner.add("secret.gz", b"secret")
        mirror.add("evil.paths", f"{inner.address}secret.gz\n".encode())
        with pytest.raises(InputError, match="private_address"):
            files(mirror, tmp_path, source=f"{mirror.address}evil.paths")
        assert inner.asked.total() == 0


@pytest.mark.parametrize("body", [b"", b"<html>not found</html>", b"\x1f\x8bbroken", b"\xff\xfe"])
def test_a_list_that_is_none(mirror: Mirror, tmp_path: Path, body: bytes) -> None:
    mirror.add("warc.paths", body)
    with pytest.raises(InputError, match="not a list of paths"):
        files(mirror, tmp_path, source=f"{mirror.address}warc.paths")


def test_beyond_this_machine_a_contact_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--contact"):
        fetch_files(config(), "CC-MAIN-2024-10", Place.of(tmp_path), Session())
    with pytest.raises(ConfigError, match="--contact"):
        fetch_domain(config(), "CC-MAIN-2024-10", "example.org", Place.of(tmp_path), Session())
    assert list(tmp_path.iterdir()) == []


def capture(url: str, body: bytes) -> bytes:
    answer = Answer(Job(1, url, 1), "page", date="2024-02-20T00:00:00Z", status_line="200 OK", body=body)
    answer.sha1 = hashlib.sha1(body).digest()
    answer.headers = [("Content-Type", "text/html")]
    return records.response(answer)[0]


@pytest.fixture
def site(mirror: Mirror) -> list[str]:
    """Seven captures in one archive, of which four are pages of example.org and not the same."""
    data, path = records.warcinfo("x", {}), FOLDER + "CC-MAIN-20240220-00000.warc.gz"
    lines = [
        ("http://example.org/a", "200", "text/html"),
        ("http://www.example.org/b", "200", "text/html"),
        ("http://example.org/b", "404", "text/html"),
        ("http://example.com/c", "200", "text/html"),
        ("http://example.org/d.pdf", "200", "application/pdf"),
        ("http://example.org/a", "200", "text/html"),
        ("http://docs.example.org/e", "200", "text/html"),
    ]
    for url, status, mime in lines:
        member = capture(url, url.encode() * 50)
        where = {"filename": path, "offset": str(len(data)), "length": str(len(member))}
        mirror.index.append({"url": url, "status": status, "mime": mime, "digest": url, **where})
        data += member
    mirror.add(path, data)
    return ["http://docs.example.org/e", "http://example.org/a", "http://www.example.org/b"]


def domain(mirror: Mirror, out: Path, session: Session | None = None, **settings: Any) -> Fetched:
    index = f"{mirror.address}CC-MAIN-2024-10-index"
    return fetch_domain(config(), index, "example.org", Place.of(out), session or Session(), **settings)


@pytest.mark.parametrize("pages", [True, False])
def test_captures_of_a_domain_come_by_their_byte_ranges(
    mirror: Mirror, site: list[str], tmp_path: Path, pages: bool
) -> None:
    mirror.pages = pages
    path = mirror.index[0]["filename"]
    mirror.trouble = {"/CC-MAIN-2024-10-index": [503], f"/{path}": [503, 100]}
    done = domain(mirror, tmp_path)
    assert (done.captures, done.left_out) == (3, {"status": 1, "content_type": 1, "duplicate": 1})
    assert archives.captured(tmp_path) == site
    asked = mirror.asked.total()
    again = domain(mirror, tmp_path)
    assert (again.fetched, again.captures, mirror.asked.total()) == (0, 3, asked)
    assert domain(mirror, tmp_path / "first", limit=1).captures == 1


def test_a_capture_that_cannot_be_had_is_counted_and_the_others_are_kept(
    mirror: Mirror, site: list[str], tmp_path: Path
) -> None:
    mirror.index[0]["offset"] = "3"
    mirror.index[1]["filename"] = "crawl-data/gone.warc.gz"
    done = domain(mirror, tmp_path)
    assert (done.captures, done.errors) == (1, {"bad_record": 1, "http_404": 1})


def test_a_server_without_byte_ranges_does_not_send_whole_archives(
    mirror: Mirror, site: list[str], tmp_path: Path
) -> None:
    mirror.ranges = False
    assert domain(mirror, tmp_path).errors == {"no_byte_ranges": 3}


def test_rerun_fetches_all_anew(mirror: Mirror, three: list[str], site: list[str], tmp_path: Path) -> None:
    for fetch in (files, domain):
        out = tmp_path / fetch.__name__
        first = fetch(mirror, out)
        assert fetch(mirror, out).fetched == 0
        asked = mirror.asked.total()
        again = fetch(mirror, out, rerun=True)
        assert (again.fetched, again.files, again.captures) == (first.fetched, first.files, first.captures)
        assert mirror.asked.total() > asked
    assert sorted(path.name for path in (tmp_path / "files").glob("*.gz")) == three


def test_a_domain_without_captures_is_said(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no captures of example\.org"):
        domain(mirror, tmp_path)


def test_a_stopped_look_up_keeps_whole_archives(mirror: Mirror, site: list[str], tmp_path: Path) -> None:
    session = Session()
    session.stop.signal = 15
    with pytest.raises(StoppedEarly):
        domain(mirror, tmp_path, session)
    assert domain(mirror, tmp_path).captures == 3
