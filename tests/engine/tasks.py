"""Task functions for the engine's tests: importable by name, as the engine asks."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from typing import Any

import psutil

from llmdata.engine import guard
from llmdata.errors import InputError


def walk(payload: dict[str, Any]) -> dict[str, Any]:
    """Walk over items; some segfault, loop in C, eat memory or exit. Returns which were given up, and why."""
    lost = {}
    hand = guard.current()
    for index, kind in enumerate(payload["items"]):
        if index in hand.casualties:
            lost[index] = hand.casualties[index].reason
            continue
        with hand.item(index):
            _act(kind)
    return {"name": payload.get("name", ""), "lost": lost}


def _act(kind: str) -> None:
    if kind == "segfault":
        ctypes.string_at(0)
    elif kind == "loop":
        # One call into C that holds the interpreter: no signal handler written in Python would ever run.
        sum(range(10**14))
    elif kind == "hang":
        signal.pause()
    elif kind == "allocate":
        hoard = []
        while True:
            hoard.append(b"x" * 20_000_000)
    elif kind == "exit":
        os._exit(3)
    elif kind.startswith("once:"):
        marker = Path(kind.removeprefix("once:"))
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def outlive(payload: dict[str, str]) -> str:
    """`first` leaves its process id; `second` kills that worker once it has nothing to do, and then itself, once."""
    left, marker = Path(payload["left"]), Path(payload["marker"])
    if payload["name"] == "first":
        left.with_suffix(".partial").write_text(str(os.getpid()))
        left.with_suffix(".partial").rename(left)
    elif not marker.exists():
        marker.touch()
        while not left.exists():
            pass
        idle = psutil.Process(int(left.read_text()))
        while idle.status() != psutil.STATUS_SLEEPING:
            pass
        idle.kill()
        os.kill(os.getpid(), signal.SIGKILL)
    return payload["name"]


def kill_the_fork_server(marker: str) -> str:
    """Once, whichever task comes first; this worker dies with it."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return "done"
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()
    return "survived"


def fail(payload: str) -> None:
    raise InputError(f"cannot read {payload}")


def die(payload: Any) -> None:
    os._exit(7)


def bug(payload: Any) -> None:
    raise KeyError("oops")


def stop_all(payload: Any) -> int:
    """Ask the whole group to stop, as terminals and schedulers do: supervisor, fork server (our parent), worker."""
    for process in (payload["supervisor"], os.getppid(), os.getpid()):
        os.kill(process, payload["signal"])
    with open(payload["log"], "a") as log:
        log.write("ended\n")
    return 1


def wait_for_go(payload: dict[str, Any]) -> Any:
    """Tell that the task began; end when it may."""
    Path(payload["began"]).touch()
    while not Path(payload["go"]).exists():
        pass
    return payload["name"]
