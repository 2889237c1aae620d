"""Published lists: downloaded from a server in UT1's layout, compiled, shared, and found by name in a recipe."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from llmdata.clean import host_lists
from llmdata.clean.bad_words import BadWords, BadWordsConfig
from llmdata.clean.blocklists import available, update
from llmdata.clean.url_filter import UrlFilter, UrlFilterConfig
from llmdata.document import Document, Rejection
from llmdata.engine.session import Session
from llmdata.errors import ConfigError, InputError

SHARED = Path(os.environ.get("LLMDATA_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "blocklists" / "ut1"
DOMAINS, URLS = "casino-test.com\nbet.test-page.org\n", "mixed-test.com/bets\n"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address of a server of it."""
    root = tmp_path / "server"
    root.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield root, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMDATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def publish(root: Path, category: str, domains: str = DOMAINS, urls: str = URLS, packed: bool = False) -> None:
    files = {"domains": domains, "urls": urls}
    if not packed:
        (root / category).mkdir(exist_ok=True)
        for name, text in files.items():
            (root / category / name).write_text(text)
        return
    with tarfile.open(root / f"{category}.tar.gz", "w:gz") as archive:
        for name, text in {**files, "../../evil": "x"}.items():
            member = tarfile.TarInfo(f"{category}/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


def reason(url: str, *lists: str) -> str | None:
    config = UrlFilterConfig(shipped_lists=False, domains=list(lists), urls=list(lists))
    found = UrlFilter(config)(Document(url=url))
    return found.reason if isinstance(found, Rejection) else None


@pytest.mark.parametrize("packed", [False, True])
def test_a_category_is_downloaded_and_named_in_a_recipe(served: tuple[Path, str], packed: bool, cache: Path) -> None:
    root, address = served
    publish(root, "gambling", packed=packed)
    (record,) = update("ut1", ["gambling"], Session(workers=1), address=address)
    assert record["changed"]
    assert record["entries"] == {"domains": 2, "urls": 1}
    assert record["sha256"]["domains"] == hashlib.sha256(DOMAINS.encode()).hexdigest()
    assert "CC BY-SA 4.0" in record["licence"]
    assert record["origin"] == address + ("/gambling.tar.gz" if packed else "/gambling")
    assert sorted(path.name for path in cache.rglob("*") if path.is_file()) == ["domains", "source.json", "urls"]
    assert reason("https://www.casino-test.com/x", "ut1/gambling") == "domain"
    assert reason("https://bet.test-page.org/", "ut1/gambling") == "host"
    assert reason("https://mixed-test.com/bets", "ut1/gambling") == "url"
    assert reason("https://fine.example/", "ut1/gambling") is None
    assert [found["name"] for found in available()] == ["ut1/gambling"]


def test_an_update_takes_what_is_new(served: tuple[Path, str]) -> None:
    root, address = served
    publish(root, "adult")
    session = Session(workers=1)
    assert [record["changed"] for record in update("ut1", [], session, address=address)] == [True]
    assert [record["changed"] for record in update("ut1", [], session, address=address)] == [False]
    publish(root, "adult", domains=DOMAINS + "new-test.com\n")
    assert [record["changed"] for record in update("ut1", [], session, address=address)] == [True]
    assert reason("http://new-test.com", "ut1/adult") == "domain"


def test_what_cannot_be_had_is_one_clear_error_and_leaves_what_was(served: tuple[Path, str]) -> None:
    root, address = served
    publish(root, "adult")
    session = Session(workers=1)
    update("ut1", ["adult"], session, address=address)
    (root / "adult.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(InputError, match="not a whole tar archive"):
        update("ut1", ["adult"], session, address=address)
    with pytest.raises(InputError, match="no list domains of a category nosuch"):
        update("ut1", ["nosuch"], session, address=address)
    with pytest.raises(InputError, match="cannot be downloaded"):
        update("ut1", ["adult"], session, address="http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="there is no published list 'ut2'"):
        update("ut2", [], session)
    with pytest.raises(ConfigError, match="has no slash"):
        update("ut1", ["../x"], session, address=address)
    assert reason("http://casino-test.com", "ut1/adult") == "domain"


def test_a_list_that_was_not_downloaded_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="llmdata blocklists update ut1 --category dating"):
        reason("http://x.example", "ut1/dating")


def test_word_lists(served: tuple[Path, str]) -> None:
    root, address = served
    (root / "en").write_text("frump\n")
    (record,) = update("ldnoobw", [], Session(workers=1), address=address)
    assert record["entries"] == {"words": 1}
    found = BadWords(BadWordsConfig(lists=["ldnoobw/en"]))(Document(text="A frump!"))
    assert isinstance(found, Rejection)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data")
def test_ut1_itself(served: tuple[Path, str]) -> None:
    root, address = served
    for category in ("gambling", "games"):
        (root / category).symlink_to(SHARED / category)
    records = update("ut1", ["gambling", "games"], Session(workers=1), address=address)
    assert [record["entries"]["domains"] for record in records] == [32247, 33741]
    assert reason("http://0-casino.info/", "ut1/games", "ut1/gambling") == "domain"


def test_large_lists_are_compiled_once_and_mapped(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "many"
    path.write_text("".join(f"host-{number}.example\n" for number in range(60_000)))
    hashes = host_lists.lookup(path, "domains")
    assert isinstance(hashes, np.memmap)
    assert hashes.nbytes == 8 * 60_000
    (made,) = (cache / "compiled").iterdir()
    stamp = made.stat().st_mtime_ns
    host_lists.lookup(path, "domains")
    assert made.stat().st_mtime_ns == stamp
    assert reason("http://HOST-59999.example/", str(path)) == "domain"
    assert reason("http://host-60000.example/", str(path)) is None


def test_odd_lines_among_many_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "many"
    plain = "".join(f"host-{number}.example\r\n" for number in range(60_000))
    path.write_bytes(plain.encode() + "# note\nПРИМЕР.рф\ndots.example.\n\nhttp://x.example/\n".encode() + b"\xff\n")
    for url in ("http://host-1.example", "http://xn--e1afmkfd.xn--p1ai", "http://dots.example", "http://x.example"):
        assert reason(url, str(path)) == "domain"


def test_without_a_cache_lists_are_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LLMDATA_CACHE", str(tmp_path / "file"))
    path = tmp_path / "many"
    path.write_text("".join(f"host-{number}.example\n" for number in range(60_000)))
    assert reason("http://host-1.example", str(path)) == "domain"


def test_the_record_is_json(served: tuple[Path, str], cache: Path) -> None:
    publish(served[0], "adult")
    update("ut1", ["adult"], Session(workers=1), address=served[1])
    assert json.loads((cache / "blocklists/ut1/adult/source.json").read_text())["downloaded"].endswith("Z")
