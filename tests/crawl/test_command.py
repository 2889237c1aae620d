import json
import subprocess
import sys
from pathlib import Path

from tests.crawl import archives
from tests.crawl.server import page, serving


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


def test_usage_errors_create_nothing(tmp_path: Path) -> None:
    for arguments, hint in (
        (["https://example.org/"], "--contact"),
        ([], "seeds"),
        (["http://localhost/", "--max-pages", "many"], "max_pages"),
        (["http://localhost/", "--set", "crawl.dealy=3"], "did you mean delay"),
        (["--seeds", str(tmp_path / "none.txt")], "none.txt"),
    ):
        done = llmdata(*arguments, "--out", str(tmp_path / "out"))
        assert done.returncode == 2
        assert hint in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
