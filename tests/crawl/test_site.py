"""Serving a manual from an archive, a Debian package or a folder, as a crawl meets it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from pydantic import ValidationError

from llmdata.crawl.site import SiteConfig, SitePackage, serve
from llmdata.engine.session import Session, Stop
from llmdata.errors import ConfigError, InputError, Interrupted

INDEX = '<html><head><title>Demo</title></head><body><a href="guide.html">Guide</a></body></html>'
PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "demo"
version = "1.0"
"""
FILES = {
    "pyproject.toml": PYPROJECT,
    "demo.py": "",
    "docs/index.html": INDEX,
    "docs/guide.html": "<p>Guide</p>",
    "docs/_static/style.css": "p { color: red }",
    "docs/_sources/guide.rst": "Guide",
    "docs/conf.py": "raise SystemExit",
    "tests/page.html": "<p>not served</p>",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def sdist(path: Path, files: dict[str, str], top: str = "demo-1.0/") -> str:
    """Write a source archive; returns its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(top + name)
            member.size, member.mtime = len(text.encode()), 1_000_000_000
            tar.addfile(member, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def package(sha256: str, **changes: str) -> SitePackage:
    return SitePackage(**{"name": "demo", "version": "1.0", "html": "docs", "at": "demo", "sha256": sha256} | changes)


def fetched(folder: Path, files: dict[str, str] | None = None) -> SiteConfig:
    """A config whose archive lies in `folder` already."""
    sha256 = sdist(folder / "archives" / "demo-1.0.tar.gz", FILES if files is None else files)
    return SiteConfig(packages=[package(sha256)], port=free_port())


def get(url: str) -> tuple[str, str]:
    """Content type and body."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            code: int = answer.status
            return code
    except urllib.error.HTTPError as error:
        return error.code


def test_pages_of_an_archive_are_served_with_their_types_and_linked_from_the_top(tmp_path: Path) -> None:
    config = fetched(tmp_path)
    with serve(config, tmp_path) as url:
        assert url == f"http://127.0.0.1:{config.port}/"
        kind, top = get(url)
        assert kind == "text/html"
        assert re.findall(r'href="([^"]+)"', top) == ["demo/index.html"]
        assert get(url + "demo/index.html") == ("text/html", INDEX)
        assert get(url + "demo/_static/style.css")[0] == "text/css"
        assert get(url + "demo/_sources/guide.rst") == ("text/x-rst", "Guide")
        assert status(url + "demo/conf.py") == 404
        assert status(url + "tests/page.html") == 404
    with pytest.raises(urllib.error.URLError):
        get(url)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the package index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return tmp_path / "index"


def test_archive_is_fetched_by_pip_once(tmp_path: Path, index: Path) -> None:
    config = SiteConfig(packages=[package(sdist(index / "demo-1.0.tar.gz", FILES))], port=free_port())
    with serve(config, tmp_path / "site") as url:
        assert status(url + "demo/guide.html") == 200
    shutil.rmtree(index)
    with serve(config, tmp_path / "site") as url:
        assert status(url + "demo/guide.html") == 200


def test_an_archive_with_another_digest_is_refused_before_its_code_runs(tmp_path: Path, index: Path) -> None:
    ran = tmp_path / "ran"
    real = sdist(index / "demo-1.0.tar.gz", FILES | {"setup.py": f"open({str(ran)!r}, 'w')"})
    config = SiteConfig(packages=[package("0" * 64)])
    with pytest.raises(InputError, match=f"demo 1.0.*{real}"), serve(config, tmp_path / "site"):
        pass
    assert not ran.exists()


def test_a_package_that_is_not_there_is_one_clear_error(tmp_path: Path, index: Path) -> None:
    index.mkdir()
    config = SiteConfig(packages=[package("0" * 64, name="nothing-like-it")])
    with (
        pytest.raises(InputError, match=r"cannot fetch nothing-like-it 1\.0 with pip"),
        serve(config, tmp_path / "site"),
    ):
        pass


@pytest.mark.parametrize("name", ["docs/../../../evil.html", "../docs/evil.html", "docs/a/../../evil.html"])
def test_nothing_is_unpacked_outside_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "site"
    with serve(fetched(folder, FILES | {name: "evil"}), folder):
        assert [path for path in tmp_path.rglob("evil.html") if path.is_file()] == []


def test_links_in_an_archive_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.html"
    secret.write_text("secret")
    archive = tmp_path / "site" / "archives" / "demo-1.0.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        page = tarfile.TarInfo("demo-1.0/docs/index.html")
        tar.addfile(page, io.BytesIO())
        link = tarfile.TarInfo("demo-1.0/docs/link.html")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    with serve(SiteConfig(packages=[package(sha256)], port=free_port()), tmp_path / "site") as url:
        assert status(url + "demo/link.html") == 404
        assert status(url + "../secret.html") == 404
        assert status(url + "%2e%2e/%2e%2e/secret.html") == 404


def test_ctrl_c_while_the_archive_is_fetched_is_no_error_of_the_index(tmp_path: Path, index: Path) -> None:
    config = SiteConfig(packages=[package("0" * 64)])
    with pytest.raises(InputError, match="cannot fetch demo"), serve(config, tmp_path):
        pass
    interrupted = Session(stop=Stop(signal=signal.SIGINT))
    with pytest.raises(Interrupted), serve(config, tmp_path, interrupted):
        pass


def test_a_manual_without_an_index_is_refused(tmp_path: Path) -> None:
    config = fetched(tmp_path, {"docs/page.html": "<p>"})
    with pytest.raises(InputError, match=r"no docs/index\.html"), serve(config, tmp_path):
        pass


def test_a_broken_archive_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "archives" / "demo-1.0.tar.gz"
    sdist(archive, FILES)
    archive.write_bytes(archive.read_bytes()[:200])
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(InputError, match="cannot unpack"), serve(SiteConfig(packages=[package(sha256)]), tmp_path):
        pass


def test_a_new_crawl_takes_another_port_and_a_resumed_one_keeps_it_or_stops(tmp_path: Path) -> None:
    config = fetched(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", config.port))
        other.listen()
        with serve(config, tmp_path) as first:
            assert first != f"http://127.0.0.1:{config.port}/"
    with serve(config, tmp_path) as again:
        assert again == first
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(first.rstrip("/").rsplit(":", 1)[1])))
        other.listen()
        with pytest.raises(ConfigError, match="taken by another program"), serve(config, tmp_path):
            pass


