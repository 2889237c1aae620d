"""The loss as a picture."""

from __future__ import annotations

import re

import pytest

from llmdata.audit.training import _ticks, loss_curve


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (3.7, 8.5, [4, 5, 6, 7, 8]),
        (0, 1200, [0, 200, 400, 600, 800, 1000, 1200]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (4.0, 4.1, [4, 4.02, 4.04, 4.06, 4.08, 4.1]),
        (0, 19073, [0, 5000, 10000, 15000]),
    ],
)
def test_axes_have_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert _ticks(low, high) == expected


def test_a_curve_shows_both_losses_and_where_they_ended() -> None:
    lines = [{"step": step, "loss": 8 - step / 1e6, "val_loss": None} for step in range(0, 2_000_001, 100_000)]
    svg = loss_curve([*lines, {"step": 2_000_000, "val_loss": 6.25}])
    assert {"training 6.00", "validation 6.25"} <= set(re.findall(r">([^<>]+)</text>", svg))
    assert ">2,000,000</text>" in svg
    assert loss_curve([{"step": 0, "val_loss": 8.0}]) == ""
