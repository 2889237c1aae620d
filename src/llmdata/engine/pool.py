"""The engine: a pool of processes that runs a list of tasks and survives the death of any of them.

The engine knows nothing of text. A task is a name and a JSON-able payload; its function reads from storage, writes to
storage, leaves its manifest, and returns a small result. Nothing else passes between processes, so that a cluster can
run the same list (`engine.cluster`).
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

import psutil

from llmdata.engine.forks import as_fork_server_needs_it, start_fork_server
from llmdata.engine.guard import IDLE, Casualty, Slot
from llmdata.engine.session import Session, deaf_children
from llmdata.engine.state import Repeat, RunState
from llmdata.engine.worker import Failure, Order, serve
from llmdata.errors import LlmdataError
from llmdata.storage.place import Place

if TYPE_CHECKING:
    from llmdata.engine.cluster import ClusterRun

log = logging.getLogger(__name__)

POLL = 0.1
"""Seconds between two looks at the workers."""
STALL = 120.0
"""An item that has used no CPU for so long (seconds) hangs."""
GRACE = 10.0
"""Seconds that running tasks get to finish when the run is to stop."""
ATTEMPTS = 3
"""Deaths of a worker outside any item before its task counts as failed; failures to start one before the run fails."""

PROOF = 2
"""Deaths at the same item before they are held against it: one may come from outside (an operator, the kernel)."""
_DIED = {"crashed": "died", "timeout": "was stopped: out of time", "memory": "was stopped: out of memory"}
LOST = 255
"""Exit code of a worker whose fork server died with it, and of C's `exit(-1)`."""
PROOF_LOST = 5
"""PROOF for workers that ended with LOST."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one item may cost: CPU seconds, and resident memory of its worker in bytes."""

    cpu_seconds: float = 30.0
    memory: int = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Needs:
    """What a worker asks of a cluster: CPUs, and memory in bytes. The cluster places by it and enforces nothing."""

    cpus: float = 1
    memory: int = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work: a name that is stable from run to run, and what its function needs."""

    id: str
    payload: Any


@dataclass(slots=True)
class _Job:
    """A task on its way: which items are given up, and how often workers died on what."""

    index: int
    task: Task
    casualties: dict[int, Casualty] = field(default_factory=dict)
    deaths: dict[int, int] = field(default_factory=dict)


class _Worker:
    """One worker process as its supervisor sees it."""

    def __init__(self, context: Any, function: Callable[[Any], Any]) -> None:
        self.slot = context.RawValue(Slot, IDLE, 0, 0.0, 0)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, self.slot, function), daemon=True)
        try:
            with deaf_children():
                self.process.start()
            self._stat = psutil.Process(self.process.pid)
        except (OSError, EOFError, psutil.NoSuchProcess):
            self.pipe.close()
            raise
        finally:
            theirs.close()
        self.job: _Job | None = None
        self.cpu, self.idle, self.looked = 0.0, 0.0, time.monotonic()

    def give(self, job: _Job) -> None:
        self.job = job
        self.slot.item, self.slot.done = IDLE, 0
        self.pipe.send(Order(job.task.payload, job.casualties))

    def verdict(self, limits: Limits) -> str | None:
        """Why the item in hand has to be killed, if it has to."""
        item, began = self.slot.item, self.slot.began
        if item == IDLE:
            return None
        try:
            times, resident = self._stat.cpu_times(), self._stat.memory_info().rss
        except psutil.Error:
            return None  # dead: the closed pipe says so
        if self.slot.item != item:
            return None
        cpu, now = times.user + times.system, time.monotonic()
        # Between two looks more time may have passed than the worker had: Ctrl-Z stops it as well as this process.
        self.idle = 0.0 if cpu > self.cpu else self.idle + min(now - self.looked, 10 * POLL)
        self.cpu, self.looked = cpu, now
        # Memory first: what eats it is often slow at that too, and where this process was kept waiting both are seen.
        if resident > limits.memory:
            return "memory"
        return "timeout" if cpu - began > limits.cpu_seconds or self.idle > STALL else None

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def run_tasks(
    tasks: Sequence[Task],
    function: Callable[[Any], Any],
    session: Session,
    *,
    stage: str,
    unit: str = "tasks",
    limits: Limits | None = None,
    needs: Needs | None = None,
    state: Place | None = None,
    facts: Callable[[Any], dict[str, int]] | None = None,
    preload: Sequence[str] = (),
) -> list[Any]:
    """Run `function(task.payload)` for every task; results in the order of the tasks.

    They run in `session.workers` processes, or as actors of `session.cluster`, each with what `needs` says.

    `function` is importable by name, idempotent, and leaves its output on storage. An item that it brackets with
    `llmdata.engine.guard` and that exceeds `limits`, or kills its worker twice, is given up: the task starts again in a
    fresh worker and finds the item in `guard.current().casualties`. Progress is counted in tasks; `facts` turns a
    result into figures that are added up and shown. With `state`, `state/.llmdata/state.json` tells `llmdata status`
    how far the run is, and `repeats.json` there which tasks ran again and why. `preload` names modules imported once,
    before workers are forked.

    Raises what `function` raises if it is an LlmdataError; StoppedEarly when the session is to stop.
    """
    if not tasks:
        return []
    run_state = RunState(state, stage, len(tasks))
    run: _Run | ClusterRun
    if session.cluster is None:
        start_fork_server(preload)
        context = multiprocessing.get_context("forkserver")
        run = _Run(tasks, function, session, stage, limits or Limits(), run_state, context)
    else:
        from llmdata.engine.cluster import ClusterRun

        run = ClusterRun(tasks, function, session, stage, limits or Limits(), needs or Needs(), run_state, preload)
    session.progress.start(stage, len(tasks), unit)
    try:
        results = run.loop(facts)
    except BaseException:
        run_state.close(failed=run.failed)
        raise
    finally:
        run.close()
    run_state.close()
    session.progress.finish(stage, **run.totals)
    return results


class _Run:
    """One call of `run_tasks`."""

    def __init__(
        self,
        tasks: Sequence[Task],
        function: Callable[[Any], Any],
        session: Session,
        stage: str,
        limits: Limits,
        state: RunState,
        context: Any,
    ) -> None:
        self.function, self.session, self.stage, self.limits = function, session, stage, limits
        self.state, self.context = state, context
        self.queue = deque(_Job(index, task) for index, task in enumerate(tasks))
        self.results: dict[int, Any] = {}
        self.workers: list[_Worker] = []
        self.failed: dict[str, str] = {}
        self.totals: dict[str, int] = {}
        self.items = 0
        self.repeats: list[Repeat] = []

    def loop(self, facts: Callable[[Any], dict[str, int]] | None) -> list[Any]:
        expected = len(self.queue)
        give_up_at: float | None = None
        while len(self.results) < expected:
            if self.session.stop.wanted:
                busy = any(worker.job for worker in self.workers)
                if busy and give_up_at is None:
                    again = "; Ctrl-C again stops at once" if self.session.stop.signal == signal.SIGINT else ""
                    message = f"{self.stage}: stopping, tasks in hand get {GRACE:.0f} s to finish{again}"
                    self.session.progress.note(message)
                give_up_at = give_up_at or time.monotonic() + GRACE
                if time.monotonic() >= give_up_at or not busy:
                    self.session.stop.check()
            else:
                self._hand_out()
            if self.session.meanwhile:
                meanwhile, self.session.meanwhile = self.session.meanwhile, None
                meanwhile()
            for worker in self._ready():
                self._receive(worker, facts)
            for worker in list(self.workers):
                if worker.job and (reason := worker.verdict(self.limits)):
                    self._bury(worker, reason)
            running = [worker.job.task.id for worker in self.workers if worker.job]
            self.state.update(len(self.results), running)
            self.session.progress.advance(self.stage, 0, **self._live())
        return [self.results[index] for index in range(expected)]

    def close(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.kill()

    def _hand_out(self) -> None:
        while self.queue:
            idle = next((worker for worker in self.workers if worker.job is None), None)
            if idle is None:
                if len(self.workers) >= self.session.workers:
                    return
                idle = _new_worker(self.context, self.function)
                self.workers.append(idle)
            job = self.queue.popleft()
            try:
                idle.give(job)
            except OSError:
                self._bury(idle, "crashed")  # killed from outside while it had nothing to do

    def _ready(self) -> list[_Worker]:
        busy: dict[Connection, _Worker] = {worker.pipe: worker for worker in self.workers if worker.job}
        return [busy[pipe] for pipe in wait(list(busy), timeout=POLL) if isinstance(pipe, Connection)]

    def _receive(self, worker: _Worker, facts: Callable[[Any], dict[str, int]] | None) -> None:
        job = worker.job
        assert job is not None
        try:
            answer = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker, "crashed")
            return
        worker.job = None
        self.items += int(worker.slot.done)
        if isinstance(answer, Failure):
            self.failed[job.task.id] = str(answer.error)
            log.info("task %s failed:\n%s", job.task.id, answer.traceback)
            raise answer.error
        self.results[job.index] = answer
        if facts:
            for name, value in facts(answer).items():
                self.totals[name] = self.totals.get(name, 0) + value
        self.session.progress.advance(self.stage, 1, **self.totals)

    def _live(self) -> dict[str, int]:
        items = self.items + sum(int(worker.slot.done) for worker in self.workers if worker.job)
        return {"items": items} if items else {}

    def _bury(self, worker: _Worker, reason: str) -> None:
        """A worker is dead or has to die: blame the item in hand, and put its task back at the head of the queue."""
        job, item, step = worker.job, int(worker.slot.item), int(worker.slot.step)
        assert job is not None
        worker.kill()
        self.workers.remove(worker)
        deaths = job.deaths[item] = job.deaths.get(item, 0) + 1
        log.info("task %s: worker %s at item %d (%s)", job.task.id, reason, item, worker.process.exitcode)
        if item == IDLE:
            if deaths >= ATTEMPTS:
                raise LlmdataError(
                    f"{self.stage}: task {job.task.id} killed its worker {deaths} times (exit code "
                    f"{worker.process.exitcode}). If the machine ran out of memory, use fewer --workers."
                )
        elif reason != "crashed" or deaths >= (PROOF_LOST if worker.process.exitcode == LOST else PROOF):
            # A limit that we enforced ourselves needs no second proof.
            job.casualties[item] = Casualty(reason, step)
        repeat = Repeat(job.task.id, f"its worker {_DIED[reason]}")
        self.repeats.append(repeat)
        self.state.repeat(repeat)
        self.queue.appendleft(job)


def _new_worker(context: Any, function: Callable[[Any], Any]) -> _Worker:
    with as_fork_server_needs_it():
        for _ in range(ATTEMPTS):
            try:
                return _Worker(context, function)
            except (OSError, EOFError, psutil.NoSuchProcess) as error:
                # Either was killed a moment ago, by a kernel short of memory, say; the next try starts another.
                log.info("the fork server or a new worker died: %s", error)
                time.sleep(POLL)
    raise LlmdataError("no worker process can be started; if the machine is out of memory, use fewer --workers")
