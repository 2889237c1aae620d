"""The README's picture shows what a terminal showed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from rich.text import Text

SCRIPT = Path(__file__).parents[1] / "docs/picture.py"
spec = importlib.util.spec_from_file_location("picture", SCRIPT)
assert spec is not None
assert spec.loader is not None
picture = importlib.util.module_from_spec(spec)
spec.loader.exec_module(picture)


@pytest.mark.parametrize(
    ("output", "lines"),
    [
        ("one\r\ntwo\r\n", ["one", "two", ""]),
        ("\x1b[?25l10%\r\x1b[2K20%\r\x1b[2K\x1b[32m30%\x1b[0m\r\n\x1b[?25h", ["\x1b[32m30%\x1b[0m", ""]),
        ("a 1\r\nb 1\r\x1b[2K\x1b[1A\x1b[2Ka 2\r\nb 2\r\n", ["a 2", "b 2", ""]),
    ],
)
def test_what_remains_on_the_screen(output: str, lines: list[str]) -> None:
    assert picture.screen(output) == lines


def test_only_what_is_cut_is_marked() -> None:
    long = [f"line {number}" for number in range(9)]
    lines = ["Script started", "What the model writes before", "short", "", "What the model writes after", *long, ""]
    shown = [
        line.plain for line in picture.shorten([Text(line) for line in [*lines, "Report: here", "", "Script done"]])
    ]
    assert shown[:4] == lines[1:5]
    assert shown[4:] == [*long[:5], "line 5 …", "", "Report: here"]
