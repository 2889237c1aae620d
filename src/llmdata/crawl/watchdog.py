"""A limit on how long an exchange with a server may take as a whole."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Exchange:
    """One request and its answer."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.expired = False
        self.guard: socket.socket | None = None
        self.peer = ""

    def cut(self) -> None:
        self.expired = True
        if self.guard is not None:
            try:
                self.guard.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # the other side, or the fetching thread, was faster


class Watchdog:
    """Shuts the socket of every exchange that lasts too long: a per-read timeout never stops a server that drips.

    It holds a duplicate of the socket, on which a shutdown works through TLS and while another thread is reading.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._exchanges: dict[int, Exchange] = {}
        self._over = threading.Event()
        self._local = threading.local()
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    @contextmanager
    def exchange(self, seconds: float) -> Iterator[Exchange]:
        exchange = Exchange(time.monotonic() + seconds)
        self._local.exchange = exchange
        with self._lock:
            self._exchanges[id(exchange)] = exchange
        try:
            yield exchange
        finally:
            self._local.exchange = None
            with self._lock:
                del self._exchanges[id(exchange)]

    def uses(self, guard: socket.socket, peer: str) -> None:
        """The exchange of this thread goes over the socket of which `guard` is a duplicate."""
        exchange: Exchange | None = getattr(self._local, "exchange", None)
        if exchange is not None:
            exchange.guard, exchange.peer = guard, peer
            if self._over.is_set():
                exchange.cut()

    def stop(self) -> None:
        """End all exchanges now."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(0.25):
            self._cut(time.monotonic())
        self._cut(float("inf"))

    def _cut(self, now: float) -> None:
        with self._lock:
            late = [exchange for exchange in self._exchanges.values() if exchange.deadline < now]
        for exchange in late:
            exchange.cut()