def test_another_site_in_the_same_folder_replaces_the_pages(tmp_path: Path) -> None:
    with serve(fetched(tmp_path), tmp_path):
        pass
    with serve(fetched(tmp_path, FILES | {"docs/guide.html": "<p>Second</p>"}), tmp_path) as url:
        assert get(url + "demo/guide.html")[1] == "<p>Second</p>"


def test_the_server_dies_with_a_killed_parent(tmp_path: Path) -> None:
    config = fetched(tmp_path)
    code = (
        "import sys; from pathlib import Path; from llmdata.crawl.site import SiteConfig, serve\n"
        "with serve(SiteConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2])) as url:\n"
        "    print(url, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, config.model_dump_json(), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert status(url) == 200
        # A connection held open ends exactly when the server is gone.
        with socket.create_connection(("127.0.0.1", config.port), timeout=20) as held:
            parent.send_signal(signal.SIGKILL)
            with contextlib.suppress(ConnectionResetError):
                assert held.recv(1) == b""
    with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as far as its exit has got
        get(url)


def test_a_folder_is_served_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<p>Mine</p>")
    with serve(SiteConfig(folder=tmp_path / "site", port=free_port()), tmp_path / "state") as url:
        assert get(url) == ("text/html", "<p>Mine</p>")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    config = SiteConfig(folder=tmp_path / "none")
    with pytest.raises(ConfigError, match="no such folder"), serve(config, tmp_path):
        pass


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_the_newest_debian_package_that_fits_is_unpacked(tmp_path: Path) -> None:
    for version in ("9", "15"):
        root = tmp_path / version
        pages = root / "usr/share/doc" / f"demo-doc-{version}" / "html"
        (pages / "part").mkdir(parents=True)
        (pages / "index.html").write_text(f"<p>Manual {version}</p>")
        (pages / "part" / "index.html").write_text("<p>Part</p>")
        (pages / "outside.html").symlink_to("/etc/passwd")
        control = root / "DEBIAN" / "control"
        control.parent.mkdir()
        control.write_text(
            f"Package: demo-doc-{version}\nVersion: 1\nArchitecture: all\n"
            "Maintainer: Nobody <nobody@example.org>\nDescription: manual\n"
        )
        archives = tmp_path / "site" / "archives"
        archives.mkdir(parents=True, exist_ok=True)
        target = archives / f"demo-doc-{version}_1_all.deb"
        subprocess.run(["dpkg-deb", "--build", str(root), str(target)], check=True, capture_output=True)
    with serve(SiteConfig(debian="demo-doc-*", port=free_port()), tmp_path / "site") as url:
        assert get(url)[1] == "<p>Manual 15</p>"
        assert status(url + "part/index.html") == 200
        assert status(url + "outside.html") == 404


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"debian": "x-doc", "folder": "/tmp"},
        {"debian": "--option"},
        {"debian": "x-doc", "port": 0},
        {"packages": [{"name": "demo", "version": "1", "sha256": "0" * 64, "html": "../x", "at": "x"}]},
        {"packages": [{"name": "demo", "version": "1", "sha256": "0" * 64, "html": "x", "at": "/x"}]},
        {"packages": [{"name": "-r", "version": "1", "sha256": "0" * 64, "html": "x", "at": "x"}]},
        {"packages": [{"name": "demo", "version": "1", "sha256": "abc", "html": "x", "at": "x"}]},
        {"packages": [{"name": "demo", "version": "1", "sha256": "0" * 64, "html": "x", "at": "x"}] * 2},
    ],
)
def test_wrong_settings_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SiteConfig.model_validate(fields)
