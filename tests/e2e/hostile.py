"""A test-only filter that some pages kill, and the task function that puts it into the chain of a worker."""

from __future__ import annotations

import ctypes
import os
from typing import Any

from llmdata.document import Document, Rejection
from llmdata.pipeline import chain, task

EARLY = {
    3: "segfault",
    17: "loop",
    18: "allocate",
    20: "exit",
    39: "segfault",
    40: "raise",
    41: "recurse",
    77: "no memory",
}
"""What the filter of the first pass does at which page."""
LATE = {5: "segfault", 60: "raise"}
"""The same for the pass behind the shuffle."""


class Hostile:
    """Passes every page but those of EARLY; stands in for the stage `fineweb`."""

    name = "fineweb"
    version = 1
    acts = EARLY

    def __init__(self, config: object) -> None:
        pass

    def __call__(self, doc: Document) -> Document | Rejection:
        self._act(self.acts.get(int(doc.url.rsplit("-", 1)[1].removesuffix(".html")), ""))
        return doc

    def _act(self, kind: str) -> None:
        if kind == "segfault":
            ctypes.string_at(0)
        elif kind == "loop":
            # One call into C that holds the interpreter: no signal handler written in Python would ever run.
            sum(range(10**14))
        elif kind == "allocate":
            hoard = []
            while True:
                hoard.append(b"x" * 20_000_000)
        elif kind == "exit":
            os._exit(0)
        elif kind == "raise":
            raise KeyError("nobody thought of this page")
        elif kind == "recurse":
            self._act(kind)
        elif kind == "no memory":
            raise MemoryError


class HostileLate(Hostile):
    """Stands in for the stage `c4`."""

    name = "c4"
    acts = LATE


FILTERS = {"fineweb": f"{__name__}:Hostile", "c4": f"{__name__}:HostileLate"}


def run_pass_task(order: task.PassTask) -> dict[str, Any]:
    """What the engine runs: the real task, with the filters above in place of two real ones."""
    chain.FILTERS.update(FILTERS)
    return task.run_pass_task(order)
