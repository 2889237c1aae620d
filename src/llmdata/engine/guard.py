"""What a worker tells its supervisor: which item it is at, so that a death or a hang costs that one item.

A task's function walks over its items and brackets each with `guard.item(index)`. The supervisor reads the index from
shared memory when it looks at the clock, or when the worker has died; the retried task is told which items to give up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes import Structure, c_double, c_int64
from dataclasses import dataclass
from typing import Any

IDLE = -1


class Slot(Structure):
    """Shared memory of one worker: the item in hand (IDLE if none), its step, CPU seconds when it began, items done."""

    _fields_ = (("item", c_int64), ("step", c_int64), ("began", c_double), ("done", c_int64))


@dataclass(frozen=True, slots=True)
class Casualty:
    """An item that is given up: why (`crashed`, `timeout`, `memory`), and the step it was in."""

    reason: str
    step: int


class Guard:
    """The worker's side. `casualties` are the items of this task that killed earlier workers."""

    def __init__(self, slot: Any, casualties: Mapping[int, Casualty]) -> None:
        self._slot = slot
        self.casualties = casualties

    @contextmanager
    def item(self, index: int) -> Iterator[None]:
        """Work on item `index`: its CPU time and memory are limited, and a crash here is its fault."""
        self._slot.began = time.process_time()
        self._slot.step = 0
        self._slot.item = index
        self._slot.done = index
        try:
            yield
        finally:
            self._slot.item = IDLE

    def step(self, number: int) -> None:
        """The item in hand enters its step `number`; should it die there, the casualty says so."""
        self._slot.step = number


_current = Guard(Slot(IDLE, 0, 0.0, 0), {})


def current() -> Guard:
    """The guard of the task that this process is working on."""
    return _current


def enter(slot: Any, casualties: Mapping[int, Casualty]) -> None:
    """Begin a task (called by the worker's main loop)."""
    global _current
    slot.item, slot.done = IDLE, 0
    _current = Guard(slot, casualties)
