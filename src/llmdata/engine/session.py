"""What every running command carries: how many workers, where progress goes, and when to stop."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from llmdata.engine.forks import SIGNALS
from llmdata.errors import Interrupted, StoppedEarly

if TYPE_CHECKING:
    from llmdata.engine.share import Share


class Progress(Protocol):
    """Where a stage tells how far it is. `llmdata.cli` draws bars, prints plain lines, or JSON events."""

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """A stage begins; `total` is None when it cannot be known."""

    def advance(self, stage: str, count: int, **facts: float | int | str) -> None:
        """`count` more units are done; `facts` are figures worth showing (kept=…, loss=…)."""

    def finish(self, stage: str, **facts: float | int | str) -> None:
        """The stage is done."""

    def note(self, message: str) -> None:
        """One line for people."""


class Silent:
    """Progress for nobody."""

    def start(self, stage: str, total: int | None, unit: str) -> None:
        pass

    def advance(self, stage: str, count: int, **facts: float | int | str) -> None:
        pass

    def finish(self, stage: str, **facts: float | int | str) -> None:
        pass

    def note(self, message: str) -> None:
        pass


@dataclass(slots=True)
class Stop:
    """A wish to stop. Stages look at it at every task boundary; work in hand is finished or dropped whole."""

    deadline: float | None = None
    signal: int | None = None

    @property
    def wanted(self) -> bool:
        return self.signal is not None or (self.deadline is not None and time.monotonic() >= self.deadline)

    def check(self) -> None:
        """Raise StoppedEarly (exit code 75), or Interrupted (130) after Ctrl-C, if it is time to stop."""
        if self.signal == signal.SIGINT:
            raise Interrupted("Interrupted. The same command goes on where this one stopped.")
        if self.signal is not None:
            name = signal.Signals(self.signal).name
            raise StoppedEarly(f"Stopped by {name}. The same command goes on where this one stopped.")
        if self.wanted:
            raise StoppedEarly("The time given by --max-time is over. The same command goes on where this one stopped.")

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take SIGTERM, SIGHUP (but under nohup) and SIGINT as wishes to stop; a second SIGINT interrupts at once."""

        def take(number: int, frame: FrameType | None) -> None:
            if number == signal.SIGINT and self.signal == signal.SIGINT:
                raise KeyboardInterrupt
            self.signal = number

        heard = [number for number in SIGNALS if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, take) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@atexit.register
def _end_children() -> None:
    """End who was started and is still there: a second Ctrl-C may come before who started it has it in a list.

    multiprocessing, whose turn is next, would ask it by SIGTERM, to which it is deaf, and wait for it.
    """
    for child in multiprocessing.active_children():
        child.kill()


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes started here hear no wish to stop, which reaches the whole group: who started them ends them.

    They inherit the mask, so that it holds from their first moment. For this process the signals only wait.
    """
    resource_tracker.ensure_running()  # when multiprocessing starts it on the way, it unblocks both signals behind us
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Ray cluster by its address. `workers` is how many of it to use at most; None: as many as it can hold."""

    address: str
    workers: int | None = None


@dataclass(slots=True)
class Session:
    """The circumstances of a run, none of which may change a byte of its results."""

    workers: int = 1
    progress: Progress = field(default_factory=Silent)
    stop: Stop = field(default_factory=Stop)
    share: Share | None = None
    """This process's part, where several make a run together."""
    cluster: Cluster | None = None
    """Where tasks run instead of in processes of this machine."""
    meanwhile: Callable[[], None] | None = None
    """Called once, when local workers have their first tasks: to import what comes after them."""
