"""One run by several processes (ranks) that `torchrun` starts, one a GPU: who they are and what they tell each other.

All ranks take the same decisions from the same figures, so that no rank waits for one that went another way. Imports
torch only where there are several.
"""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from llmdata.engine.session import Stop
from llmdata.errors import ConfigError, LlmdataError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for the others before it gives up. The longest that one works alone is writing samples."""
LAST_BREATH = 10.0
"""Seconds that a dying process may take, its connections closed, until it is dead: on a busy machine it waits."""
_FAILED = "failed"
_DEADLINE = 1  # among the numbers of signals, where there is none of that number that stops a run


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of a run: `rank` of `size` in all, `local` of `here` on this machine."""

    rank: int = 0
    size: int = 1
    local: int = 0
    here: int = 1

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Ranks:
        """What `torchrun` says in the environment; one process where it does not. Raises ConfigError if it is torn."""
        if int(environment.get("WORLD_SIZE") or 1) == 1:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        missing = [name for name in names if not environment.get(name)]
        if missing:
            raise ConfigError(
                f"WORLD_SIZE is {environment['WORLD_SIZE']}, but {', '.join(missing)} is not set: start several "
                "processes with `torchrun --nproc-per-node N -m llmdata train …`, or unset WORLD_SIZE"
            )
        rank, size, local, here = (int(environment[name]) for name in names[:4])
        return cls(rank, size, local, here)

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This rank's part of `count` things in a row; parts differ by one at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def on_first(self, make: Callable[[], T]) -> T:
        """What `make` returns on the first rank, on every rank; the LlmdataError it raises there, too."""
        if self.size == 1:
            return make()
        import torch
        import torch.distributed as dist

        told: list[Any] = [None, None]
        if self.first:
            try:
                told[0] = make()
            except LlmdataError as error:
                told[1] = error
        dist.broadcast_object_list(told, device=torch.device("cpu"))
        if told[1] is not None:
            raise told[1]
        return cast(T, told[0])

    def sum(self, tensor: Tensor) -> Tensor:
        """`tensor`, changed to its sum over the ranks."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(tensor)
        return tensor

    def as_first(self, tensor: Tensor) -> None:
        """Change `tensor` to what it is on the first rank."""
        if self.size > 1:
            import torch.distributed as dist

            dist.broadcast(tensor, src=0)

    def most(self, number: int) -> int:
        """The largest `number` of any rank."""
        if self.size == 1:
            return number
        import torch
        import torch.distributed as dist

        found = torch.tensor(number)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def least(self, number: int) -> int:
        """The smallest `number` of any rank."""
        return -self.most(-number)

    def meet(self) -> None:
        """Wait until all ranks have come here."""
        self.most(0)

    def agree(self, stop: Stop) -> bool:
        """Whether any rank has heard a wish to stop, which is everybody's then; heard a moment later, it is not yet."""
        if self.size == 1:
            return stop.wanted
        heard = self.most(stop.signal or (_DEADLINE if stop.wanted else 0))
        if heard == _DEADLINE:
            stop.deadline = 0.0
        elif heard:
            stop.signal = heard
        return bool(heard)


ALONE = Ranks()


@contextmanager
def joined(ranks: Ranks, device: str) -> Iterator[None]:
    """The ranks joined for training on `device` (a setting), and every error told by one of them, once.

    Where a rank dies, the others raise LlmdataError with its number and do not wait.
    """
    if ranks.size == 1:
        yield
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    from llmdata.train.device import choose_device

    where = choose_device(device, ranks)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    # As init_process_group would, but to tell one another in it how each ended, too.
    store = next(rendezvous("env://", ranks.rank, ranks.size, timeout=TIMEOUT))[0]
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo",
        store=store,
        rank=ranks.rank,
        world_size=ranks.size,
        timeout=TIMEOUT,
    )
    store.set(f"rank-{ranks.rank}", f"{socket.gethostname()} {os.getpid()}")
    try:
        yield
        ranks.meet()
    except torch.cuda.OutOfMemoryError as error:
        message = f"rank {ranks.rank}: the GPU's memory is full ({_first_line(error)})"
        advice = (
            "set train.data.micro_batch lower, or train.recompute=true, or start more ranks with train.parallel=fsdp"
        )
        _tell_once(store, message, 1)
        raise LlmdataError(f"{message}: {advice}") from error
    except RuntimeError as error:
        # What gloo and NCCL raise, and FSDP on their behalf, is told from a defect by a rank that is no more.
        gone = _gone(store, ranks)
        if not gone and not isinstance(error, dist.DistError) and "gloo" not in str(error):
            _tell_once(store, str(error), 1)
            raise
        if _failed(store):  # and has told why itself
            raise SystemExit(1) from None
        message = (
            f"{gone or 'a rank'} has ended, killed or out of memory, or the network between the ranks is down: "
            "training needs all of them. The same command goes on from the last checkpoint, with any number of ranks."
        )
        _tell_once(store, message, 1)
        raise LlmdataError(message) from error
    except Exception as error:
        _tell_once(store, str(error), getattr(error, "exit_code", 1))
        raise
    # Only where all is well: ending NCCL waits for the others. Shards go first, or threads outlive the interpreter.
    gc.collect()
    dist.destroy_process_group()


def _tell_once(store: Any, message: str, exit_code: int) -> None:
    """Return on the one rank that is to tell `message`; elsewhere end with `exit_code`."""
    try:
        store.set(_FAILED, "")
        first = store.add(message, 1) == 1
    except RuntimeError:  # the store went with the machine that kept it: everybody tells
        return
    if not first:
        raise SystemExit(exit_code) from None


def _failed(store: Any) -> bool:
    """Whether a rank has told why it ended."""
    try:
        told: bool = store.check([_FAILED])
    except RuntimeError:
        return False
    return told


def _gone(store: Any, ranks: Ranks) -> str:
    """Which ranks of this machine have ended, in words; nothing if none has within LAST_BREATH."""
    import psutil

    try:
        named = [store.get(f"rank-{other}").decode().rsplit(" ", 1) for other in range(ranks.size)]
    except RuntimeError:
        return ""
    here = {rank: int(pid) for rank, (host, pid) in enumerate(named) if host == socket.gethostname()}
    found: list[str] = []
    deadline = time.monotonic() + LAST_BREATH
    while not found and time.monotonic() < deadline:
        for rank, pid in here.items():
            try:
                alive = psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
            except psutil.NoSuchProcess:
                alive = False
            if not alive:
                found.append(f"rank {rank} (process {pid} on {socket.gethostname()})")
        time.sleep(0.05)
    return ", ".join(found)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].partition(". ")[0]
