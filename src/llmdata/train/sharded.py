"""A model that does not fit one GPU: parameters, gradients and moments divided among the ranks (FSDP2).

Each rank holds its rows of every parameter. A block's parameters are gathered when it is their turn and dropped behind
it; gradients are summed to where their rows are. This is ZeRO's third stage (arXiv 1910.02054), by PyTorch's
`fully_shard`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from llmdata.errors import ConfigError
from llmdata.train.config import ModelConfig, TrainConfig
from llmdata.train.optim import grouped, room
from llmdata.train.parallel import Ranks
from llmdata.train.plan import PRECISIONS, USABLE, Recompute, activation_bytes, block_matrices, parameter_count

if TYPE_CHECKING:
    from llmdata.train.model import Decoder

MARGIN = 0.8
"""Share of the memory that is left after the state which activations may take by the formula: it knows no fragmentation
and no buffers of kernels."""


def wants_sharding(config: TrainConfig, vocab_size: int, memory: float, ranks: Ranks) -> bool:
    """Whether the run is to be sharded: `parallel` says so, or one sequence does not fit in a GPU's `memory` bytes.

    Raises ConfigError if it cannot be.
    """
    if ranks.size == 1 or config.parallel == "ddp":
        return False
    shape = config.shape
    if not isinstance(shape, ModelConfig):
        if config.parallel == "fsdp":
            raise ConfigError("train.parallel=fsdp is for decoders; leave it out for a baseline")
        return False
    if config.parallel == "auto":
        state, activations = _needs(config, shape, vocab_size)
        if ranks.most(int(state + activations > memory * USABLE)) == 0:
            return False
    sequences = config.data.batch_tokens // shape.context
    if sequences % ranks.size:
        raise ConfigError(
            f"a batch of {sequences} sequences (train.data.batch_tokens / context) does not divide among {ranks.size} "
            "ranks, which fsdp needs; change batch_tokens or the number of ranks"
        )
    return True


def sharded_micro_batch(config: TrainConfig, vocab_size: int, memory: float, ranks: Ranks) -> int:
    """Sequences of a forward pass by the plan's formulas.

    Computed, not tried: a rank that ran out of memory in a trial would leave the others waiting for it.
    """
    shape = config.architecture
    state, activations = _needs(config, shape, vocab_size)
    # Besides its share of the state, a rank holds weights and gradients of two blocks, and of what lies outside.
    whole = parameter_count(shape, vocab_size) - shape.layers * block_matrices(shape) + 2 * block_matrices(shape)
    left = memory * USABLE - state / ranks.size - 8 * whole
    return max(1, int(MARGIN * left / activations))


def _needs(config: TrainConfig, shape: ModelConfig, vocab_size: int) -> tuple[float, float]:
    """Bytes of weights, gradients and moments, and of the activations of one sequence."""
    kind = PRECISIONS["fp32" if config.dtype == "float32" else "autocast"]
    state = parameter_count(shape, vocab_size) * (kind.weights + kind.gradients + kind.optimizer)
    policy: Recompute = "full" if config.recompute else "selective"
    return state, activation_bytes(shape, 1, kind, policy)


def shard(model: Decoder, device: str, ranks: Ranks) -> None:
    """Divide the parameters of `model`, made on `meta`, among the ranks. All ranks take part in its forward passes."""
    mesh = init_device_mesh(device, (ranks.size,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    # The head's matrix is used after the forward pass: what lies outside of the blocks stays until the backward pass.
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    for part in (*model.blocks, model):
        module = cast(FSDPModule, part)
        module.set_gradient_divide_factor(1.0)  # losses are shares of the batch's: gradients add up
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other
    head = model.head

    def heard(hidden: Tensor) -> Tensor:
        logits = head(hidden).contiguous()
        ranks.as_first(logits)
        return logits

    # Sampling reads these: a last bit that differs must not end a text on one rank and not on the others.
    model.head = heard  # type: ignore[method-assign]


def initialise_shards(model: Decoder, generator: torch.Generator, values: Mapping[str, Tensor] | None) -> None:
    """The initial weights that the whole model would have, or `values`, one parameter at a time."""
    for name, parameter in model.named_parameters():
        local = _local(parameter)
        whole = torch.empty(parameter.shape, device=local.device)
        if values is None:
            model.fill(name, whole, generator)
        else:
            whole.copy_(values[name])
        like = _as_shard(parameter)
        mine = distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
        with torch.no_grad():
            local.copy_(_local(mine))


class Sharded:
    """This rank's rows of every parameter, each with a gradient of its own."""

    def __init__(self, model: Decoder, muon: bool, ranks: Ranks) -> None:
        self.ranks, self._model = ranks, cast(FSDPModule, model)
        self._named = dict(model.named_parameters())
        self._groups = grouped(self._named, muon)
        self.pieces = {
            group: [nn.Parameter(_local(parameter)) for parameter in parameters]
            for group, parameters in self._groups.items()
        }

    def norm(self) -> Tensor:
        gradients = []
        for group, parameters in self._groups.items():
            for parameter, piece in zip(parameters, self.pieces[group], strict=True):
                piece.grad = _local(cast(Tensor, parameter.grad))
                gradients.append(piece.grad)
        norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
        return self.ranks.sum(norms.square().sum()).sqrt()

    def clear(self) -> None:
        for group, parameters in self._groups.items():
            for parameter, piece in zip(parameters, self.pieces[group], strict=True):
                parameter.grad = piece.grad = None

    def matrices(self, updates: list[Tensor]) -> Iterator[tuple[Tensor, list[Tensor]]]:
        # One after the other: whole, all of them may not fit. Every rank orthogonalises each.
        for parameter, piece, update in zip(self._groups["muon"], self.pieces["muon"], updates, strict=True):
            yield _whole(update, parameter)[None], [piece]

    def part(self, matrix: Tensor) -> Tensor:
        rows = -(-len(matrix) // self.ranks.size)
        return matrix[rows * self.ranks.rank : rows * (self.ranks.rank + 1)]

    def gather(self, group: str, values: list[Tensor]) -> Tensor:
        parameters = self._groups[group]
        flat = torch.zeros(sum(map(room, parameters)) if self.ranks.first else 0)
        start = 0
        for parameter, value in zip(parameters, values, strict=True):
            whole = _whole(value, parameter)
            if self.ranks.first:
                flat[start : start + parameter.numel()] = whole.flatten().cpu()
            start += room(parameter)
        return flat

    def scatter(self, group: str, flat: Tensor | None, values: list[Tensor]) -> None:
        start = 0
        for parameter, value in zip(self._groups[group], values, strict=True):
            whole = None if flat is None else flat[start : start + parameter.numel()].view(parameter.shape)
            value.copy_(_from_first(whole, parameter))
            start += room(parameter)

    def weights(self) -> dict[str, Tensor]:
        found = {}
        for name, parameter in self._named.items():
            whole = _as_shard(parameter).full_tensor()
            if self.ranks.first:
                found[name] = whole.cpu()
        return found

    @torch.no_grad()
    def set_weights(self, tensors: Mapping[str, Tensor] | None) -> None:
        self._model.reshard()  # what evaluation left gathered is of the weights before
        for name, parameter in self._named.items():
            _local(parameter).copy_(_from_first(None if tensors is None else tensors[name], parameter))


def _as_shard(tensor: Tensor) -> DTensor:
    return cast(DTensor, tensor.detach())


def _local(parameter: Tensor) -> Tensor:
    """The memory of this rank's rows."""
    rows: Tensor = _as_shard(parameter).to_local()
    return rows


def _whole(rows: Tensor, parameter: Tensor) -> Tensor:
    """All rows of what lies as `parameter` does, on every rank."""
    like = _as_shard(parameter)
    spread = DTensor.from_local(
        rows, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
    whole: Tensor = spread.full_tensor()
    return whole


def _from_first(whole: Tensor | None, parameter: Tensor) -> Tensor:
    """This rank's rows of `whole`, which is given on the first rank."""
    like = _as_shard(parameter)
    device = _local(parameter).device
    source = torch.empty(like.shape, device=device) if whole is None else whole.to(device)
    return _local(distribute_tensor(source, like.device_mesh, like.placements, src_data_rank=0))
