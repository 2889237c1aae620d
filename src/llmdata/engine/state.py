"""What a stage says of itself: how far it is (`.llmdata/state.json`), and what it did again (`repeats.json`)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llmdata.storage.lock import PRIVATE
from llmdata.storage.place import Place

REPEATS = "repeats.json"
EVERY = 1.0
"""Seconds between two writes: a status command is read by people."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """A task that ran once more, and why."""

    task: str
    why: str


def repeats(folder: Place) -> list[dict[str, Any]]:
    """What was run again in the stage at `folder`, oldest first: stage, task, why, time (seconds since 1970)."""
    path = folder / PRIVATE / REPEATS
    found: list[dict[str, Any]] = path.read_json()["repeats"] if path.exists() else []
    return found


class RunState:
    """Written while tasks run; nothing is written where `folder` is None."""

    def __init__(self, folder: Place | None, stage: str, tasks: int) -> None:
        self._folder = folder
        self._path = None if folder is None else folder / PRIVATE / "state.json"
        self._stage, self._tasks, self._done = stage, tasks, 0
        self._started = time.time()
        self._written = 0.0

    def update(self, done: int, running: Sequence[str]) -> None:
        """Note what is running; writes at most once a second."""
        self._done = done
        if time.monotonic() - self._written >= EVERY:
            self._written = time.monotonic()
            self._write(running, {})

    def repeat(self, repeat: Repeat) -> None:
        """Note that a task runs once more."""
        if self._folder is not None:
            record = {"stage": self._stage, **asdict(repeat), "time": round(time.time(), 3)}
            path = self._folder / PRIVATE / REPEATS
            path.write_json({"repeats": [*repeats(self._folder), record]})

    def close(self, failed: Mapping[str, str] | None = None) -> None:
        """The stage has ended, well or with `failed` tasks."""
        self._write([], failed or {}, done=self._tasks if failed is None else self._done)

    def _write(self, running: Sequence[str], failed: Mapping[str, str], done: int | None = None) -> None:
        if self._path is None:
            return
        now = time.time()
        self._path.write_json(
            {
                "stage": self._stage,
                "tasks": self._tasks,
                "done": self._done if done is None else done,
                "running": list(running),
                "failed": dict(failed),
                "started": round(self._started, 3),
                "updated": round(now, 3),
                "seconds": round(now - self._started, 3),
            }
        )
