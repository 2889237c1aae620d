"""The lock of a folder on S3: an object that its holder keeps fresh, written under a condition that the store checks.

A process that dies cannot remove its object, and no kernel does it. So a lease runs out when its holder has not written
for LEASE seconds, by the store's own clock; on the holder's own machine a dead process is seen at once.
"""

from __future__ import annotations

import email.utils
import json
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from llmdata.errors import BusyError, LlmdataError
from llmdata.storage import objects
from llmdata.storage.place import Place

log = logging.getLogger(__name__)

LEASE = 120.0
"""Seconds without a sign of life after which a holder counts as dead."""
BEAT = LEASE / 6
"""Seconds between two signs of life."""


class _Lease:
    """One holder's object at `place`. All requests go out under conditions on the ETag that we last saw."""

    def __init__(self, place: Place, record: dict[str, Any]) -> None:
        assert place.fs is not None
        self.place, self._fs = place, place.fs
        self._record = {**record, "nonce": secrets.token_hex(8), "beat": 0}
        self._bucket, self._key, _ = place.fs.split_path(place.path)
        self._etag = ""

    def take(self) -> dict[str, Any] | None:
        """Take the lease; returns None, or who holds it."""
        seen = _seen(self.place)
        if seen is not None and not seen.dead:
            return seen.record
        if not self._write({"IfMatch": seen.etag} if seen else {"IfNoneMatch": "*"}):
            seen = _seen(self.place)
            return seen.record if seen else {}
        # A store that does not know conditions lets two write: the last one has it.
        seen = _seen(self.place)
        if seen is None or seen.record.get("nonce") != self._record["nonce"]:
            return seen.record if seen else {}
        return None

    def beat(self) -> bool:
        """A sign of life; False if somebody else has taken the lease."""
        self._record["beat"] += 1
        return self._write({"IfMatch": self._etag})

    def release(self) -> None:
        seen = _seen(self.place)
        if seen is not None and seen.record.get("nonce") == self._record["nonce"]:
            self.place.remove()

    def _write(self, condition: dict[str, str]) -> bool:
        body = json.dumps(self._record).encode()
        with objects.errors(self.place):
            try:
                answer = self._fs.call_s3("put_object", Bucket=self._bucket, Key=self._key, Body=body, **condition)
            except Exception as error:
                # A repeated request may find that its first try went through.
                if _refused(error):
                    seen = _seen(self.place)
                    if seen is None or seen.record != self._record:
                        return False
                    self._etag = seen.etag
                    return True
                raise
        self._etag = answer["ETag"]
        return True


class _Seen:
    """A lease object as it was found."""

    def __init__(self, record: dict[str, Any], etag: str, age: float) -> None:
        self.record, self.etag = record, etag
        here = record.get("host") == socket.gethostname()
        self.dead = age > LEASE or (here and not _runs(record))


def _seen(place: Place) -> _Seen | None:
    assert place.fs is not None
    bucket, key, _ = place.fs.split_path(place.path)
    with objects.errors(place):
        try:
            head = place.fs.call_s3("head_object", Bucket=bucket, Key=key)
            record = json.loads(place.fs.cat_file(place.path, start=0, end=head["ContentLength"]))
        except FileNotFoundError:
            return None
        except ValueError:
            record = {}
    now = email.utils.parsedate_to_datetime(head["ResponseMetadata"]["HTTPHeaders"]["date"])
    age = (now - head["LastModified"]).total_seconds()
    return _Seen(record if isinstance(record, dict) else {}, head["ETag"], age)


def _runs(record: dict[str, Any]) -> bool:
    """Whether the process that wrote `record` on this machine still runs; another may have its number by now."""
    with suppress(psutil.Error, KeyError, TypeError, ValueError):
        return psutil.Process(int(record["pid"])).create_time() <= float(record["since"]) + 1
    return False


def _refused(error: Exception) -> bool:
    answer = getattr(error.__cause__, "response", None) or {}
    code = answer.get("Error", {}).get("Code", "")
    return isinstance(error, FileExistsError) or code in ("PreconditionFailed", "ConditionalRequestConflict", "412")


@contextmanager
def leased(place: Place, record: dict[str, Any]) -> Iterator[None]:
    """Hold the lease at `place`; raises BusyError naming the holder if it is taken.

    Should somebody take it away (this machine was asleep for longer than LEASE), the process gets SIGTERM and stops as
    it does for a scheduler: its task is repeated, and by the other one too, with the same bytes.
    """
    lease = _Lease(place, record)
    holder = lease.take()
    if holder is not None:
        raise BusyError(
            f"{place.parent.parent} is in use by {who(holder)}. Wait for it, stop it, or choose another folder. (If it "
            f"has died, its lock runs out {LEASE:.0f} s after its last sign of life.)"
        )
    over = threading.Event()

    def keep() -> None:
        while not over.wait(BEAT):
            try:
                if not lease.beat():
                    log.error("%s: the lock was taken by another process; stopping", place)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
            except LlmdataError as error:
                log.warning("%s: no sign of life could be written: %s", place, error)

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        lease.release()


def holder_of(place: Place) -> dict[str, Any] | None:
    """What the living holder of the lease at `place` says of itself, or None."""
    seen = _seen(place)
    return None if seen is None or seen.dead else seen.record


def who(record: dict[str, Any]) -> str:
    return (
        f"process {record['pid']} on {record['host']} ({record['command']})" if "pid" in record else "another process"
    )
