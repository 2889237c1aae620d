"""The trainer's operations in C, for each generation of processors, beside PyTorch's."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from llmdata import native
from llmdata.train import kernels
from llmdata.train.config import ModelConfig
from llmdata.train.model import Decoder, cross_entropy

ALL_BITS = struct.unpack("<f", b"\xff\xff\xff\x7f")[0]
"""A NaN as memory leaves it that was filled with ones."""
SMALL = ModelConfig(layers=2, heads=4, width=64, context=48)
MODELS = {
    "gpt": SMALL,
    "biases": SMALL.model_copy(update={"bias": True, "activation": "gelu_tanh"}),
    "tanh": SMALL.model_copy(update={"activation": "gelu_tanh"}),
    "llama": SMALL.model_copy(update={"kv_heads": 2, "norm": "rmsnorm", "position": "rope", "activation": "swiglu"}),
    "odd": ModelConfig(layers=1, heads=3, width=30, context=70, position="rope"),
    "long": ModelConfig(layers=1, heads=1, width=80, context=130, ffn=48),
}


@pytest.fixture(params=[(3, False), (4, False), (4, True)], ids=["v3", "v4", "blas"], autouse=True)
def generation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, and the functions for processors of one generation, with products of their own or MKL's."""
    number, blas = request.param
    found = native.function("processor_generation", "")
    if found is None or found() < number:
        pytest.skip("no C library, or a processor of an earlier generation")
    monkeypatch.setattr(kernels, "_function", lambda name, count: native.function(f"{name}_v{number}", "int " * count))
    if kernels.use_sgemm(number, blas) != blas:
        pytest.skip("PyTorch shows no BLAS")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    kernels.use_sgemm(number, kernels.mkl_is_faster())


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@pytest.mark.parametrize(
    ("rows", "terms", "columns"),
    [(1, 1, 1), (8, 16, 32), (7, 300, 33), (13, 5, 70), (97, 513, 1), (200, 1030, 40), (100, 600, 1040), (3, 0, 5)],
)
@pytest.mark.parametrize("add", [False, True])
def test_products_of_any_size_and_layout(rows: int, terms: int, columns: int, add: bool) -> None:
    for a in (random(rows, terms), random(terms, rows).t(), random(rows, 2 * terms + 1)[:, :terms]):
        for b in (random(terms, columns), random(columns, terms).t(), random(terms, columns + 3)[:, 3:]):
            before = random(rows, columns + 2)[:, :columns]
            expected = a.double() @ b.double() + before.double() * add
            got = kernels.product(a, b, before.clone(), add)
            torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)


def gradients(model: Decoder, ids: Tensor, eot: int | None) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    hidden = model(ids[:, :-1], eot)
    loss = cross_entropy(hidden.flatten(0, 1), model.head_weight, ids[:, 1:].flatten(), 0, model.vocab_size)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("eot", [None, 7], ids=["whole", "documents"])
