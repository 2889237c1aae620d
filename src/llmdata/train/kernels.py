"""The decoder's layers in C, in float32 and by one thread of a CPU.

That is how each share of a batch is computed (`llmdata.train.replicas`). PyTorch's own operations are taken elsewhere:
on a GPU, for products in bfloat16, with several threads for each product, compiled, and where no C library was built or
the processor has no AVX2. Results differ in the last bits. The loops are what `native/train_v3.c` includes; what they
gain is in `benchmarks/README.md`.

Layers add the gradient of their weights to `weight.grad` themselves where there is one, as there is in training:
autograd would make it first and add it then. So `torch.autograd.grad` finds none for such weights.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from llmdata import native

FEW = 16
"""Rows of a product below which packing the other matrix costs more than is gained."""
WIDEST = 2048
"""Width of a feed-forward layer up to which a block of positions stays in cache between its two products."""
ACTIVATIONS = ("gelu", "gelu_tanh", "swiglu")

Norm = nn.LayerNorm | nn.RMSNorm


def usable(x: Tensor) -> bool:
    """Whether layers and products of `x` may be computed here."""
    return x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu") and available(x)


def available(x: Tensor) -> bool:
    """Whether attention and dropout of `x` may be in C, which compute in float32."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and torch.get_num_threads() == 1
        and _function("product", 12) is not None
    )


def product(a: Tensor, b: Tensor, out: Tensor | None = None, add: bool = False) -> Tensor:
    """a (n, k) times b (k, m), into `out` (its rows in one piece each) if it is given, or added to it."""
    if out is None:
        out = a.new_empty(a.shape[0], b.shape[1])
    _run("product", a, *a.stride(), b, *b.stride(), out, out.stride(0), *out.shape, a.shape[1], int(add))
    return out


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """`layer(x)`."""
    fast = torch.is_grad_enabled() and usable(x) and x.numel() >= FEW * layer.in_features
    y: Tensor = _Linear.apply(x, layer.weight, layer.bias) if fast else layer(x)  # type: ignore[no-untyped-call]
    return y


def feed_forward(
    norm: Norm, up: nn.Linear, down: nn.Linear, x: Tensor, activation: str, dropout: float
) -> Tensor | None:
    """x + dropout(down(activation(up(norm(x))))), for one of ACTIVATIONS; None where that is not done in one."""
    if down.in_features > WIDEST or not _in_one(x, norm, up, down):
        return None
    facts = ACTIVATIONS.index(activation), *_facts(norm)
    y: Tensor = _FeedForward.apply(x, norm.weight, up.weight, down.weight, facts, dropout)  # type: ignore[no-untyped-call]
    return y


def attention_branch(
    norm: Norm,
    qkv: nn.Linear,
    out: nn.Linear,
    x: Tensor,
    heads: int,
    groups: int,
    rope: Tensor | None,
    first: Tensor | None,
    dropout: float,
) -> Tensor | None:
    """x + dropout(out(attention(qkv(norm(x))))), as `attention` has it; None where that is not done in one."""
    if not _in_one(x, norm, qkv, out):
        return None
    y: Tensor = _AttentionBranch.apply(  # type: ignore[no-untyped-call]
        x, norm.weight, qkv.weight, out.weight, rope, first, heads, groups, _facts(norm), dropout
    )
    return y


def dropout(x: Tensor, share: float) -> Tensor:
    """`x` without a `share` of its elements, the others larger by as much; drawn by PyTorch's generator."""
    if not available(x):
        return F.dropout(x, share)
    y: Tensor = _Dropout.apply(x.float(), share)  # type: ignore[no-untyped-call]
    return y


def attention(
    qkv: Tensor, heads: int, groups: int, rope: Tensor | None, first: Tensor | None, dropout: float = 0.0
) -> Tensor:
    """Causal attention (B, T, H D) of queries, keys and values side by side, `qkv` (B, T, (H + 2 K) D).

    Queries and keys are turned by `rope` (2, T, D/2). `first` (B, T) tells the first position that each sees. Of the
    weights, `dropout` are left out at random, by PyTorch's generator.
    """
    y: Tensor = _Attention.apply(qkv.float(), heads, groups, rope, first, dropout)  # type: ignore[no-untyped-call]
    return y.to(qkv.dtype)


def _in_one(x: Tensor, norm: Norm, *layers: nn.Linear) -> bool:
    """Whether a branch of the stream `x` is computed in one: it has no biases."""
    biases = [layer.bias for layer in (norm, *layers) if not isinstance(layer, nn.RMSNorm)]
    return torch.is_grad_enabled() and usable(x) and all(bias is None for bias in biases)


def _facts(norm: Norm) -> tuple[int, int]:
    """Whether it is RMSNorm, and the bits of its epsilon."""
    return int(isinstance(norm, nn.RMSNorm)), struct.unpack("<i", struct.pack("<f", norm.eps))[0]


