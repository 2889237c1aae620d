"""A limit on how long an exchange with a server may take as a whole."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Exchange:
    """One request and its answer; `peer` is the address that it is with.

    It holds a duplicate of the socket: a shutdown there works through TLS, while another thread is reading, and after
    http.client has let go of a connection whose answer is still coming in.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.expired = False
        self.peer = ""
        self._guard: socket.socket | None = None
        self._lock = threading.Lock()  # a closed descriptor's number may be another connection's in the next moment

    def over(self, connection: socket.socket, peer: str) -> None:
        """This is the connection that the exchange goes over."""
        guard = socket.socket(fileno=os.dup(connection.fileno()))
        with self._lock:
            if self._guard is not None:
                self._guard.close()
            self._guard, self.peer = guard, peer
        if self.expired:
            self.cut()

    def cut(self) -> None:
        """End it now."""
        with self._lock:
            self.expired = True
            if self._guard is not None:
                with contextlib.suppress(OSError):  # the other side was faster
                    self._guard.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            if self._guard is not None:
                self._guard.close()
                self._guard = None


class Watchdog:
    """Cuts every exchange that lasts too long: a timeout for each read never stops a server that drips."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._exchanges: set[Exchange] = set()
        self._over = threading.Event()
        self._local = threading.local()
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    @contextmanager
    def exchange(self, seconds: float) -> Iterator[Exchange]:
        """All that this thread sends and receives in this block has to be over in so many seconds."""
        exchange = Exchange(time.monotonic() + seconds)
        exchange.expired = self._over.is_set()
        self._local.exchange = exchange
        with self._lock:
            self._exchanges.add(exchange)
        try:
            yield exchange
        finally:
            self._local.exchange = None
            with self._lock:
                self._exchanges.discard(exchange)
            exchange.close()

    def uses(self, connection: socket.socket, peer: str) -> None:
        """The exchange of this thread goes over `connection` to the address `peer`."""
        exchange: Exchange | None = getattr(self._local, "exchange", None)
        if exchange is not None:
            exchange.over(connection, peer)

    def stop(self) -> None:
        """End all exchanges now, and all that begin later."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(0.25):
            self._cut(time.monotonic())
        self._cut(float("inf"))

    def _cut(self, now: float) -> None:
        with self._lock:
            late = [exchange for exchange in self._exchanges if exchange.deadline < now]
        for exchange in late:
            exchange.cut()
