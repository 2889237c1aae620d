"""Small charts of a few series: as an SVG picture, and in the characters of a terminal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]
COLOURS = ("#2a6fb0", "#c8501e", "#3b8f4d", "#8250a8", "#a8862a", "#555555")
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 720, 420, 64, 44, 24, 52


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one colour: joined by a line, or as dots; `band` is drawn behind, from lower to upper value."""

    label: str
    points: Sequence[Point]
    colour: str = COLOURS[0]
    dots: bool = False
    hollow: bool = False
    """Dots as rings: what a fit has not seen."""
    dashed: bool = False
    band: Sequence[tuple[float, float, float]] = field(default=())
    """(x, lower, upper)."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Values to pixels, or to anything else from 0 to 1, by their size or by its logarithm."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def around(cls, values: Sequence[float], logarithmic: bool, margin: float = 0.06) -> Axis:
        """An axis on which `values` have some room at both ends."""
        low, high = min(values), max(values)
        if logarithmic:
            room = (high / low) ** margin if high > low else 1.1
            return cls(low / room, high * room, True)
        room = (high - low) * margin or 0.5
        return cls(low - room, high + room, False)

    def at(self, value: float) -> float:
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round numbers along it: 1, 2, 5, 10, … where it spans decades, else in equal steps."""
        if self.logarithmic and self.high / self.low > 8:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            factors = (1, 2, 5) if self.high / self.low < 200 else (1,)
            marks = [factor * 10.0**decade for decade in decades for factor in factors]
            return [mark for mark in marks if self.low <= mark <= self.high]
        rough = (self.high - self.low) / 6
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]

    def label(self, value: float) -> str:
        """`1.85`, `2.5M`; where numbers are as large as those of FLOPs, `2.5e13`."""
        if value >= 1e13 or (self.logarithmic and self.low >= 1e6):
            digits, power = f"{value:.2e}".split("e")
            return f"{float(digits):g}e{int(power)}"
        for factor, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
            if value >= factor:
                return f"{value / factor:.3g}{letter}"
        return f"{value:.4g}"


def svg_chart(
    series: Sequence[Series], title: str, x_label: str, y_label: str, *, log_x: bool = False, log_y: bool = False
) -> str:
    """The chart as a picture with a legend. Raises ValueError without a point."""
    x, y = _axes(series, log_x, log_y)

    def at(point: Point) -> tuple[float, float]:
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * x.at(point[0])
        return across, _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - y.at(point[1]))

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">',
        '<g font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="24" font-size="14">{escape(title)}</text>',
    ]
    for mark in y.ticks():
        _, py = at((x.low, mark))
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{py:.1f}" y2="{py:.1f}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{py + 4:.1f}" text-anchor="end">{y.label(mark)}</text>')
    for mark in x.ticks():
        px, _ = at((mark, y.low))
        parts.append(f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" stroke="#f0f0f0"/>')
        parts.append(f'<text x="{px:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{x.label(mark)}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(x_label)}</text>')
    across = f"rotate(-90 14 {_HEIGHT / 2})"
    parts.append(f'<text x="14" y="{_HEIGHT / 2}" text-anchor="middle" transform="{across}">{escape(y_label)}</text>')
    for one in series:
        parts += _drawn(one, at)
    for row, one in enumerate(one for one in series if one.label):
        place = f'x="{_WIDTH - _RIGHT - 8}" y="{_TOP + 16 + 16 * row}"'
        parts.append(f'<text {place} text-anchor="end" fill="{one.colour}">{escape(one.label)}</text>')
    return "\n".join([*parts, "</g>\n</svg>\n"])


def _drawn(one: Series, at: Callable[[Point], Point]) -> list[str]:
    parts = []
    if one.band:
        edge = [at((across, low)) for across, low, _ in one.band]
        edge += [at((across, high)) for across, _, high in reversed(one.band)]
        outline = " ".join(f"{px:.1f},{py:.1f}" for px, py in edge)
        parts.append(f'<polygon points="{outline}" fill="{one.colour}" fill-opacity="0.18"/>')
    places = [at(point) for point in one.points]
    if one.dots:
        radius, fill = (7, "none") if one.hollow else (4.5, one.colour)  # a ring around a dot shows both
        style = f'r="{radius}" fill="{fill}" stroke="{one.colour}" stroke-width="2"'
        return [*parts, *(f'<circle cx="{px:.1f}" cy="{py:.1f}" {style}/>' for px, py in places)]
    line = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
    dashes = ' stroke-dasharray="6 4"' if one.dashed else ""
    return [*parts, f'<polyline fill="none" stroke="{one.colour}" stroke-width="2"{dashes} points="{line}"/>']


def terminal_chart(
    series: Sequence[Series], *, log_x: bool = False, log_y: bool = False, width: int = 60, height: int = 14
) -> str:
    """The chart in `width` × `height` characters: lines in braille (Unicode's block from U+2800), dots as ● or ○, or
    both as ◉."""
    x, y = _axes(series, log_x, log_y)
    cells = [[0] * width for _ in range(height)]
    marks: dict[tuple[int, int], str] = {}
    bits = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # left and right column of dots, from the top
    for one in series:
        places = [(x.at(a) * (2 * width - 1), (1 - y.at(b)) * (4 * height - 1)) for a, b in one.points]
        if one.dots:
            for across, down in places:
                mark, cell = "○" if one.hollow else "●", (round(down) // 4, round(across) // 2)
                marks[cell] = mark if marks.get(cell, mark) == mark else "◉"
            continue
        for (a, b), (c, d) in itertools.pairwise(places):
            for step in range(steps := max(1, round(abs(c - a)), round(abs(d - b)))):
                across, down = round(a + (c - a) * step / steps), round(b + (d - b) * step / steps)
                cells[down // 4][across // 2] |= bits[across % 2][down % 4]
    labels = {0: f"{y.high:.3f}", height - 1: f"{y.low:.3f}"}
    rows = []
    for row, line in enumerate(cells):
        shown = [marks.get((row, column)) or chr(0x2800 + cell) for column, cell in enumerate(line)]
        rows.append(f"{labels.get(row, ''):>7} ┤" + "".join(shown))
    first, last = x.label(x.low), x.label(x.high)
    return "\n".join([*rows, " " * 9 + first + last.rjust(width - len(first))])


def _axes(series: Sequence[Series], log_x: bool, log_y: bool) -> tuple[Axis, Axis]:
    points = [point for one in series for point in one.points]
    points += [(across, value) for one in series for across, *edges in one.band for value in edges]
    if not points:
        raise ValueError("a chart needs points")
    return Axis.around([a for a, _ in points], log_x), Axis.around([b for _, b in points], log_y)
