"""The optimiser: AdamW, or Muon for the matrices inside the blocks; and learning-rate schedules.

Where parameters lie is a layout's business: `Flat`, whole on every rank, or `llmdata.train.sharded.Sharded`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from llmdata.train.config import OptimConfig
from llmdata.train.parallel import ALONE, Ranks
from llmdata.train.replicas import shared_zeros

ALIGNMENT = 64  # elements: every parameter starts on a cache line, and where kernels with wide loads want it
GROUPS = ("decayed", "plain", "muon")


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


class Layout(Protocol):
    """Where the parameters that this process updates lie, by what updates them: `pieces` with their gradients.

    Groups are `decayed` (AdamW with weight decay), `plain` (AdamW without) and `muon`. In a checkpoint each is one flat
    tensor, parameter behind parameter on multiples of ALIGNMENT, whatever the layout: any of them reads any other's.
    Methods that gather or scatter are called on all ranks.
    """

    ranks: Ranks
    pieces: dict[str, list[nn.Parameter]]

    def norm(self) -> Tensor:
        """The norm of the whole gradient; the pieces' gradients are in place from here on."""

    def clear(self) -> None:
        """Set the gradient to zero."""

    def matrices(self, updates: list[Tensor]) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Muon's parameters as (n, rows, columns) of `updates`, which lie as its pieces do, and what each is for."""

    def part(self, matrix: Tensor) -> Tensor:
        """What this process holds of a matrix of `matrices`."""

    def gather(self, group: str, values: list[Tensor]) -> Tensor:
        """The flat tensor of `values`, which lie as the group's pieces do: a copy on the CPU, on the first rank."""

    def scatter(self, group: str, flat: Tensor | None, values: list[Tensor]) -> None:
        """What `gather` gave, back into `values`; `flat` is given on the first rank."""

    def weights(self) -> dict[str, Tensor]:
        """The model's parameters: copies on the CPU, on the first rank."""

    def set_weights(self, tensors: Mapping[str, Tensor] | None) -> None:
        """What `weights` gave, back into the model; given on the first rank."""


