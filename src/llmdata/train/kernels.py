"""The decoder's products, feed-forward layers, attention and dropout in C, in float32 and by one thread of a CPU.

That is how each share of a batch is computed (`llmdata.train.replicas`). PyTorch's own are taken elsewhere: on a GPU,
for products in bfloat16 and on Intel's processors, with several threads for each product, compiled, and where no C
library was built or the processor has no AVX2. Results differ in the last bits. The loops are in `native/products.h`,
`feed_forward.h`, `attention.h` and `dropout.h`; what they gain is in `benchmarks/README.md`.
"""

from __future__ import annotations

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


def usable(x: Tensor) -> bool:
    """Whether the C functions for products may work on `x`."""
    plain = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return plain and available(x) and not mkl_is_faster()


@cache
def mkl_is_faster() -> bool:
    """Whether PyTorch's products are MKL's, on a processor of MKL's maker: there ours have four fifths of its speed.

    By the processor's name and not by a race, which might end otherwise when a run goes on.
    """
    intel = native.function("processor_is_intel", "")
    return torch.backends.mkl.is_available() and intel is not None and bool(intel())  # type: ignore[no-untyped-call]


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


def feed_forward(up: nn.Linear, down: nn.Linear, x: Tensor, activation: str) -> Tensor | None:
    """down(activation(up(x))) for one of ACTIVATIONS and layers without bias; None where that is not done in one."""
    sizes = down.in_features, *up.weight.shape
    fits = down.in_features <= WIDEST and not any(size % 16 for size in sizes)
    if not fits or not torch.is_grad_enabled() or not usable(x):
        return None
    y: Tensor = _FeedForward.apply(x, up.weight, down.weight, ACTIVATIONS.index(activation))  # type: ignore[no-untyped-call]
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
        return d_x, product(d_y.t(), x.reshape(-1, weight.shape[1])), d_y.sum(0) if ctx.biased else None


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, up: Tensor, down: Tensor, activation: int) -> Tensor:
        x = x.contiguous()
        rows = x.numel() // x.shape[-1]
        hidden, y = x.new_empty(rows, up.shape[0]), torch.empty_like(x)
        ctx.sizes = rows, *down.shape, activation
        _run("feed_forward", x, up, down, *ctx.sizes, hidden, y)
        ctx.save_for_backward(x, up, down, hidden)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, up, down, hidden = ctx.saved_tensors
        made = [torch.empty_like(tensor) for tensor in (x, up, down)]
        _run("feed_forward_backward", x, up, down, *ctx.sizes, hidden, grads[0].contiguous(), *made)
        return *made, None


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
    return native.function(f"{name}_v{found}", "int " * arguments) if found else None
