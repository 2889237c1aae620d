"""The lock on a folder: one run at a time, and a lock that a dead process left is recognised."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from typing import Any

from llmdata.errors import BusyError
from llmdata.storage import objects
from llmdata.storage.place import Place, disk_full_is_resumable, remove_partials

PRIVATE = ".llmdata"
"""Name of the folder for locks and manifests inside every output folder."""

ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock."""

    host: str
    pid: int
    since: float
    command: str

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host} since {since} ({self.command})"


@contextmanager
def locked(folder: Place, command: str, rank: int | None = None) -> Iterator[None]:
    """Hold the lock of `folder` (made if need be); raises BusyError naming the holder if it is taken.

    With `rank`, others that give one may hold it too: they share a run.

    The kernel's file lock decides, and drops with the process however it dies; the text in the file only says
    who holds it. On S3 it is a lease (`storage.lease`); folders on other stores are not locked.
    """
    if folder.fs is not None:
        with _leased(folder, command, rank) if objects.is_s3(folder.fs) else nullcontext():
            yield
        return
    new, ours = not folder.exists(), (folder / PRIVATE).exists()
    path = (folder / PRIVATE).mkdir() / "lock"
    with disk_full_is_resumable(path.path):
        stream = open(path.path, "ab", buffering=0)  # noqa: SIM115
    with stream:
        for attempt in range(ATTEMPTS):
            try:
                fcntl.flock(stream, (fcntl.LOCK_EX if rank is None else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                break
            except OSError:
                who = holder(folder)
                # Taken, but by nobody that has a name: somebody is only looking who holds it, and gone at once.
                if who is None and attempt < ATTEMPTS - 1:
                    time.sleep(0.02)
                    continue
                raise BusyError(
                    f"{folder} is in use by {who or 'another process'}. Wait for it, stop it, or choose another folder."
                ) from None
        who = Holder(socket.gethostname(), os.getpid(), time.time(), command)
        with disk_full_is_resumable(path.path):
            stream.truncate(0)
            stream.write(json.dumps(asdict(who)).encode())
        for where in (folder, folder / PRIVATE, folder / PRIVATE / "tasks") if ours and rank is None else ():
            remove_partials(where)  # nobody else writes here, so whoever began them is dead
        try:
            yield
        finally:
            # On a disk that turned read-only, tidying up must not take the place of the error that says so.
            with suppress(OSError):
                if rank is None:
                    stream.truncate(0)
                if new and rank is None:
                    _remove_if_empty(folder)


@contextmanager
def _leased(folder: Place, command: str, rank: int | None) -> Iterator[None]:
    from llmdata.storage.lease import holder_of, leased

    who = asdict(Holder(socket.gethostname(), os.getpid(), time.time(), command))
    if rank is not None:
        if (other := holder_of(folder / PRIVATE / "lock")) is not None:
            raise BusyError(f"{folder} is in use by {_parse(json.dumps(other)) or 'another process'}.")
        with leased(folder / PRIVATE / f"rank-{rank}", who):
            yield
        return
    with leased(folder / PRIVATE / "lock", who):
        for place in (folder / PRIVATE).children("rank-*"):
            if (other := holder_of(place)) is not None:
                raise BusyError(f"{folder} is in use by {_parse(json.dumps(other)) or 'another process'}.")
        for where in (folder, folder / PRIVATE, folder / PRIVATE / "tasks"):
            remove_partials(where)
        yield


def _remove_if_empty(folder: Place) -> None:
    """Leave nothing behind of a command that was refused before it wrote anything."""
    if [entry.name for entry in folder.children()] == [PRIVATE] and [
        entry.name for entry in (folder / PRIVATE).children()
    ] == ["lock"]:
        folder.remove()


def holder(folder: Place) -> Holder | None:
    """Who holds the lock of `folder` now; None if nobody does, or if its holder is dead."""
    path = folder / PRIVATE / "lock"
    if objects.is_s3(folder.fs):
        from llmdata.storage.lease import holder_of

        record = holder_of(path)
        return _parse(json.dumps(record)) if record else None
    if folder.fs is not None or not path.exists():
        return None
    with open(path.path, encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return _parse(stream.read())
    return None


def _parse(text: str) -> Holder | None:
    try:
        fields: dict[str, Any] = json.loads(text)
        return Holder(**{name: fields[name] for name in ("host", "pid", "since", "command")})
    except (ValueError, TypeError, KeyError):
        return None
