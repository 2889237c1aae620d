"""Reading ahead: an iterator that works in a thread of its own while whoever reads it is busy outside of Python."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

T = TypeVar("T")
_WAIT = 0.1
"""Seconds after which a full queue looks whether anybody still reads."""


@contextmanager
def reading_ahead(items: Iterator[T], depth: int = 2) -> Iterator[Iterator[T]]:
    """`items`, made by a thread that is up to `depth` ahead; what it raises is raised where it would have come.

    The thread ends with the block, also where that does not read to the end.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    over = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not over.is_set():
            with suppress(queue.Full):
                ready.put((item, error), timeout=_WAIT)
                break

    def work() -> None:
        try:
            for item in items:
                put(item, None)
                if over.is_set():
                    return
            put(None, StopIteration())
        except BaseException as error:  # also the wish to stop, which is no Exception
            put(None, error)

    def read() -> Iterator[T]:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            assert item is not None
            yield item

    thread = threading.Thread(target=work, name="reading ahead", daemon=True)
    thread.start()
    try:
        yield read()
    finally:
        over.set()
        thread.join()
