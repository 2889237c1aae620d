"""Scaling laws: a power law with a floor, fitted to the losses of a ladder of models. Imports no torch.

The fit is that of Hoffmann et al. (2022), appendix D.3: Huber's loss of the difference of logarithms, minimised from a
grid of starting points, the best of which counts. They use L-BFGS; with at most five parameters Levenberg and
Marquardt's steps reach the same minimum. All starting points go down at once: the arrays' first axis.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DELTA = 1e-3
"""Where Huber's loss turns from square to linear, in logarithms of the loss: a thousandth of it."""
_FLOORS = (0.1, 0.5, 0.8, 0.95)  # starting points: the floor as a share of the lowest loss, and the exponents
_EXPONENTS = (0.05, 0.15, 0.35, 0.7, 1.5)
_LARGEST = 5.0  # exponent: beyond it a law is a step, and its scale no number
_STEPS = 300


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """Loss = floor + Σ scale / x ** exponent, with a scale and an exponent for each of the quantities x."""

    floor: float
    scales: tuple[float, ...]
    exponents: tuple[float, ...]
    residual: float
    """Root mean square of log(law) - log(loss) over the points of the fit: 0.01 is one per cent."""

    def loss(self, *quantities: float) -> float:
        """The loss that the law expects at `quantities`."""
        terms = zip(self.scales, self.exponents, quantities, strict=True)
        return float(self.floor + sum(scale / x**exponent for scale, exponent, x in terms))


def fit_power_law(quantities: Sequence[Sequence[float]], losses: Sequence[float]) -> PowerLaw:
    """Fit a law to `losses`, each measured at one row of `quantities` (a column a quantity, all above 0).

    Raises ValueError with fewer points than the law has parameters (three for one quantity, five for two).
    """
    logs = np.log(np.asarray(quantities, dtype=np.float64))
    target = np.log(np.asarray(losses, dtype=np.float64))
    points, count = logs.shape
    if points < 1 + 2 * count:
        raise ValueError(f"{points} points are too few for a law of {1 + 2 * count} parameters")
    middle = logs.mean(axis=0)  # so that scales and exponents are nearly independent
    logs = logs - middle
    low, mean = float(np.exp(target.min())), float(np.exp(target).mean())
    starts = []
    for share, *exponents in itertools.product(_FLOORS, *[_EXPONENTS] * count):
        scale = max(mean - share * low, 1e-3 * low) / count
        starts.append([np.log(share * low), *[np.log(scale)] * count, *np.log(exponents)])
    costs, ends = _descend(np.array(starts), logs, target)
    best = ends[costs.argmin()]
    residual, _ = _residuals(best[None], logs, target)
    powers = np.exp(best[1 + count :])
    return PowerLaw(
        floor=float(np.exp(best[0])),
        scales=tuple(float(scale) for scale in np.exp(best[1 : 1 + count] + powers * middle)),
        exponents=tuple(float(power) for power in powers),
        residual=float(np.sqrt(np.mean(residual**2))),
    )


def _residuals(theta: Floats, logs: Floats, target: Floats) -> tuple[Floats, Floats]:
    """log(law) - log(loss) of each point by each row of `theta`: log floor, log scales, log exponents. Shape (starts,
    points), and its derivatives (starts, points, parameters)."""
    count = logs.shape[1]
    exponents = np.exp(theta[:, None, 1 + count :])
    floor = np.broadcast_to(theta[:, None, :1], (len(theta), len(logs), 1))
    terms = np.concatenate([floor, theta[:, None, 1 : 1 + count] - exponents * logs], axis=2)
    top = terms.max(axis=2, keepdims=True)
    shares = np.exp(terms - top)
    total = shares.sum(axis=2, keepdims=True)
    shares /= total
    residual = (top + np.log(total))[:, :, 0] - target
    return residual, np.concatenate([shares, -shares[:, :, 1:] * exponents * logs], axis=2)


def _descend(theta: Floats, logs: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Levenberg–Marquardt on Huber's loss, by weights that make it a square one. The losses reached, and where."""
    theta = theta.copy()
    damping = np.full(len(theta), 1e-2)
    residual, jacobian = _residuals(theta, logs, target)
    cost = _huber(residual)
    going = np.arange(len(theta))
    largest = np.log(_LARGEST)
    for _ in range(_STEPS):
        weights = np.minimum(1.0, DELTA / np.maximum(np.abs(residual[going]), 1e-300))[:, :, None]
        slopes = jacobian[going]
        normal = slopes.transpose(0, 2, 1) @ (weights * slopes)
        slope = slopes.transpose(0, 2, 1) @ (weights * residual[going][:, :, None])
        # In units in which the diagonal is 1, so that damping alone says how well the system is posed.
        unit = np.sqrt(np.maximum(np.diagonal(normal, axis1=1, axis2=2), 1e-24))[:, :, None]
        scaled = normal / (unit * unit.transpose(0, 2, 1)) + damping[going, None, None] * np.eye(theta.shape[1])
        step = np.linalg.solve(scaled, -slope / unit) / unit
        there = theta[going] + np.clip(step[:, :, 0], -1.0, 1.0)
        there[:, 1 + logs.shape[1] :] = np.minimum(there[:, 1 + logs.shape[1] :], largest)
        tried, derivatives = _residuals(there, logs, target)
        reached = _huber(tried)
        better = reached < cost[going]
        won, lost = going[better], going[~better]
        done = cost[won] - reached[better] < 1e-12 * cost[won]
        theta[won], residual[won], jacobian[won] = there[better], tried[better], derivatives[better]
        cost[won] = reached[better]
        damping[won] = np.maximum(damping[won] / 3, 1e-12)
        damping[lost] *= 4
        going = np.concatenate([won[~done], lost[damping[lost] <= 1e12]])
        if not len(going):
            break
    return cost, theta


def _huber(residual: Floats) -> Floats:
    size = np.abs(residual)
    total: Floats = np.where(size <= DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA)).sum(axis=1)
    return total
