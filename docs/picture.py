"""Draw the README's picture: what a terminal showed of a real run, shortened where `…` stands, and nothing added.

python docs/picture.py TYPESCRIPT SVG     (`make picture` captures the run and calls this)
"""

import re
import sys
from pathlib import Path

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.text import Text

COMMAND = "llmdata run demo"
WIDTH = 110
SAMPLE_LINES = 6
"""Lines of each text by the model that the picture has room for."""

_CONTROL = re.compile(r"\x1b\[(\d*)([AK])|\x1b\[\?25[hl]|\r|\n")


def screen(output: str) -> list[str]:
    """The lines that remain when all of `output` has been shown; colours stay in them as escape sequences.

    Knows what rich's bars use: carriage return, line feed, cursor up, erase line, hide and show the cursor.
    """
    lines, row, position = [""], 0, 0
    for control in _CONTROL.finditer(output):
        lines[row] += output[position : control.start()]
        position = control.end()
        if control[0] == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif control[2] == "A":
            row -= int(control[1] or 1)
        elif control[2] == "K":
            lines[row] = ""
    lines[row] += output[position:]
    return lines


def shorten(lines: list[Text]) -> list[Text]:
    """`lines` without those on either side of the run, and of each text by the model the beginning."""
    shown: list[Text] = []
    room = None
    for line in lines:
        text = line.plain.rstrip()
        if text.startswith("Script "):
            continue
        if text.startswith("What the model writes"):
            room = SAMPLE_LINES
        elif text.startswith("Report:"):
            room = None
        elif room is not None and text:
            room -= 1
            if room == -1:
                shown[-1] = Text(f"{shown[-1].plain.rstrip()[: WIDTH - 2]} …")
            if room < 0:
                continue
        shown.append(line)
    while shown and not shown[-1].plain.strip():
        shown.pop()
    return shown


def main(typescript: str, picture: str) -> None:
    """Read the output of a run as `script` captured it, and write the picture."""
    output = Path(typescript).read_bytes().decode("utf-8", "replace")  # read_text makes line feeds of returns
    console = Console(record=True, width=WIDTH, file=open("/dev/null", "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text.assemble(("$ ", "bold green"), COMMAND))
    for line in shorten([Text.from_ansi(line) for line in screen(output)]):
        console.print(line, soft_wrap=True)
    # Without the web font: a page that shows the picture should fetch nothing, and many refuse to.
    plain = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    Path(picture).write_text(console.export_svg(title=COMMAND, code_format=plain), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
