"""What a GPU would run, as far as it shows without one: graphs in one piece, the loss that is compiled, kernels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, flex_attention

from llmdata.train import kernels
from llmdata.train.config import ModelConfig
from llmdata.train.device import attention_kernels
from llmdata.train.model import Decoder, _chunk, cross_entropy, logits_gradient

GPT = ModelConfig(layers=2, heads=2, width=32, context=256, activation="gelu_tanh", bias=True)
LLAMA = ModelConfig(
    layers=2, heads=4, kv_heads=2, width=32, context=256, norm="rmsnorm", position="rope", activation="swiglu"
)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize(("config", "special"), [(GPT, False), (LLAMA, True)], ids=["plain", "masked-recomputed"])
def test_the_decoder_is_one_graph(config: ModelConfig, special: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the trainer compiles it for a GPU; a break in the graph would be an error here, slow and silent there."""
    # FlexAttention refuses gradients on a CPU, whose compiled kernels have none; the graph is the same.
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)
    monkeypatch.setattr(kernels, "available", lambda x: False)  # which no GPU has
    torch.compiler.reset()
    torch.manual_seed(0)
    model = Decoder(config, 120)
    model.initialise()
    model.recompute = model.flexible = special
    calls: list[Any] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        calls.append(graph)
        return graph

    ids = torch.randint(0, 120, (2, 256))
    eot = 7 if special else None
    compiled = torch.compile(model, dynamic=False, fullgraph=True, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(2):
            hidden = compiled(ids, eot)
        expected = model(ids, eot)
    assert len(calls) == 1
    torch.testing.assert_close(hidden, expected)


def test_the_compiled_loss_is_that_of_torch_with_its_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """`logits_gradient` as it stands; what a compiler makes of it needs a C++ compiler, or a GPU."""
    monkeypatch.setattr("llmdata.train.model._compiled_gradient", lambda: logits_gradient)
    torch.manual_seed(0)
    hidden = torch.randn(70, 16, requires_grad=True)
    weight = torch.randn(128, 16, requires_grad=True)
    targets = torch.randint(0, 100, (70,))
    theirs = F.cross_entropy(hidden @ weight[:100].T, targets)
    expected = torch.autograd.grad(theirs, (hidden, weight))
    for vocabulary, rows in ((100, 0), (100, 32)):
        ours = cross_entropy(hidden, weight, targets, rows, vocabulary, compiled=True)
        torch.testing.assert_close(ours, theirs)
        found = torch.autograd.grad(ours, (hidden, weight))
        assert float(found[1].abs().sum()) > 1
        torch.testing.assert_close(found, expected)
    whole = cross_entropy(hidden, weight, targets, compiled=True)
    torch.testing.assert_close(whole, F.cross_entropy(hidden @ weight.T, targets))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = cross_entropy(hidden, weight, targets, 32, 100, compiled=True)
        plain = cross_entropy(hidden, weight, targets, 32, 100)
    torch.testing.assert_close(rough, plain)
    torch.testing.assert_close(
        torch.autograd.grad(rough, (hidden, weight)), torch.autograd.grad(plain, (hidden, weight)), atol=1e-4, rtol=2e-2
    )


def test_a_loss_that_nobody_learns_from_has_no_gradient() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    hidden, weight = torch.randn(70, 16), torch.nn.Parameter(torch.randn(128, 16))
    precision = torch.autocast("cpu", dtype=torch.bfloat16)  # as on a GPU; float32 is multiplied in C, uncounted
    with torch.no_grad(), precision, FlopCounterMode(display=False) as counter:
        cross_entropy(hidden, weight, torch.zeros(70, dtype=torch.int64), compiled=True)
    assert counter.get_total_flops() == 2 * 70 * 16 * 128, "the logits alone"


def test_logits_of_a_chunk_fit_a_gpu() -> None:
    """Rows are whole tiles; of a large vocabulary no fewer than one, of a small one no more than fit."""
    assert _chunk(50_304, on_gpu=True, compiled=True) == 4096
    assert _chunk(50_304, on_gpu=True, compiled=False) == 1024
    assert _chunk(128_256, on_gpu=True, compiled=False) == 512
    assert _chunk(1 << 24, on_gpu=True, compiled=True) == 64
    assert _chunk(50_257, on_gpu=False, compiled=False) == 64
    assert _chunk(256, on_gpu=False, compiled=False) == 4096


@pytest.mark.parametrize("cudnn", [True, False])
def test_kernels_of_attention_on_a_gpu(cudnn: bool) -> None:
    before = torch._C._get_sdp_priority_order()
    with attention_kernels(torch.device("cuda"), cudnn):
        order = torch._C._get_sdp_priority_order()
        enabled = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    assert enabled == cudnn
    assert order[0] == int((SDPBackend.CUDNN_ATTENTION if cudnn else SDPBackend.FLASH_ATTENTION).value)
    assert torch._C._get_sdp_priority_order() == before
    assert torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
