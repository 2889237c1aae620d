"""Killed at any moment and started again, a crawl ends with each page exactly once, in whole archives."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmdata.crawl import CrawlConfig, crawl
from llmdata.engine.session import Session
from llmdata.storage.place import Place
from tests.crawl import archives
from tests.crawl.server import Page, page, serving

SCRIPT = """
import sys
from llmdata.crawl import CrawlConfig, crawl
from llmdata.engine.session import Session
from llmdata.errors import StoppedEarly
from llmdata.storage.place import Place

if __name__ == "__main__":
    config = CrawlConfig(seeds=[sys.argv[2]], warc_size=int(sys.argv[3]))
    try:
        crawl(config, Place.of(sys.argv[1]), Session(workers=2))
    except StoppedEarly as stopped:
        print(stopped)
        sys.exit(stopped.exit_code)
"""


def site_of(pages: int) -> dict[str, Page]:
    """A tree of pages, each of its own content, every fifth also linked from everywhere."""
    everywhere = [f"/{n}" for n in range(0, pages, 5)][:40]
    return {
        f"/{n}": page(
            *(f"/{10 * n + k}" for k in range(1, 11) if 10 * n + k < pages), *everywhere, text=f"page {n} " * 99
        )
        for n in range(pages)
    }


def start(folder: Path, seed: str, script: Path, warc_size: int) -> subprocess.Popen[bytes]:
    script.write_text(SCRIPT)
    return subprocess.Popen([sys.executable, str(script), str(folder), seed, str(warc_size)], stdout=subprocess.PIPE)


def killed_at_random(tmp_path: Path, pages: int, kills: int, seed: int) -> None:
    out, rng = tmp_path / "out", random.Random(seed)
    site = site_of(pages)
    with serving(site) as server:
        for kill in range(1, kills + 1):
            process = start(out, server.url("/0"), tmp_path / "go.py", 60_000)
            # A moment is a number of requests, so that a slow machine is killed at work too, and then some more.
            moment = server.asked.total() + rng.randrange(1, max(2, pages // (kills + 1)))
            while server.asked.total() < moment and process.poll() is None:
                time.sleep(0.002)
            time.sleep(rng.random() * 0.1)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert process.returncode == -signal.SIGKILL, f"the crawl was over before kill {kill}"
        process = start(out, server.url("/0"), tmp_path / "go.py", 60_000)
        assert process.wait() == 0
        assert archives.captured(out) == sorted(server.url(path) for path in site)
        archives.check(out)
        assert not list(out.glob("*.open"))
        # What was under way at a kill is fetched once more, and nothing else.
        assert sum(server.asked[path] for path in site) <= pages + kills * 200


def test_three_kills(tmp_path: Path) -> None:
    killed_at_random(tmp_path, pages=400, kills=3, seed=time.time_ns() % 1000)


@pytest.mark.chaos
def test_thirty_kills(tmp_path: Path) -> None:
    killed_at_random(tmp_path, pages=3001, kills=30, seed=7)


def test_a_cut_archive_is_said_and_not_papered_over(tmp_path: Path) -> None:
    from llmdata.errors import InputError

    with serving(site_of(300)) as server:
        process = start(tmp_path / "out", server.url("/0"), tmp_path / "go.py", 10**9)
        while server.asked.total() < 150 and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.wait()
        opened = next((tmp_path / "out").glob("*.open"))
        os.truncate(opened, 100)
        config = CrawlConfig(seeds=[server.url("/0")])
        with pytest.raises(InputError, match="changed or removed"):
            crawl(config, Place.of(tmp_path / "out"), Session())


def test_a_full_disk_stops_the_crawl_and_loses_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the same error from the same call, without a file system."""
    site = site_of(300)
    out = tmp_path / "out"
    with serving(site) as server:
        (tmp_path / "go.py").write_text(SCRIPT)
        command = [sys.executable, str(tmp_path / "go.py"), str(out), server.url("/0"), str(10**9)]
        limit = 60_000

        def small_disk() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        done = subprocess.run(command, preexec_fn=small_disk, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (75, "")
        assert "disk is full" in done.stdout
        assert subprocess.run(command).returncode == 0
        assert archives.captured(out) == sorted(server.url(path) for path in site)
    archives.check(out)
