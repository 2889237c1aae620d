"""Processes that read pages; a page that crashes or hangs its reader costs itself, not the crawl."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

from llmdata.crawl.config import CrawlConfig
from llmdata.crawl.fetch import Answer
from llmdata.crawl.reading import Reader, Reading

log = logging.getLogger(__name__)

LIMIT = 60.0
"""Seconds for one page: a hundred times what the largest takes."""
_PR_SET_PDEATHSIG = 1


def _serve(pipe: Connection, config: CrawlConfig, seeds: Sequence[str]) -> None:
    """A reader process: answers until the other end of the pipe is closed. It dies with the crawl."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole process group; the crawl decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    reader = Reader(config, seeds)
    while True:
        try:
            answer = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            reading = reader.read(answer)
        except Exception:
            log.exception("reading %s failed (a defect)", answer.job.url)
            reading = Reading(reason="reader_failed")
        pipe.send(reading)


class Readers:
    """`count` processes, each fed by a thread; `done` is called in that thread with an answer and its reading."""

    def __init__(
        self, count: int, config: CrawlConfig, seeds: Sequence[str], done: Callable[[Answer, Reading], None]
    ) -> None:
        # Not forkserver: there is one a process, and what it has loaded is for the stages that clean to say.
        self._context = multiprocessing.get_context("spawn")
        self._arguments = (config, seeds)
        self._done = done
        # Bounded: where reading is slower than fetching, the fetching threads wait.
        self._waiting: queue.Queue[Answer | None] = queue.Queue(maxsize=2 * count)
        self._threads = [threading.Thread(target=self._feed, name="reader", daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def give(self, answer: Answer) -> None:
        """Have the page read; waits while all readers are busy."""
        self._waiting.put(answer)

    def close(self) -> None:
        """Drop what waits, end the processes."""
        while True:
            try:
                self._waiting.get_nowait()
            except queue.Empty:
                break
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _feed(self) -> None:
        process, pipe = self._start()
        while (answer := self._waiting.get()) is not None:
            try:
                pipe.send(answer)
                if not pipe.poll(LIMIT):
                    raise TimeoutError
                reading: Reading = pipe.recv()
            except (EOFError, OSError) as error:  # TimeoutError is an OSError
                process.kill()
                process.join()
                reading = Reading(reason="reader_timeout" if isinstance(error, TimeoutError) else "reader_crashed")
                process, pipe = self._start()
            self._done(answer, reading)
        process.kill()
        process.join()

    def _start(self) -> tuple[multiprocessing.process.BaseProcess, Connection]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, *self._arguments), daemon=True)
        process.start()
        theirs.close()
        return process, ours
