"""The gradient of a batch on several CPU threads, each with a share of the sequences.

Threads that share every matrix product meet a thousand times in a step and each time wait for the slowest; with a share
each they meet once. What a small model gains is in `benchmarks/README.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import torch
from torch import Tensor

from llmdata.train.networks import Network

MOST_BYTES = 1 << 30
"""Memory for gradients of their own; models too large for it share their products among the threads instead."""


class Replicas:
    """A model and copies that share its weights, each with a gradient of its own.

    `gradient` is the flat buffer that the gradients of `model` are views of; all shares end up there, summed in order.
    """

    def __init__(self, model: Network, gradient: Tensor, threads: int, sequences: int) -> None:
        self.threads = threads
        self.models: list[Network] = [model]
        self.gradients = [gradient]
        room = MOST_BYTES // (gradient.numel() * gradient.element_size())
        for _ in range(min(threads, sequences, 1 + room) - 1):
            copy, own = deepcopy(model), torch.zeros_like(gradient)
            for parameter, mirror in zip(model.parameters(), copy.parameters(), strict=True):
                assert parameter.grad is not None
                start = parameter.grad.storage_offset()
                mirror.data = parameter.data
                mirror.grad = own[start : start + parameter.numel()].view_as(parameter)
            self.models.append(copy)
            self.gradients.append(own)
        self._pool = ThreadPoolExecutor(max(1, len(self.models) - 1), thread_name_prefix="replica")

    def add_gradient(self, tokens: Tensor, add: Callable[[Network, Tensor], Tensor]) -> Tensor:
        """The sum of the losses that `add(model, share of tokens)` returns after adding its gradient to the model's."""
        if len(self.models) == 1:
            return add(self.models[0], tokens)
        shares = tokens.tensor_split(len(self.models))
        torch.set_num_threads(self.threads // len(self.models))  # of the threads that begin from here on, too
        try:
            others = [self._pool.submit(add, *pair) for pair in zip(self.models[1:], shares[1:], strict=True)]
            loss = add(self.models[0], shares[0])
            for other in others:
                loss += other.result()
        finally:
            torch.set_num_threads(self.threads)
        for own in self.gradients[1:]:
            self.gradients[0].add_(own)
            own.zero_()
        return loss
