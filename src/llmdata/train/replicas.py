"""The gradient of a batch on several CPU cores, each with a share of the sequences in a process of its own.

Threads that share every matrix product meet a thousand times in a step and each time wait for the slowest; with a share
each they meet once. Processes and not threads, which would wait for Python's lock between any two operations. What a
small model gains is in `benchmarks/README.md`.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe

import numpy as np
import torch
from torch import Tensor

from llmdata.engine.session import deaf_children
from llmdata.errors import LlmdataError
from llmdata.train.data import Ids
from llmdata.train.networks import Network

MOST_BYTES = 1 << 30
"""Memory for gradients of their own; models too large for it share their products among threads instead."""

NO_SEED = -1

Add = Callable[[Network, Tensor], Tensor]
"""Returns the loss of a model on its share of the tokens, and adds its gradient to the model's."""


def shared_zeros(size: int) -> Tensor:
    """A flat tensor that processes forked from this one share. It takes no room in /dev/shm, which containers limit."""
    return torch.frombuffer(mmap.mmap(-1, max(1, size) * torch.float32.itemsize), dtype=torch.float32)[:size]


def seed_of(*numbers: int) -> int:
    """A seed for what these numbers (at least 0) name. PyTorch's generator for CPUs takes its lowest 32 bits alone."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class Replicas:
    """A model and processes that share its weights, each with a gradient of its own.

    Weights and `gradient`, the flat buffer of which the parameters' gradients are views, lie in shared memory
    (`shared_zeros`). All shares end up in `gradient`, summed in order.
    """

    def __init__(self, model: Network, gradient: Tensor, threads: int, sequences: int, add: Add) -> None:
        self.model, self.gradient, self.threads, self.add = model, gradient, threads, add
        room = MOST_BYTES // (gradient.numel() * gradient.element_size())
        count = min(threads, sequences, 1 + room)
        # Where most threads would find no share, they do more for each product.
        self.count = count if 2 * count > threads else 1
        self._others: list[_Replica] = []

    def add_gradient(self, tokens: Ids, seed: int | None) -> Tensor:
        """The sum of the losses that `add` returns for the shares of `tokens`.

        Each of the other processes draws random numbers from a seed of its own, made of `seed` if it is given.
        """
        if self.count == 1:
            return self.add(self.model, torch.from_numpy(tokens))
        torch.set_num_threads(1)
        try:
            if not self._others:  # as late as this, since what they hold of the model besides its weights is a copy
                self._others = [_Replica(self, tokens.shape[1]) for _ in range(self.count - 1)]
            # NumPy until here: PyTorch takes a millisecond to split a batch when its code has left the caches.
            first, *rest = np.array_split(tokens, self.count)
            for number, (other, share) in enumerate(zip(self._others, rest, strict=True), 1):
                other.begin(share, None if seed is None else seed_of(seed, number))
            loss = self.add(self.model, torch.from_numpy(first))
            for other in self._others:
                loss += other.loss()
        finally:
            torch.set_num_threads(self.threads)
        for other in self._others:
            self.gradient.add_(other.gradient)
            other.gradient.zero_()  # here, where all threads take part and none of the shares waits for it
        return loss

    def close(self) -> None:
        """Ends the processes; another batch would begin new ones."""
        for other in self._others:
            other.close()
        self._others = []


class _Replica:
    """A process that waits for shares of batches. It ends with the one that it was forked from, however that ends."""

    def __init__(self, replicas: Replicas, width: int) -> None:
        self.gradient = shared_zeros(replicas.gradient.numel())
        self._code: int | None = None
        self._connection, theirs = Pipe()
        with deaf_children(), warnings.catch_warnings():
            # Python warns of forks beside threads, whose locks would stay held: the process takes none of theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process = os.fork()
            if self._process == 0:
                try:
                    self._work(replicas, width, theirs)
                except BaseException:
                    traceback.print_exc()
                    sys.stderr.flush()
                finally:
                    os._exit(1)
        theirs.close()

    def begin(self, share: Ids, seed: int | None) -> None:
        """Let it compute its share; `seed` is what its dropout draws from."""
        try:
            self._connection.send_bytes(np.int64(NO_SEED if seed is None else seed).tobytes() + share.tobytes())
        except OSError:
            raise self._ended() from None

    def loss(self) -> Tensor:
        try:
            answer = self._connection.recv_bytes()
        except (EOFError, OSError):
            raise self._ended() from None
        return torch.tensor(np.frombuffer(answer, np.float32)[0])

    def close(self) -> int:
        """Ends the process and returns its exit code, or less the signal's number."""
        self._connection.close()
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        return self._code

    def _ended(self) -> LlmdataError:
        code = self.close()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}; its error stands above"
        return LlmdataError(
            f"a process that computes a share of each batch ended ({how}), perhaps for want of memory. The same "
            "command goes on from the last checkpoint; with train.threads=1 there is one process"
        )

    def _work(self, replicas: Replicas, width: int, connection: Connection) -> None:
        # Nothing that is open is its business: neither locks on folders nor the other ends of pipes.
        os.closerange(3, connection.fileno())
        os.closerange(connection.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        torch.set_num_threads(1)
        for parameter in replicas.model.parameters():
            assert parameter.grad is not None
            start = parameter.grad.storage_offset()
            parameter.grad = self.gradient[start : start + parameter.numel()].view_as(parameter)
        with suppress(EOFError, OSError):
            while True:
                given = np.frombuffer(connection.recv_bytes(), np.int64)
                tokens = torch.from_numpy(given[1:].copy())
                if given[0] != NO_SEED:
                    torch.default_generator.manual_seed(int(given[0]))
                loss = replicas.add(replicas.model, tokens.view(-1, width))
                connection.send_bytes(loss.numpy().astype(np.float32).tobytes())
        os._exit(0)
