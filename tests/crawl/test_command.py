import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from llmdata.audit.status import stage_status
from llmdata.cli.app import app
from llmdata.storage.place import Place
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


def run(out: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, result and stderr of a crawl with `--json` in this process."""
    done = CliRunner().invoke(app, ["crawl", *arguments, "--out", str(out), "--json"])
    return done.exit_code, json.loads(done.stdout or "{}"), done.stderr


def test_seeds_and_consent_from_the_command_line(tmp_path: Path) -> None:
    xml = "<urlset><url><loc>/a</loc></url><url><loc>/b</loc></url></urlset>"
    site: dict[str, Page] = {
        "/robots.txt": "User-agent: GPTBot\nDisallow: /b\n",
        "/map.xml": (200, {"Content-Type": "text/xml"}, xml),
        "/a": page(text="a"),
        "/b": page(text="b"),
    }
    with serving(site) as server:
        out = tmp_path / "out"
        code, result, _ = run(out, server.url("/map.xml"), "--honour-agents", "CCBot", "--honour-agents", "GPTBot")
        assert (code, result["pages"], result["left_out"]) == (0, 1, {"robots": 1})
        code, result, error = run(out, server.url("/map.xml"))
        assert (code, result) == (2, {})
        assert "honour_agents" in error
        code, result, _ = run(out, server.url("/map.xml"), "--rerun")
        assert (code, result["pages"], result["left_out"]) == (0, 2, {})


def test_a_crawl_that_reaches_nobody_fails_and_says_why(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers there
        taken.bind(("127.0.0.1", 0))
        seed = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        quick = ["--set", "crawl.retries=1", "--set", "crawl.backoff=0.01"]
        for _ in range(2):  # the second time it tries again
            code, result, error = run(tmp_path / "out", seed, *quick)
            assert (code, result) == (1, {})
            assert f"{seed} (robots_refused)" in error
    with serving({"/": page()}) as server:
        code, result, error = run(tmp_path / "one", server.url("/"), server.url("/gone"))
        assert (code, result["pages"], result["errors"]) == (0, 1, {"http_404": 1})


def test_ctrl_c_ends_a_crawl_cleanly_and_status_tells(tmp_path: Path) -> None:
    out = tmp_path / "out"
    site: dict[str, Page] = {f"/{n}": page(f"/{2 * n}", f"/{2 * n + 1}", text=f"{n}") for n in range(1, 300)}
    states = []
    arguments = [sys.executable, "-m", "llmdata", "crawl", "--out", str(out), "--json", "--connections", "2"]

    def interrupt(number: int) -> None:
        if number == 200:
            states.append(stage_status("crawl", Place.of(out)).state)
            process.send_signal(signal.SIGINT)

    with serving(site) as server:
        server.on_request = interrupt
        process = subprocess.Popen([*arguments, server.url("/1")], stderr=subprocess.PIPE, text=True)
        _, error = process.communicate()
        assert process.returncode == 130, error
        assert states == ["running"]
        status = stage_status("crawl", Place.of(out))
        assert status.state == "stopped"
        assert 0 < int(status.documents or 0) < 299
        assert status.facts["queued"] > 0
        archives.check(out)
        events = [json.loads(line) for line in error.splitlines()]
        assert {"start", "error"} <= {event["event"] for event in events}
        assert (events[-1]["event"], events[-1]["exit_code"]) == ("error", 130)
        assert run(out, server.url("/1"), "--connections", "2")[1]["pages"] == 299
    assert stage_status("crawl", Place.of(out)).state == "done"