def _gathered(*weights: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
    """What to add the gradients of `weights` to, and what of it is to be returned: those that they have not yet."""
    made = [torch.zeros_like(weight) if weight.grad is None else None for weight in weights]
    return [weight.grad if new is None else new for weight, new in zip(weights, made, strict=True)], made  # type: ignore[misc]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        rows = x.reshape(-1, x.shape[-1])
        y = (
            product(rows, weight.t())
            if bias is None
            else product(rows, weight.t(), bias.repeat(len(rows), 1), add=True)
        )
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        d_y = grads[0].reshape(-1, weight.shape[0])
        d_x = product(d_y, weight).view_as(x) if ctx.needs_input_grad[0] else None
        (d_weight,), returned = _gathered(weight)
        product(d_y.t(), x.reshape(-1, weight.shape[1]), d_weight, add=True)
        return d_x, *returned, d_y.sum(0) if ctx.biased else None


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm: Tensor, up: Tensor, down: Tensor, facts: tuple[int, ...], dropout: float
    ) -> Tensor:
        x = x.contiguous()
        rows = x.numel() // x.shape[-1]
        hidden, y = x.new_empty(rows, len(up)), torch.empty_like(x)
        ctx.facts = rows, *down.shape, *facts, *_drawn(dropout)
        _run("feed_forward", x, norm, up, down, *ctx.facts, hidden, y)
        ctx.save_for_backward(x, norm, up, down, hidden)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights, hidden = ctx.saved_tensors
        d_x = torch.empty_like(x)
        made, returned = _gathered(*weights)
        _run("feed_forward_backward", x, *weights, *ctx.facts, hidden, grads[0].contiguous(), d_x, *made)
        return d_x, *returned, None, None


class _AttentionBranch(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        norm: Tensor,
        qkv: Tensor,
        out: Tensor,
        rope: Tensor | None,
        first: Tensor | None,
        heads: int,
        groups: int,
        facts: tuple[int, ...],
        dropout: float,
    ) -> Tensor:
        batch, length, channels = x.shape
        width = out.shape[1] // heads
        given = [None if tensor is None else tensor.contiguous() for tensor in (x, norm, qkv, out, rope, first)]
        ctx.facts = batch, length, heads, groups, width, channels, *facts, *_drawn(dropout), _drawn(dropout)[1]
        sizes = (batch, length, len(qkv)), (batch, length, heads * width), (batch, heads, length)
        made = [x.new_empty(size) for size in sizes]
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        _run("attention_branch", *given, *ctx.facts, *made, y)
        ctx.save_for_backward(*given, *made)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights, rope, first, qkv, attended, lse = ctx.saved_tensors
        d_x = torch.empty_like(x)
        made, returned = _gathered(*weights)
        kept = qkv, attended, lse, grads[0].contiguous()
        _run("attention_branch_backward", x, *weights, rope, first, *ctx.facts, *kept, d_x, *made)
        return d_x, *returned, *[None] * 6


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, heads: int, groups: int, rope: Tensor | None, first: Tensor | None, dropout: float
    ) -> Tensor:
        batch, length, row = qkv.shape
        width = row // (heads + 2 * groups)
        y, lse = qkv.new_empty(batch, length, heads * width), qkv.new_empty(batch, heads, length)
        given = [None if tensor is None else tensor.contiguous() for tensor in (qkv, rope, first)]
        ctx.shape = batch, length, heads, groups, width, *_drawn(dropout)
        _run("attention", *given, *ctx.shape, y, lse)
        ctx.save_for_backward(*given, y, lse)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *given, y, lse = ctx.saved_tensors
        d_qkv = torch.empty_like(given[0])
        _run("attention_backward", *given, *ctx.shape, y, lse, grads[0].contiguous(), d_qkv)
        return d_qkv, None, None, None, None, None


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float) -> Tensor:
        ctx.drawn = _drawn(share)
        return _drop(x, ctx.drawn)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _drop(grads[0], ctx.drawn), None


def _drawn(share: float) -> tuple[int, int]:
    """How many of 2³² numbers drop an element, and a seed."""
    return int(share * 2**32), int(torch.randint(1 << 62, ())) if share else 0


def _drop(x: Tensor, drawn: tuple[int, int]) -> Tensor:
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    _run("dropout", x.contiguous(), x.numel() // x.shape[-1], x.shape[-1], *drawn, y)
    return y


def _run(name: str, *arguments: Tensor | int | None) -> None:
    call = _function(name, len(arguments))
    assert call is not None
    if call(*[given.data_ptr() if isinstance(given, Tensor) else given or 0 for given in arguments]):
        raise MemoryError(f"no memory for {name} in C")


@cache
def _function(name: str, arguments: int) -> Callable[..., int] | None:
    """The function of that name for this processor; it takes numbers and addresses."""
    generation = native.function("processor_generation", "")
    found = generation() if generation else 0
    if not found:
        return None
    use_sgemm(found, mkl_is_faster())
    return native.function(f"{name}_v{found}", "int " * arguments)


def mkl_is_faster() -> bool:
    """Whether PyTorch's products are MKL's, on a processor of MKL's maker: there ours have four fifths of its speed.

    By the processor's name and not by a race, which might end otherwise when a run goes on.
    """
    intel = native.function("processor_is_intel", "")
    return torch.backends.mkl.is_available() and intel is not None and bool(intel())  # type: ignore[no-untyped-call]


def use_sgemm(generation: int, wanted: bool) -> bool:
    """Let the functions for a generation of processors call the BLAS in PyTorch, or not; whether they do."""
    use = native.function(f"use_sgemm_v{generation}", "int")
    assert use is not None
    torch_cpu = os.path.join(os.path.dirname(torch.__file__), "lib", "libtorch_cpu.so")
    found = getattr(ctypes.CDLL(torch_cpu), "sgemm_", None) if wanted and os.path.exists(torch_cpu) else None
    address = ctypes.cast(found, ctypes.c_void_p).value if found else 0
    use(address or 0)
    return bool(address)
