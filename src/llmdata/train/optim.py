"""The optimiser: AdamW, or Muon for the matrices inside the blocks, over flat buffers; and learning-rate schedules.

All parameters lie in one buffer, and so do their gradients and moments. So zeroing, the norm of the gradient and the
update are one call each instead of one a parameter, and sharing gradients between machines would be one call too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from llmdata.train.config import OptimConfig

ALIGNMENT = 64  # elements: every parameter starts on a cache line, and where kernels with wide loads want it


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """Learning rate of step `step` (from 0) of `steps`."""
    warmup = max(1, steps // 50) if config.warmup is None else config.warmup
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)  # 0 → 1
    if config.schedule == "cosine":
        share = 0.5 + 0.5 * math.cos(math.pi * done)
    elif config.schedule == "linear":
        share = 1 - done
    else:
        share = min(1.0, (1 - done) / config.decay)
    return config.lr * (config.final_lr + (1 - config.final_lr) * share)


class Optimizer:
    """Holds the model's parameters in flat buffers and updates them.

    An update whose gradient is not finite, or whose loss is a spike, is left out; the device decides, nobody waits.
    """

    def __init__(self, model: nn.Module, config: OptimConfig, spike: float = 0.0) -> None:
        self.config, self.spike = config, spike
        named = list(model.named_parameters())
        muon = [(n, p) for n, p in named if config.name == "muon" and n.startswith("blocks.") and p.ndim == 2]
        rest = [(n, p) for n, p in named if not any(p is q for _, q in muon)]
        decayed = [p for _, p in rest if p.ndim >= 2]
        plain = [p for _, p in rest if p.ndim < 2]
        ordered = [*decayed, *plain, *(p for _, p in muon)]
        device = ordered[0].device
        ends = _ends(ordered)
        self.values = torch.zeros(ends[-1], device=device)
        self.gradient = torch.zeros(ends[-1], device=device)
        for parameter, end in zip(ordered, ends, strict=True):
            start = end - _room(parameter)
            span = slice(start, start + parameter.numel())
            self.values[span] = parameter.detach().reshape(-1)
            parameter.data = self.values[span].view_as(parameter)
            parameter.grad = self.gradient[span].view_as(parameter)
        first, second = sum(map(_room, decayed)), sum(map(_room, decayed)) + sum(map(_room, plain))
        self._flat = [nn.Parameter(part) for part in (self.values[:first], self.values[first:second])]
        for part, span in zip(self._flat, (slice(0, first), slice(first, second)), strict=True):
            part.grad = self.gradient[span]
        self.adamw = torch.optim.AdamW(
            [
                {"params": [self._flat[0]], "weight_decay": config.weight_decay},
                {"params": [self._flat[1]], "weight_decay": 0.0},
            ],
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            fused=True,
        )
        for part in self._flat:
            self.adamw.state[part] = {
                "step": torch.zeros((), device=device),
                "exp_avg": torch.zeros_like(part.data),
                "exp_avg_sq": torch.zeros_like(part.data),
            }
        self._muon = [p for _, p in muon]
        self.momentum = torch.zeros(ends[-1] - second, device=device)
        self.average = torch.zeros((), device=device)  # running average of the loss
        self.seen = torch.zeros((), device=device)

    def step(self, lr: float, loss: Tensor) -> Tensor:
        """Update with the gradients gathered, then clear them. Returns [loss, norm of the gradient, 1 if left out]."""
        norm = torch.linalg.vector_norm(self.gradient)
        bad = ~torch.isfinite(norm + loss)
        if self.spike:
            bad |= (loss > self.average + self.spike) & (self.seen > 0)
        self.average = torch.where(bad, self.average, torch.where(self.seen > 0, self.average.lerp(loss, 0.02), loss))
        self.seen += ~bad
        scale = (norm / self.config.clip).clamp(min=1.0) if self.config.clip else torch.ones_like(norm)
        # What the fused kernel takes from torch.amp.GradScaler: divide gradients by the one, do nothing if the other.
        self.adamw.grad_scale = scale  # type: ignore[attr-defined]
        self.adamw.found_inf = bad.float()  # type: ignore[attr-defined]
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()
        if self._muon:
            self._muon_step(lr, bad)
        self.gradient.zero_()
        return torch.stack([loss, norm, bad.float()])

    @torch.no_grad()
    def _muon_step(self, lr: float, bad: Tensor) -> None:
        """Muon (Jordan 2024), at the size of AdamW's updates so that both share a rate (arXiv 2502.16982, 2.2)."""
        gradient = torch.where(bad, 0.0, self.gradient[-len(self.momentum) :])
        self.momentum = torch.where(bad, self.momentum, self.momentum * self.config.momentum + gradient)
        update = gradient + self.config.momentum * self.momentum
        groups: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
        offset = 0
        for parameter in self._muon:
            matrix = update[offset : offset + parameter.numel()].view_as(parameter)
            groups.setdefault((matrix.shape[0], matrix.shape[1]), []).append((parameter, matrix))
            offset += _room(parameter)
        rate = torch.where(bad, 0.0, lr)
        for (rows, columns), members in groups.items():
            turned = orthogonalised(torch.stack([matrix for _, matrix in members]), self.config.newton_schulz)
            for (parameter, _), direction in zip(members, turned, strict=True):
                parameter.mul_(1 - rate * self.config.weight_decay)
                parameter.sub_(direction * (rate * 0.2 * math.sqrt(max(rows, columns))))

    def tensors(self) -> dict[str, Tensor]:
        """All state but the parameters themselves, for a checkpoint."""
        state = {"average": self.average, "seen": self.seen, "momentum": self.momentum}
        for name, part in zip(("decayed", "plain"), self._flat, strict=True):
            state |= {f"{name}.{key}": value for key, value in self.adamw.state[part].items()}
        return state

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])


def orthogonalised(matrices: Tensor, steps: int = 5) -> Tensor:
    """The nearest orthogonal matrix to each of `matrices` (n, rows, columns), roughly: Newton–Schulz steps.

    The polynomial's coefficients are Jordan's: after five steps singular values are between 0.7 and 1.2, which serves
    as well as 1.
    """
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    result: Tensor = (x.mT if tall else x).to(matrices.dtype)
    return result


def _room(parameter: Tensor) -> int:
    return -(-parameter.numel() // ALIGNMENT) * ALIGNMENT


def _ends(parameters: Iterable[Tensor]) -> list[int]:
    ends, end = [], 0
    for parameter in parameters:
        end += _room(parameter)
        ends.append(end)
    return ends
