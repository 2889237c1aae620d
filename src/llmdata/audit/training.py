"""What a model's folder says of its training: the lines it wrote, and the loss over steps as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from llmdata.storage.place import Place

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 860, 320, 44, 12, 104, 30
MOST_POINTS = 400


def metrics_of(model: Place, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """The lines of a model's metrics (or of its samples.jsonl), none if there are none; a torn one is left out."""
    lines = []
    for line in (model / name).read_bytes().splitlines() if (model / name).exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return [line for line in lines if isinstance(line, dict)]


def last_metrics(model: Place) -> dict[str, Any]:
    """The latest value of everything that a model's metrics measure."""
    last: dict[str, Any] = {}
    for line in metrics_of(model):
        last |= {key: value for key, value in line.items() if value is not None}
    return last


def loss_curve(metrics: Sequence[dict[str, Any]]) -> str:
    """Training and validation loss of the lines of metrics.jsonl as inline SVG; empty if they hold none.

    The colours are classes of the page around it.
    """
    train = _thin([(line["step"], line["loss"]) for line in metrics if line.get("loss") is not None])
    val = [(line["step"], line["val_loss"]) for line in metrics if line.get("val_loss") is not None]
    points = train + val
    if len(points) < 2:
        return ""
    last: int = max(step for step, _ in points) or 1
    low: float = min(loss for _, loss in points)
    high: float = max(loss for _, loss in points)
    margin = 0.05 * (high - low) or 0.5
    low, high = low - margin, high + margin

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / last

    def y(loss: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - loss) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Loss over steps">']
    for loss in _ticks(low, high):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(loss):.1f}" y2="{y(loss):.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:g}</text>')
    for step in _ticks(0, last):
        parts.append(f'<text x="{x(step):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{step:,.10g}</text>')
    ends: list[float] = []
    for name, label, series in (("train", "training", train), ("val", "validation", val)):
        if not series:
            continue
        line = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in series)
        parts.append(f'<polyline class="{name}" points="{line}"/>')
        end = y(series[-1][1]) + 4
        if ends and abs(end - ends[0]) < 14:  # labels of two lines that end together
            end = ends[0] + (14 if end >= ends[0] else -14)
        ends.append(end)
        parts.append(f'<text class="{name}" x="{WIDTH - RIGHT + 6}" y="{end:.1f}">{label} {series[-1][1]:.2f}</text>')
    return "\n".join([*parts, "</svg>"])


def terminal_curve(metrics: Sequence[dict[str, Any]], width: int = 60, height: int = 10) -> str:
    """Training loss in braille dots, `width` × `height` characters, its range beside them; empty without two points.

    Each character has 2 × 4 dots (Unicode's block from U+2800). The first fiftieth of a long run is left out: it falls
    so far that the rest would be flat.
    """
    series = [(line["step"], line["loss"]) for line in metrics if line.get("loss") is not None]
    series = series[len(series) // 50 :]
    if len(series) < 2:
        return ""
    first, last = series[0][0], series[-1][0]
    columns: list[list[float]] = [[] for _ in range(2 * width)]
    for step, loss in series:
        columns[(step - first) * (2 * width - 1) // max(1, last - first)].append(loss)
    means = [sum(column) / len(column) if column else math.nan for column in columns]
    known = [mean for mean in means if not math.isnan(mean)]
    low, high = min(known), max(known)
    cells = [[0] * width for _ in range(height)]
    bits = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # left and right column of dots, from the top
    for x, mean in enumerate(means):
        if not math.isnan(mean):
            y = round((high - mean) / ((high - low) or 1) * (4 * height - 1))
            cells[y // 4][x // 2] |= bits[x % 2][y % 4]
    labels = {0: f"{high:.3f}", height - 1: f"{low:.3f}"}
    rows = [f"{labels.get(y, ''):>7} ┤" + "".join(chr(0x2800 + cell) for cell in row) for y, row in enumerate(cells)]
    ends = f"{first:,}", f"{last:,}"
    return "\n".join([*rows, " " * 9 + ends[0] + ends[1].rjust(width - len(ends[0]))])


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between `low` and `high`."""
    rough = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    size = next(unit * step for step in (1, 2, 5, 10) if unit * step >= rough)
    first, last = math.ceil(low / size - 1e-9), math.floor(high / size + 1e-9)
    return [round(number * size, 12) for number in range(first, last + 1)]


def _thin(series: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most MOST_POINTS points: the mean of each stretch, at its last step."""
    stride = -(-len(series) // MOST_POINTS) or 1
    stretches = [series[start : start + stride] for start in range(0, len(series), stride)]
    return [(part[-1][0], sum(loss for _, loss in part) / len(part)) for part in stretches]
