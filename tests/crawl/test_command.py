import json
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from llmdata.cli.app import app
from tests.crawl import archives
from tests.crawl.server import Page, page, serving


def llmdata(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "llmdata", "crawl", *arguments], capture_output=True, text=True)


def test_crawl_command(tmp_path: Path) -> None:
    out, seeds = tmp_path / "out", tmp_path / "seeds.txt"
    with serving(
        {"/": page("/a", "/b", "/c"), "/a": page(text="a"), "/b": page(text="b"), "/s": page(text="s")}
    ) as site:
        seeds.write_text(f"# mine\n\n{site.url('/s')}\n")
        arguments = [site.url("/"), "--seeds", str(seeds), "--exclude", "/b$", "--out", str(out), "--json"]
        done = llmdata(*arguments)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert (result["pages"], result["errors"], result["not_followed"]) == (3, {"http_404": 1}, {"exclude": 1})
        assert archives.captured(out) == sorted(map(site.url, ("/", "/a", "/s")))
        assert json.loads((out / "crawl.json").read_text())["pages"] == 3
        again = llmdata(*arguments)
        assert json.loads(again.stdout)["fresh"] is False
        changed = llmdata(*arguments, "--scope", "prefix")
        assert (changed.returncode, changed.stdout) == (2, "")
        assert "scope" in changed.stderr


def test_common_crawl_command(tmp_path: Path) -> None:
    site: dict[str, Page] = {"/a/wet.paths": "b.warc.wet.gz\nc.warc.wet.gz\n", "/a/b.warc.wet.gz": "b"}
    with serving(site) as server:
        paths = ["--common-crawl", server.url("/a/wet.paths"), "--out", str(tmp_path / "out"), "--json"]
        done = llmdata(*paths, "--limit", "1")
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert (result["files"], result["fetched"], result["bytes"]) == (1, 1, 1)
        assert (tmp_path / "out" / "b.warc.wet.gz").read_text() == "b"
        done = llmdata(*paths)
        assert done.returncode == 1
        assert "c.warc.wet.gz: http_404" in done.stderr


def test_usage_errors_create_nothing(tmp_path: Path) -> None:
    for arguments, hint in (
        (["https://example.org/"], "--contact"),
        ([], "seeds"),
        (["http://localhost/", "--max-pages", "many"], "--max-pages"),
        (["http://localhost/", "--set", "crawl.dealy=3"], "did you mean delay"),
        (["--seeds", str(tmp_path / "none.txt")], "none.txt"),
        (["--domain", "example.org"], "--common-crawl"),
        (["--common-crawl", "CC-MAIN-2024-10", "--scope", "any"], "leave out scope"),
        (["--common-crawl", "CC-MAIN-2024-10", "--domain", "a/b"], "domain"),
        (["--common-crawl", "CC-MAIN-2024-10", "--limit", "3"], "--contact"),
    ):
        done = CliRunner().invoke(app, ["crawl", *arguments, "--out", str(tmp_path / "out")])
        assert done.exit_code == 2
        assert hint in done.stderr
    assert not (tmp_path / "out").exists()
