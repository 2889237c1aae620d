"""What a run writes down about itself: JSON lines that a resumed run cuts back, and the loss curve as SVG."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from llmdata.errors import InputError
from llmdata.storage.place import Place, disk_full_is_resumable

TIME_KEYS = ("seconds", "tokens_per_second", "mfu", "peak_memory")
"""Keys of a line that tell of the machine; all others are the same in every run of the same settings."""


class Log:
    """JSON lines with a `step` each, appended to in batches."""

    def __init__(self, place: Place, step: int) -> None:
        """Go on with the file at `place` after `step`: later lines, and one torn by a kill, are dropped."""
        self.place = place
        lines = [line for line in read_lines(place) if line["step"] <= step]
        self._text = "".join(map(_line, lines))
        place.write_bytes(self._text.encode())

    def append(self, lines: Sequence[dict[str, Any]]) -> None:
        """Add `lines`, which reach the disk's cache before this returns.

        Objects of a store cannot be appended to: they are written anew, some 12 MB after 100,000 steps.
        """
        if not lines:
            return
        text = "".join(map(_line, lines))
        if self.place.fs is not None:
            self._text += text
            self.place.write_bytes(self._text.encode())
        else:
            with disk_full_is_resumable(self.place.path), open(self.place.local(), "ab") as stream:
                stream.write(text.encode())


def read_lines(place: Place) -> Iterator[dict[str, Any]]:
    """The lines of the file, none if it does not exist; a torn last line is left out.

    Raises InputError at any other that is none of a `Log`.
    """
    if not place.exists():
        return
    *whole, _ = place.read_bytes().split(b"\n")
    for number, text in enumerate(whole, 1):
        try:
            line = json.loads(text)
            line["step"]
        except (ValueError, TypeError, KeyError):
            raise InputError(f"{place}:{number}: not a line that training has written; take it out") from None
        yield line


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def without_times(line: dict[str, Any]) -> dict[str, Any]:
    """`line` as two runs may be compared by."""
    return {key: value for key, value in line.items() if key not in TIME_KEYS}


def loss_curve(lines: Sequence[dict[str, Any]], title: str) -> str:
    """The training and validation loss over steps as an SVG picture."""
    train = [(line["step"], line["loss"]) for line in lines if line.get("loss") is not None]
    val = [(line["step"], line["val_loss"]) for line in lines if line.get("val_loss") is not None]
    points = train + val
    width, height, left, top, right, bottom = 720, 400, 56, 40, 16, 44
    if not points:
        points = [(0, 0.0)]
    x_max = max(x for x, _ in points) or 1
    low, high = min(y for _, y in points), max(y for _, y in points)
    high = high if high > low else low + 1

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + (width - left - right) * x / x_max,
            top + (height - top - bottom) * (high - y) / (high - low),
        )

    def path(series: Sequence[tuple[int, float]], style: str) -> str:
        dots = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(x, y) for x, y in series))
        return f'<polyline fill="none" {style} points="{dots}"/>'

    marks = []
    for i in range(6):
        y, x = low + (high - low) * i / 5, x_max * i / 5
        (_, py), (px, base) = at(0, y), at(x, low)
        marks.append(f'<line x1="{left}" x2="{width - right}" y1="{py:.1f}" y2="{py:.1f}" stroke="#ddd"/>')
        marks.append(f'<text x="{left - 6}" y="{py + 4:.1f}" text-anchor="end">{y:.2f}</text>')
        marks.append(f'<text x="{px:.1f}" y="{base + 18:.1f}" text-anchor="middle">{x:,.0f}</text>')
    legend = '<tspan fill="#69a">training</tspan>, <tspan fill="#c40">validation</tspan>'
    escaped = title.replace("&", "&amp;").replace("<", "&lt;")
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
            '<g font-family="sans-serif" font-size="12" fill="#333">',
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            f'<text x="{left}" y="22" font-size="14">{escaped}</text>',
            *marks,
            path(thinned(train, 600), 'stroke="#8ab" stroke-width="1"'),
            path(val, 'stroke="#c40" stroke-width="2"'),
            f'<text x="{width - right}" y="22" text-anchor="end">nats a token, by step: {legend}</text>',
            "</g>\n</svg>\n",
        ]
    )


def thinned(series: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """At most `most` points: means over equal stretches."""
    stride = -(-len(series) // most) if series else 1
    parts = [series[i : i + stride] for i in range(0, len(series), stride)]
    return [(part[len(part) // 2][0], sum(y for _, y in part) / len(part)) for part in parts]
