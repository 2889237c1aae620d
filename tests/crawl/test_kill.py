"""Killed at any moment and started again, a crawl ends with each page exactly once, in whole archives."""

import os
import random
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llmdata.crawl import CrawlConfig, crawl
from llmdata.engine.session import Session
from llmdata.storage.place import Place
from tests.crawl import archives
from tests.crawl.server import Page, Site, page, serving

SCRIPT = """
import itertools
import os
import signal
import sys
from llmdata.crawl import CrawlConfig, crawl
from llmdata.crawl.frontier import Frontier
from llmdata.engine.session import Session
from llmdata.errors import StoppedEarly
from llmdata.storage.place import Place


def die_at(owner, name, number, when):
    function, calls = getattr(owner, name), itertools.count(1)

    def mortal(*given, **named):
        dies = next(calls) == number
        if dies and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*given, **named)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, mortal)


if __name__ == "__main__":
    if len(sys.argv) > 4 and sys.argv[4]:
        name, number, when = sys.argv[4].split()
        die_at(Frontier if name == "commit" else os, name, int(number), when)
    config = CrawlConfig(seeds=[sys.argv[2]], warc_size=int(sys.argv[3]))
    try:
        crawl(config, Place.of(sys.argv[1]), Session(workers=2))
    except StoppedEarly as stopped:
        print(stopped)
        sys.exit(stopped.exit_code)
"""
CALLS = ("fsync", "commit", "rename", "replace", "truncate")


def site_of(pages: int) -> dict[str, Page]:
    """A tree of pages, each of its own content, every fifth also linked from everywhere."""
    everywhere = [f"/{n}" for n in range(0, pages, 5)][:40]
    return {
        f"/{n}": page(
            *(f"/{10 * n + k}" for k in range(1, 11) if 10 * n + k < pages), *everywhere, text=f"page {n} " * 99
        )
        for n in range(pages)
    }


class Victim:
    """A crawl in a process of its own, killed at a chosen moment.

    The moment is an answer of the server, which comes at any point of what the crawl does meanwhile, or, if that is
    sooner, the n-th call of one of the functions by which a crawl makes things last, right before or right after it.
    """

    def __init__(
        self, folder: Path, server: Site, *, answer: int | None = None, call: str = "", warc_size: int
    ) -> None:
        self.script = folder.parent / "go.py"
        self.script.write_text(SCRIPT)
        self._command = [sys.executable, str(self.script), str(folder), server.url("/0"), str(warc_size), call]
        self._answer = answer
        self._server = server
        self._started = threading.Lock()  # an answer may be asked for before Popen returns

    def run(self) -> int:
        self._server.on_request = self._kill
        with self._started:
            self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        self._process.communicate()
        self._server.on_request = lambda number: None
        return self._process.returncode

    def _kill(self, number: int) -> None:
        if self._answer is not None and number >= self._answer:
            with self._started:
                self._process.kill()


def killed_at_random(tmp_path: Path, pages: int, kills: int, seed: int) -> None:
    out, rng = tmp_path / "out", random.Random(seed)
    site = site_of(pages)
    with serving(site) as server:
        for kill in range(1, kills + 1):
            answer = 2 * server.asked.total() + rng.randrange(1, 2 * pages // (kills + 1))
            call = f"{rng.choice(CALLS)} {rng.randrange(1, 6)} {rng.choice(['before', 'after'])}" if kill % 2 else ""
            killed = Victim(out, server, answer=answer, call=call, warc_size=60_000).run()
            assert killed == -signal.SIGKILL, f"the crawl was over before kill {kill}"
        assert Victim(out, server, warc_size=60_000).run() == 0
        assert archives.captured(out) == sorted(server.url(path) for path in site)
        archives.check(out)
        assert not list(out.glob("*.open"))
        # What was under way at a kill is fetched once more, and nothing else.
        assert sum(server.asked[path] for path in site) <= pages + kills * 200


def test_three_kills(tmp_path: Path) -> None:
    killed_at_random(tmp_path, pages=400, kills=3, seed=random.SystemRandom().randrange(1000))


@pytest.mark.chaos
def test_thirty_kills(tmp_path: Path) -> None:
    killed_at_random(tmp_path, pages=3001, kills=30, seed=7)


def test_a_cut_archive_is_said_and_not_papered_over(tmp_path: Path) -> None:
    from llmdata.errors import InputError

    with serving(site_of(300)) as server:
        assert Victim(tmp_path / "out", server, answer=300, warc_size=10**9).run() == -signal.SIGKILL
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
