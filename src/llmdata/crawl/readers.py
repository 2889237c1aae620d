"""Processes that read pages; a page that crashes or hangs its reader costs itself, not the crawl."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from llmdata.crawl.config import CrawlConfig
from llmdata.crawl.fetch import Answer
from llmdata.crawl.reading import Reader, Reading
from llmdata.engine.session import deaf_children

log = logging.getLogger(__name__)

LIMIT = 60.0
"""Seconds for one page: a hundred times what the largest takes."""
START_METHOD = "spawn"
"""Not forkserver: there is one a process, and what it has loaded is for the stages that clean to say."""
_LOOK = 0.5
"""Seconds between two looks at whether the crawl is over."""
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
    """`count` processes, each fed by a thread and started with its first page.

    `done` is called in that thread with an answer and its reading.
    """

    def __init__(
        self, count: int, config: CrawlConfig, seeds: Sequence[str], done: Callable[[Answer, Reading], None]
    ) -> None:
        self._context = multiprocessing.get_context(START_METHOD)
        self._arguments = (config, seeds)
        self._done = done
        # Bounded: where reading is slower than fetching, the fetching threads wait.
        self._waiting: queue.Queue[Answer | None] = queue.Queue(maxsize=2 * count)
        self._closing = False
        self._processes: dict[int, BaseProcess] = {}  # by the thread that feeds them
        self._pipes: dict[int, Connection] = {}
        self._threads = [threading.Thread(target=self._feed, name="reader", daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def give(self, answer: Answer) -> None:
        """Have the page read; waits while all readers are busy. After `close` it is dropped."""
        while not self._closing:
            try:
                self._waiting.put(answer, timeout=_LOOK)
            except queue.Full:
                continue
            return

    def close(self) -> None:
        """Drop what waits, end the processes."""
        self._closing = True
        for process in list(self._processes.values()):
            process.kill()
        for _ in self._threads:
            with contextlib.suppress(queue.Full):  # full: there is something to wake up for already
                self._waiting.put_nowait(None)
        for thread in self._threads:
            thread.join()

    def _feed(self) -> None:
        while (answer := self._waiting.get()) is not None and not self._closing:
            reading = self._read(answer) or self._read(answer)  # a process may have died of something else
            if not self._closing:
                self._done(answer, reading or Reading(reason="reader_crashed"))
        self._end()

    def _read(self, answer: Answer) -> Reading | None:
        """Have this thread's process read a page; None if it died of it."""
        pipe = self._pipes.get(threading.get_ident()) or self._start()
        try:
            pipe.send(answer)
            if pipe.poll(LIMIT):
                reading: Reading = pipe.recv()
                return reading
        except (EOFError, OSError):
            self._end()
            return None
        self._end()
        return Reading(reason="reader_timeout")

    def _end(self) -> None:
        process = self._processes.pop(threading.get_ident(), None)
        self._pipes.pop(threading.get_ident(), None)
        if process is not None:
            process.kill()
            process.join()

    def _start(self) -> Connection:
        ours, theirs = self._context.Pipe()
        process: BaseProcess = self._context.Process(  # type: ignore[attr-defined]
            target=_serve, args=(theirs, *self._arguments), daemon=True
        )
        with deaf_children():
            process.start()
        self._processes[threading.get_ident()] = process
        self._pipes[threading.get_ident()] = ours
        theirs.close()
        return ours
