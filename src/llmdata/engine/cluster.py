"""The same lists of tasks on a Ray cluster.

Each unit of the cluster is an actor that supervises one worker process exactly as the local pool does: a page that
crashes, hangs or explodes its worker costs that page, there as here. What is added is the loss of whole machines: a
task whose actor died goes to another one, and is noted as run again. Tasks are pure functions of storage and write
whole files only, so that running one twice, even at the same time, changes no byte.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
import traceback as tracebacks
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llmdata.engine.forks import start_fork_server
from llmdata.engine.pool import GRACE, POLL, Limits, Needs, Task, _Run
from llmdata.engine.session import Session
from llmdata.engine.state import Repeat, RunState
from llmdata.engine.worker import Failure
from llmdata.errors import InputError, LlmdataError

log = logging.getLogger(__name__)

LOSSES = 5
"""Actors that one task may lose before it counts as failed: machines die by chance, but not five under one task."""
LOOK = 5.0
"""Seconds between two looks at how many machines the cluster has."""
PATIENCE = 60.0
"""Seconds to wait for a machine that can hold one task."""


@dataclass(frozen=True, slots=True)
class _Answer:
    result: Any
    items: int
    repeats: list[Repeat]


class _Host:
    """An actor: one worker process and its supervisor."""

    def __init__(self, function: Callable[[Any], Any], stage: str, limits: Limits, preload: Sequence[str]) -> None:
        self._function, self._stage, self._limits = function, stage, limits
        self._workers: list[Any] = []
        start_fork_server(preload)

    def ready(self) -> bool:
        return True

    def run(self, task: Task) -> _Answer | Failure:
        state = RunState(None, self._stage, 1)
        context = multiprocessing.get_context("forkserver")
        run = _Run([task], self._function, Session(workers=1), self._stage, self._limits, state, context)
        run.workers = self._workers  # warm from the task before
        try:
            (result,) = run.loop(None)
        except LlmdataError as error:
            return Failure(error, tracebacks.format_exc())
        return _Answer(result, run.items, run.repeats)


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to the cluster at `address` (`auto`: the one that runs here; `local`: start one) while the block runs.

    Raises InputError if there is none.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InputError("--executor ray needs Ray: pip install 'llmdata[ray]'") from None
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(
            address=address,
            namespace="llmdata",
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"--ray-address {address}: no Ray cluster answers ({error}). Start one with `ray start --head`, name its "
            "address, or give `--ray-address local`."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


class ClusterRun:
    """One call of `run_tasks` on a cluster."""

    def __init__(
        self,
        tasks: Sequence[Task],
        function: Callable[[Any], Any],
        session: Session,
        stage: str,
        limits: Limits,
        needs: Needs,
        state: RunState,
        preload: Sequence[str],
    ) -> None:
        import ray

        self.session, self.stage, self.needs, self.state = session, stage, needs, state
        assert session.cluster is not None
        self._most = session.cluster.workers or len(tasks)
        self.tasks = tasks
        self.queue = deque(range(len(tasks)))
        self.lost: dict[int, int] = {}
        self.results: dict[int, Any] = {}
        self.failed: dict[str, str] = {}
        self.totals: dict[str, int] = {}
        self.items = 0
        self._make: Callable[[], Any] = lambda: (
            ray.remote(_Host)
            .options(num_cpus=needs.cpus, memory=needs.memory, max_restarts=0)
            .remote(function, stage, limits, preload)
        )
        self._ray = ray
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, int]] = {}
        self._looked = 0.0
        self._room_since = time.monotonic()

    def loop(self, facts: Callable[[Any], dict[str, int]] | None) -> list[Any]:
        give_up_at: float | None = None
        while len(self.results) < len(self.tasks):
            if self.session.stop.wanted:
                if give_up_at is None and self._busy:
                    self.session.progress.note(f"{self.stage}: stopping, tasks in hand get {GRACE:.0f} s to finish")
                give_up_at = give_up_at or time.monotonic() + GRACE
                if time.monotonic() >= give_up_at or not self._busy:
                    self.session.stop.check()
            else:
                self._grow()
                self._hand_out()
            self._receive(facts)
            self.state.update(len(self.results), [self.tasks[index].id for _, index in self._busy.values()])
            self.session.progress.advance(self.stage, 0, **({"items": self.items} if self.items else {}))
        return [self.results[index] for index in range(len(self.tasks))]

    def close(self) -> None:
        """Give the cluster back what it lent."""
        for actor in (*self._idle, *self._starting.values(), *(actor for actor, _ in self._busy.values())):
            self._ray.kill(actor)

    def _grow(self) -> None:
        """Ask for an actor for each task that waits, as far as machines can hold them and --workers allows."""
        if time.monotonic() - self._looked < LOOK and (self._starting or self._idle or self._busy):
            return
        self._looked = time.monotonic()
        there = len(self._starting) + len(self._idle) + len(self._busy)
        room = _room(self._ray.nodes(), self.needs)
        if room:
            self._room_since = self._looked
        elif self._looked - self._room_since > PATIENCE:
            raise LlmdataError(
                f"{self.stage}: no machine of the cluster has {self.needs.cpus:g} CPUs and "
                f"{self.needs.memory / 1e9:.1f} GB of memory for a task. Add one, and run the same command again."
            )
        else:
            time.sleep(POLL)
        wanted = min(room, self._most, len(self._busy) + len(self.queue))
        for _ in range(wanted - there):
            actor = self._make()
            self._starting[actor.ready.remote()] = actor

    def _hand_out(self) -> None:
        while self.queue and self._idle:
            index, actor = self.queue.popleft(), self._idle.pop()
            self._busy[actor.run.remote(self.tasks[index])] = actor, index

    def _receive(self, facts: Callable[[Any], dict[str, int]] | None) -> None:
        waiting = [*self._starting, *self._busy]
        if not waiting:
            return
        for reference in self._ray.wait(waiting, num_returns=len(waiting), timeout=POLL)[0]:
            index: int | None = None
            if reference in self._starting:
                actor = self._starting.pop(reference)
            else:
                actor, index = self._busy.pop(reference)
            try:
                answer = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                self._bury(index, error)
                continue
            self._idle.append(actor)
            if index is not None:
                self._take(index, answer, facts)

    def _take(self, index: int, answer: _Answer | Failure, facts: Callable[[Any], dict[str, int]] | None) -> None:
        if isinstance(answer, Failure):
            self.failed[self.tasks[index].id] = str(answer.error)
            log.info("task %s failed:\n%s", self.tasks[index].id, answer.traceback)
            raise answer.error
        self.results[index] = answer.result
        self.items += answer.items
        for repeat in answer.repeats:
            self.state.repeat(repeat)
        if facts:
            for name, value in facts(answer.result).items():
                self.totals[name] = self.totals.get(name, 0) + value
        self.session.progress.advance(self.stage, 1, **self.totals)

    def _bury(self, index: int | None, error: Exception) -> None:
        """An actor is gone, most often with its machine: its task goes to the head of the queue."""
        log.info("an actor of %s died: %s", self.stage, error)
        self._looked = 0.0
        if index is None:
            return
        task = self.tasks[index].id
        self.lost[index] = self.lost.get(index, 0) + 1
        if self.lost[index] >= LOSSES:
            raise LlmdataError(
                f"{self.stage}: task {task} lost its machine {LOSSES} times, the last time to: {_first_line(error)}. "
                "If machines ran out of memory, give them more or run fewer tasks on each."
            )
        self.state.repeat(Repeat(task, "its machine or actor died"))
        self.queue.appendleft(index)


def _room(nodes: Sequence[dict[str, Any]], needs: Needs) -> int:
    """How many actors the living machines can hold."""
    return sum(
        int(min(node["Resources"].get("CPU", 0) // needs.cpus, node["Resources"].get("memory", 0) // needs.memory))
        for node in nodes
        if node["Alive"]
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
