"""The worker's side of the pool: take a task, run it, answer; die with the supervisor."""

from __future__ import annotations

import ctypes
import gc
import signal
import traceback as tracebacks
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from llmdata.engine import guard
from llmdata.engine.forks import SIGNALS
from llmdata.errors import LlmdataError

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Order:
    """A task as it goes to a worker."""

    payload: Any
    casualties: dict[int, guard.Casualty]


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that raised."""

    error: LlmdataError
    traceback: str


def serve(pipe: Connection, slot: Any, function: Callable[[Any], Any]) -> None:
    """Main loop of a worker process: until the supervisor closes its end of the pipe."""
    # A wish to stop reaches the whole process group, but it is the supervisor who decides when a worker ends. If
    # the supervisor is killed, the fork server ends with it, and the kernel then kills us: no orphan goes on writing.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    gc.freeze()  # what the fork server imported stays; to look through it again would also copy its pages
    gc.enable()
    while True:
        try:
            order = pipe.recv()
        except (EOFError, OSError):
            return
        guard.enter(slot, order.casualties)
        try:
            answer = function(order.payload)
        except LlmdataError as error:
            answer = Failure(error, tracebacks.format_exc())
        except Exception as error:
            message = f"unexpected {type(error).__name__}: {error} (a defect; -v shows where)"
            answer = Failure(LlmdataError(message), tracebacks.format_exc())
        try:
            pipe.send(answer)
        except OSError:
            return  # the supervisor has died in the meantime, and the run that follows reads the task's manifest