@pytest.mark.parametrize("name", MODELS)
def test_losses_and_gradients_are_pytorchs(name: str, eot: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    config = MODELS[name]
    model = Decoder(config, 50)
    model.initialise(torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in model.parameters():  # larger than at the start, so that mistakes show
            if parameter.ndim == 2:
                parameter.mul_(5)
    batch = 9 if name == "long" else 3  # more positions than are computed at a time
    ids = torch.randint(0, 50, (batch, config.context + 1), generator=torch.Generator().manual_seed(2))
    ids[:, 11] = 7
    called = record_calls(monkeypatch)
    loss, ours = gradients(model, ids, eot)
    assert called == {"product"} | both_ways(*(["attention"] if config.bias else ["attention_branch", "feed_forward"]))
    monkeypatch.setattr(kernels, "available", lambda x: False)
    called.clear()
    expected, theirs = gradients(model, ids, eot)
    assert not called
    torch.testing.assert_close(loss, expected)
    assert ours.keys() == theirs.keys()
    for weights in theirs:
        torch.testing.assert_close(ours[weights], theirs[weights], rtol=1e-3, atol=1e-5)


def both_ways(*names: str) -> set[str]:
    return {*names, *(f"{name}_backward" for name in names)}


def record_calls(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    called: set[str] = set()
    run = kernels._run

    def recording(name: str, *arguments: Any) -> None:
        called.add(name)
        run(name, *arguments)

    monkeypatch.setattr(kernels, "_run", recording)
    return called


@pytest.mark.parametrize("documents", [False, True])
def test_dropout_of_attention(documents: bool) -> None:
    """Values that are a unit matrix show the weights: of each a share is left out, and the gradient knows which."""
    batch, length, heads, width = 3, 40, 4, 48
    values = torch.eye(length, width).repeat(batch, heads, 1, 1)  # (B, H, T, D)
    queries, keys = random(2, batch, heads, length, width)
    first = torch.arange(length).repeat(batch, 1) // 15 * 15 if documents else None
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    if first is not None:
        seen &= torch.arange(length) >= first[0, :, None]

    def rows(*parts: Tensor) -> Tensor:
        return torch.cat([part.transpose(1, 2).reshape(batch, length, -1) for part in parts], dim=-1)

    qkv = rows(queries, keys, values).requires_grad_()

    def dropped(seed: int, dropout: float = 0.3) -> Tensor:
        torch.manual_seed(seed)
        return kernels.attention(qkv, heads, heads, None, first, dropout)

    y, whole = dropped(1), dropped(1, 0.0)
    factors = (y / whole).view(batch, length, heads, width).transpose(1, 2)[..., :length]
    drawn = factors[seen.expand_as(factors)]
    assert drawn[drawn > 0].tolist() == pytest.approx([1 / 0.7] * int((drawn > 0).sum()))
    assert (drawn == 0).float().mean() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(y, dropped(1))
    assert not torch.equal(y, dropped(2))
    assert len({tuple(head.nan_to_num().flatten().tolist()) for head in factors.flatten(0, 1)}) == batch * heads

    given = qkv.detach().clone().requires_grad_()
    q, k, v = (part.view(batch, length, heads, width).transpose(1, 2) for part in given.chunk(3, dim=-1))
    weights = (q @ k.transpose(-1, -2) / width**0.5).masked_fill(~seen, -math.inf).softmax(-1)
    expected = rows((weights * factors.detach().nan_to_num()) @ v)
    torch.testing.assert_close(y, expected)
    slope = random(*y.shape)
    y.backward(slope)  # type: ignore[no-untyped-call]
    expected.backward(slope)  # type: ignore[no-untyped-call]
    assert qkv.grad is not None
    torch.testing.assert_close(qkv.grad, given.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout(dtype: torch.dtype) -> None:
    x = (random(50, 30, 70).transpose(0, 1) + 10).to(dtype).requires_grad_()

    def dropped(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return kernels.dropout(x, 0.2)

    y = dropped(1)
    kept = y > 0
    assert kept.float().mean() == pytest.approx(0.8, abs=0.005)
    assert kept.float().mean((0, 1)).min() > 0.72
    assert kept.float().mean(2).std() == pytest.approx((0.2 * 0.8 / 70) ** 0.5, rel=0.1)
    torch.testing.assert_close(y, torch.where(kept, x.float() / 0.8, 0))
    assert torch.equal(y, dropped(1))
    assert not torch.equal(y, dropped(2))
    slope = random(*y.shape)
    y.backward(slope)  # type: ignore[no-untyped-call]
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.where(kept, slope / 0.8, 0).to(dtype))


def test_dropout_is_the_same_where_layers_are_computed_again() -> None:
    model = Decoder(MODELS["llama"].model_copy(update={"dropout": 0.2}), 50).train()
    model.initialise(torch.Generator().manual_seed(1))
    ids = torch.randint(0, 50, (3, 33), generator=torch.Generator().manual_seed(2))
    found = []
    for model.recompute in (False, True):
        torch.manual_seed(3)
        found.append(gradients(model, ids, 7))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_attention_beside_products_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    called = record_calls(monkeypatch)
    model = Decoder(MODELS["llama"], 50)
    model.initialise(torch.Generator().manual_seed(1))
    ids = torch.randint(0, 50, (3, 33), generator=torch.Generator().manual_seed(2))
    expected, theirs = gradients(model, ids, 7)
    called.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, ours = gradients(model, ids, 7)
    assert called == {"attention", "attention_backward"}
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=0)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0.1, atol=float(theirs[name].abs().max()) / 20)


def test_products_of_blas_are_pytorchs(request: pytest.FixtureRequest) -> None:
    a, b = random(60, 900), random(900, 70)
    assert torch.equal(kernels.product(a, b), a @ b) == ("blas" in request.node.callspec.id)


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_gradients_are_slopes_with_dropout(name: str) -> None:
    """A step along the gradient changes the loss by its length squared: what is dropped is the same on the way back."""
    model = Decoder(MODELS[name].model_copy(update={"dropout": 0.3}), 50).train()
    model.initialise(torch.Generator().manual_seed(1))
    ids = torch.randint(0, 50, (3, 41), generator=torch.Generator().manual_seed(2))

    def at(distance: float) -> float:
        with torch.no_grad():
            for parameter, slope in zip(model.parameters(), slopes, strict=True):
                parameter.add_(slope, alpha=distance)
        torch.manual_seed(3)
        loss = gradients(model, ids, 7)[0].item()
        with torch.no_grad():
            for parameter, slope in zip(model.parameters(), slopes, strict=True):
                parameter.sub_(slope, alpha=distance)
        return loss

    torch.manual_seed(3)
    slopes = list(gradients(model, ids, 7)[1].values())
    squared = sum(float(slope.double().square().sum()) for slope in slopes)
    step = 0.02 / squared**0.5
    assert (at(step) - at(-step)) / (2 * step) == pytest.approx(squared, rel=2e-3)


def test_gradients_are_added_to_those_that_are_there() -> None:
    """Accumulated over two batches in place, they are the sum of those made for each alone."""
    model = Decoder(MODELS["llama"], 50)
    model.initialise(torch.Generator().manual_seed(1))
    batches = torch.randint(0, 50, (2, 3, 33), generator=torch.Generator().manual_seed(2))
    alone = [gradients(model, ids, None)[1] for ids in batches]
    model.zero_grad()
    places = {}
    for ids in batches:
        hidden = model(ids[:, :-1])
        cross_entropy(hidden.flatten(0, 1), model.head_weight, ids[:, 1:].flatten(), 0, 50).backward()  # type: ignore[no-untyped-call]
        places = places or {name: p.grad.data_ptr() for name, p in model.named_parameters() if p.grad is not None}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.data_ptr() == places[name]
        torch.testing.assert_close(parameter.grad, alone[0][name] + alone[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", kernels.ACTIVATIONS)
def test_activations_from_end_to_end(activation: str) -> None:
    """Rows of the unit matrix are 4 on the diagonal once normalised: the weights choose what is activated."""
    values = torch.tensor([0.0, -0.0, 1e-8, -1e-3, 0.5, -0.5, 1, -1, 3, -3, 6, -6, 9, -9, 30, -100.0])
    norm = nn.RMSNorm(16, eps=1e-12)
    up, down = nn.Linear(16, 16 * (1 + (activation == "swiglu")), bias=False), nn.Linear(16, 16, bias=False)
    with torch.no_grad():
        up.weight.copy_(torch.diag(values / 4).repeat(len(up.weight) // 16, 1))
        down.weight.copy_(torch.eye(16))
    y = kernels.feed_forward(norm, up, down, torch.eye(16, requires_grad=True), activation, 0.0)
    assert y is not None
    y.sum().backward()  # type: ignore[no-untyped-call]
    exact = values.double().requires_grad_()
    approximate = "tanh" if activation == "gelu_tanh" else "none"
    plain = F.silu(exact) * exact if activation == "swiglu" else F.gelu(exact, approximate=approximate)
    plain.sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(y.diag().double() - 1, plain, rtol=1e-5, atol=1e-6)
    assert up.weight.grad is not None
    slopes = up.weight.grad.view(-1, 16, 16).diagonal(dim1=1, dim2=2).sum(0) / 4
    torch.testing.assert_close(slopes.double(), exact.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("broken", [math.nan, math.inf, ALL_BITS])
@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_numbers_that_are_none_come_through(name: str, broken: float) -> None:
    """The loss has to show them: that is how a step is left out."""
    for parameter in ("blocks.0.attention.qkv.weight", "blocks.1.mlp.out.weight"):
        model = Decoder(MODELS[name], 50)
        model.initialise(torch.Generator().manual_seed(1))
        with torch.no_grad():
            model.get_parameter(parameter)[3, 5] = broken
        ids = torch.randint(0, 50, (2, 20), generator=torch.Generator().manual_seed(2))
        loss, _ = gradients(model, ids, None)
        assert not torch.isfinite(loss)


def test_only_where_they_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    called = record_calls(monkeypatch)
    model, ids = Decoder(SMALL, 50), torch.zeros(2, 20, dtype=torch.int64)
    model.initialise()
    with torch.no_grad():
        model(ids)
    torch.set_num_threads(2)
    model(ids)
    assert not called
    torch.set_num_threads(1)
    model(ids)
    assert called