class Flat:
    """All parameters in one buffer, and their gradients in another, on every rank.

    Zeroing, the norm, the update, and summing the gradient over ranks are a call each instead of one a parameter.
    """

    def __init__(self, model: nn.Module, muon: bool, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.named = dict(model.named_parameters())
        groups = grouped(self.named, muon)
        ordered = [parameter for group in groups.values() for parameter in group]
        device = ordered[0].device
        size = sum(map(room, ordered))
        self.values, self.gradient = (
            shared_zeros(size) if device.type == "cpu" else torch.zeros(size, device=device) for _ in range(2)
        )
        self.pieces: dict[str, list[nn.Parameter]] = {}
        self._muon = groups["muon"]
        end = 0
        for name, parameters in groups.items():
            begin = end
            for parameter in parameters:
                span = slice(end, end + parameter.numel())
                self.values[span] = parameter.detach().reshape(-1)
                parameter.data = self.values[span].view_as(parameter)
                parameter.grad = self.gradient[span].view_as(parameter)
                end += room(parameter)
            self.pieces[name] = [nn.Parameter(self.values[begin:end])] if parameters else []
            for piece in self.pieces[name]:
                piece.grad = self.gradient[begin:end]

    def norm(self) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(self.gradient)
        return norm

    def clear(self) -> None:
        self.gradient.zero_()

    def matrices(self, updates: list[Tensor]) -> Iterator[tuple[Tensor, list[Tensor]]]:
        groups: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        offset = 0
        for parameter in self._muon:
            matrix = updates[0][offset : offset + parameter.numel()].view_as(parameter)
            groups.setdefault(tuple(matrix.shape), []).append((matrix, parameter))
            offset += room(parameter)
        for members in groups.values():
            yield torch.stack([matrix for matrix, _ in members]), [parameter for _, parameter in members]

    def part(self, matrix: Tensor) -> Tensor:
        return matrix

    def gather(self, group: str, values: list[Tensor]) -> Tensor:
        return _copy(values[0]) if values and self.ranks.first else torch.empty(0)

    def scatter(self, group: str, flat: Tensor | None, values: list[Tensor]) -> None:
        for value in values:
            if flat is not None:
                value.copy_(flat)
            self.ranks.as_first(value)

    def weights(self) -> dict[str, Tensor]:
        return {name: _copy(parameter) for name, parameter in self.named.items()} if self.ranks.first else {}

    @torch.no_grad()
    def set_weights(self, tensors: Mapping[str, Tensor] | None) -> None:
        if tensors is not None:
            for name, parameter in self.named.items():
                parameter.copy_(tensors[name])
        self.ranks.as_first(self.values)


class Optimizer:
    """Updates the parameters of a layout.

    An update whose gradient is not finite, or whose loss is a spike, is left out; the device decides, nobody waits.
    """

    def __init__(self, layout: Layout, config: OptimConfig, spike: float = 0.0) -> None:
        self.layout, self.config, self.spike = layout, config, spike
        decayed, plain, self._muon = (layout.pieces[group] for group in GROUPS)
        device = decayed[0].device
        self.adamw = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            fused=True,
        )
        for piece in (*decayed, *plain):
            self.adamw.state[piece] = {
                "step": torch.zeros((), device=device),
                "exp_avg": torch.zeros_like(piece.data),
                "exp_avg_sq": torch.zeros_like(piece.data),
            }
        self.momentum = [torch.zeros_like(piece.data) for piece in self._muon]
        self.average = torch.zeros((), device=device)  # running average of the loss
        self.seen = torch.zeros((), device=device)

    def step(self, lr: float, loss: Tensor) -> Tensor:
        """Update with the gradients gathered, then clear them. Returns [loss, norm of the gradient, 1 if left out]."""
        norm = self.layout.norm()
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
        self.layout.clear()
        return torch.stack([loss, norm, bad.float()])

    @torch.no_grad()
    def _muon_step(self, lr: float, bad: Tensor) -> None:
        """Muon (Jordan 2024), at the size of AdamW's updates so that both share a rate (arXiv 2502.16982, 2.2)."""
        updates = []
        for number, piece in enumerate(self._muon):
            gradient = torch.where(bad, 0.0, cast(Tensor, piece.grad))
            momentum = self.momentum[number]
            momentum = torch.where(bad, momentum, momentum * self.config.momentum + gradient)
            self.momentum[number] = momentum
            updates.append(gradient + self.config.momentum * momentum)
        rate = torch.where(bad, 0.0, lr)
        for matrices, parameters in self.layout.matrices(updates):
            rows, columns = matrices.shape[1:]
            turned = orthogonalised(matrices, self.config.newton_schulz)
            for parameter, direction in zip(parameters, turned, strict=True):
                parameter.mul_(1 - rate * self.config.weight_decay)
                parameter.sub_(self.layout.part(direction) * (rate * 0.2 * math.sqrt(max(rows, columns))))

    def tensors(self) -> dict[str, Tensor]:
        """All state but the parameters themselves, for a checkpoint: copies on the CPU, on the first rank."""
        state = {name: _copy(same[0]) for name, same in self._numbers().items()}
        return state | {name: self.layout.gather(group, values) for name, (group, values) in self._moments().items()}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor] | None) -> None:
        """Take back what `tensors` gave; given on the first rank."""
        for name, same in self._numbers().items():
            if tensors is not None:
                same[0].copy_(tensors[name])
            self.layout.ranks.as_first(same[0])
            for other in same[1:]:
                other.copy_(same[0])
        for name, (group, values) in self._moments().items():
            self.layout.scatter(group, None if tensors is None else tensors[name], values)

    def _numbers(self) -> dict[str, list[Tensor]]:
        """State of one element, by its name in a checkpoint, with all tensors that hold the same."""
        steps = {
            f"{group}.step": [self.adamw.state[piece]["step"] for piece in self.layout.pieces[group]]
            for group in ("decayed", "plain")
        }
        return {"average": [self.average], "seen": [self.seen]} | steps

    def _moments(self) -> dict[str, tuple[str, list[Tensor]]]:
        """State that lies as parameters do, by its name in a checkpoint, with the group of them."""
        moments = {
            f"{group}.{moment}": (group, [self.adamw.state[piece][moment] for piece in self.layout.pieces[group]])
            for group in ("decayed", "plain")
            for moment in ("exp_avg", "exp_avg_sq")
        }
        return moments | {"momentum": ("muon", self.momentum)}


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


def grouped(named: Mapping[str, nn.Parameter], muon: bool) -> dict[str, list[nn.Parameter]]:
    """The parameters by what updates them."""
    groups: dict[str, list[nn.Parameter]] = {group: [] for group in GROUPS}
    for name, parameter in named.items():
        matrix = "muon" if muon and name.startswith("blocks.") and parameter.ndim == 2 else "decayed"
        groups[matrix if parameter.ndim >= 2 else "plain"].append(parameter)
    return groups


def room(parameter: Tensor) -> int:
    """Elements that a parameter takes up in a flat tensor."""
    return -(-parameter.numel() // ALIGNMENT) * ALIGNMENT


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
