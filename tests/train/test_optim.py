"""Learning-rate schedules, and one update beside PyTorch's own optimiser."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from llmdata.train.config import ModelConfig, OptimConfig
from llmdata.train.model import Decoder
from llmdata.train.optim import Flat, Optimizer, learning_rate, orthogonalised


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("cosine", {0: 1 / 11, 9: 10 / 11, 10: 1.0, 40: 0.775, 55: 0.55, 70: 0.325, 100: 0.1}),
        ("linear", {0: 1 / 11, 9: 10 / 11, 10: 1.0, 40: 0.7, 55: 0.55, 70: 0.4, 100: 0.1}),
        ("wsd", {0: 1 / 11, 9: 10 / 11, 10: 1.0, 55: 1.0, 82: 1.0, 91: 0.55, 100: 0.1}),
    ],
)
def test_schedules(schedule: str, shares: dict[int, float]) -> None:
    """Up over ten steps, then down to a tenth; half a cosine, a line, and a line over the last fifth."""
    config = OptimConfig.model_validate({"schedule": schedule, "warmup": 10, "lr": 0.02})
    rates = {step: learning_rate(config, step, 100) / 0.02 for step in shares}
    assert rates == pytest.approx(shares)


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_an_update_is_adamws_of_pytorch(clip: float) -> None:
    """Matrices decay, biases and norms do not; the gradient of all is shortened together."""
    model = Decoder(ModelConfig(layers=1, heads=2, width=8, context=4, bias=True), 10)
    model.initialise(torch.Generator().manual_seed(0))
    plain = copy.deepcopy(model)
    config = OptimConfig(clip=clip, weight_decay=0.3)
    optimizer = Optimizer(Flat(model, muon=False), config)
    shapes = list(plain.parameters())
    groups = [
        {"params": [p for p in shapes if p.ndim >= 2], "weight_decay": 0.3},
        {"params": [p for p in shapes if p.ndim < 2], "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, lr=0.01, betas=config.betas, eps=config.eps)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for ours, other in zip(model.parameters(), shapes, strict=True):
            other.grad = torch.randn(other.shape, generator=generator)
            assert ours.grad is not None
            ours.grad.copy_(other.grad)
        told = optimizer.step(0.01, torch.tensor(1.0))
        norm = nn.utils.clip_grad_norm_(shapes, clip or torch.inf)
        theirs.step()
        torch.testing.assert_close(told, torch.stack([torch.tensor(1.0), norm, torch.tensor(0.0)]))
    torch.testing.assert_close(dict(model.named_parameters()), dict(plain.named_parameters()))


@pytest.mark.parametrize("shape", [(2, 16, 16), (1, 8, 40), (3, 40, 8)])
def test_muon_turns_matrices_into_nearly_orthogonal_ones(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    values = torch.linalg.svdvals(orthogonalised(matrices))
    assert values.min() > 0.3  # the smallest of a random square matrix have come up, the others are there
    assert values.max() < 1.25
    assert values.median() > 0.65
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    cosine = nn.functional.cosine_similarity(orthogonalised(matrices).flatten(1), (left @ right).flatten(1))
    assert cosine.min() > 0.95
