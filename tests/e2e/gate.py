"""Task functions that hold a task on a cluster: until the test lets it go, or for good."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any


def pass_through(folder: str, node: str, after: bool, function: Callable[[Any], Any], payload: Any) -> Any:
    """`function(payload)`, which waits for `folder/open` before, or `after`, where `node` is the raylet's process."""
    held, opened = Path(folder, "held"), Path(folder, "open")
    here = os.environ.get("RAY_RAYLET_PID") == node
    result = function(payload) if after or not here else None
    if here:
        held.touch()
        while not opened.exists():
            pass
        result = result if after else function(payload)
    else:
        while not held.exists():  # so that not all is done before the machine has begun
            pass
    return result


def stay(folder: str, function: Callable[[Any], Any], payload: Any) -> Any:
    """`function(payload)` for the first task that comes; all others do their work and are then not done for ever."""
    result = function(payload)
    try:
        Path(folder, "first").touch(exist_ok=False)
    except FileExistsError:
        Path(folder, "held").touch()
        signal.pause()
    return result
