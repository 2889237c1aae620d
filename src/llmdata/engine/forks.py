"""Starting the process that workers are forked from. Imports little: it is the first thing that a command does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""By which people, schedulers and terminals that close ask a command to stop."""


def start_fork_server(preload: Sequence[str]) -> None:
    """Start the process that workers are forked from, if there is none; it imports `preload` while this one goes on.

    `run_tasks` does so itself. A command that has to import and to plan before it calls that saves the time here.
    """
    forkserver.set_forkserver_preload(["llmdata.engine.fork_server", *preload, "llmdata.engine.worker"])
    with as_fork_server_needs_it():
        forkserver.ensure_running()


@contextmanager
def as_fork_server_needs_it() -> Iterator[None]:
    """The environment and the signal mask that the fork server, and so every worker, is to inherit."""
    # Libraries size their thread pools from these when first imported: a worker is one core's worth of work.
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    # A wish to stop reaches the fork server too, and would end it, with a traceback even, and its workers with it. What
    # is blocked here is blocked in it, too; starting the resource tracker would lift that.
    resource_tracker.ensure_running()
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
