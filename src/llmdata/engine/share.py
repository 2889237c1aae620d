"""One run by several processes that know nothing of each other but their numbers: Slurm arrays, indexed jobs, ssh.

A list of tasks is divided by the tasks' numbers. What comes after a list needs all of it (a barrier), is done by one
process, and begins when that one finds every task's manifest there. Storage is all that they share.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from llmdata.errors import BusyError, LlmdataError
from llmdata.storage.lock import PRIVATE, locked
from llmdata.storage.place import Place

if TYPE_CHECKING:
    from llmdata.engine.session import Session

Then = Literal["alone", "wait", "stop"]
"""What a process does at a barrier. `alone`: whoever finishes last goes on with all that follows, the others return.
`wait`: all wait for each other and share the next list too. `stop`: whoever finishes last does what cannot be shared
and stops before the next list, which a job that depends on this one shares."""

POLL = 0.2, 60.0
"""Seconds between two looks at what the others have finished, at first and at most: each plans the stage anew."""


class ShareDone(LlmdataError):
    """This process has done its part, and others have not."""

    exit_code = 0


class Again(Exception):
    """The barrier behind a list is passed, and others may have done what follows: look again from the top."""


class Numbered(Protocol):
    """A task with a name that is stable from run to run and ends with its number."""

    @property
    def id(self) -> str:
        """The name."""


T = TypeVar("T", bound=Numbered)
M = TypeVar("M")


class Share:
    """The part of process `rank` of `size` in the run at `workdir`."""

    def __init__(self, workdir: Place, rank: int, size: int, then: Then) -> None:
        self.rank, self.size, self.then = rank, size, then
        self._serial = (workdir / PRIVATE / "serial").mkdir()
        self._lock = ExitStack()
        """Of what one process does alone: held from a barrier to the next list, or to the end."""
        self.held = False
        self._worked = False
        self._patience = POLL[0]

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.size}"

    def begin(self, stage: str, left: Sequence[T]) -> list[T]:
        """The tasks of `left` that are this process's; raises ShareDone if it is to stop before this list."""
        if self.held and self.then == "alone":
            return list(left)
        if self.held and self._worked and self.then == "stop":
            raise ShareDone(f"{self}: all before {stage} is done; start the ranks again to share it.")
        self.close()
        self._worked = True
        ours = [task for task in left if _number(task.id) % self.size == self.rank]
        self._patience = POLL[0] if ours else self._patience
        return ours

    def end(self, stage: str, others: Sequence[T], finished: Callable[[T], object], session: Session) -> None:
        """Behind a list: raises Again, holding the lock, when all of it is finished; else ShareDone, or Again later."""
        left = sum(not finished(task) for task in others)
        if not left:
            self.take(stage, session)
        elif self.then != "wait":
            raise ShareDone(
                f"{self}: its share of {stage} is done; {left:,} tasks of other ranks are not. Whoever finishes last "
                "goes on."
            )
        else:
            self._pause(session)
        raise Again

    def take(self, stage: str, session: Session) -> None:
        """Take the lock of what one process does alone; raises ShareDone if that is another one and not to wait for."""
        while not self.held:
            try:
                self._lock.enter_context(locked(self._serial, f"llmdata run, {self}"))
                self.held = True
            except BusyError:
                if self.then == "alone" or (self.then == "stop" and self._worked):
                    raise ShareDone(f"{self}: its share up to {stage} is done, and another rank goes on.") from None
                self._pause(session)

    def _pause(self, session: Session) -> None:
        session.stop.check()
        time.sleep(self._patience)
        self._patience = min(1.5 * self._patience, POLL[1])

    def close(self) -> None:
        """Let others do what one process does alone."""
        self._lock.close()
        self.held = False


def _number(name: str) -> int:
    digits = re.search(r"\d+$", name)
    return int(digits[0]) if digits else zlib.crc32(name.encode())


def run_list(
    tasks: Sequence[T],
    finished: Callable[[T], M | None],
    work: Callable[[list[T], int], None],
    session: Session,
    stage: str,
    over: Callable[[], bool] = lambda: False,
) -> list[M]:
    """Do what is not done of a list: all of it, or this process's share. Returns what `finished` says of every task.

    `work` gets the tasks to do, never none, and the number of those that were done before. In a shared run it ends with
    Again or ShareDone unless all had been done before. `over` says whether all that the list is for is done.
    """
    done = {task.id: found for task in tasks if (found := finished(task)) is not None}
    left = [task for task in tasks if task.id not in done]
    share = session.share
    # Another process may have come to the end since this one began to look, and removed what nobody needs any more.
    if share and left and not share.held and over():
        raise Again
    todo = share.begin(stage, left) if share and left else left
    if todo:
        work(todo, len(done))
    if share and not share.held:
        ours = {task.id for task in todo}
        share.end(stage, [task for task in left if task.id not in ours], finished, session)
    for task in todo:
        made = finished(task)
        assert made is not None, task.id
        done[task.id] = made
    return [done[task.id] for task in tasks]
