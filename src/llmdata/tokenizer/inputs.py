"""How a stage remembers what it was made from, and says what has changed since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmdata.storage.inputs import Piece
from llmdata.storage.place import Place


def describe_inputs(pieces: Sequence[Piece], out: Place) -> dict[str, list[Any]]:
    """Size and stamp of each input file. Paths beside `out` are relative to it, so that a run's folder can be moved."""
    base = f"{out.parent}/"
    return {piece.path.removeprefix(base): [piece.size, piece.stamp] for piece in pieces}


def describe_changes(stage: str, before: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs between two states, in words."""
    changes = []
    for key in now:
        was, new = before.get(key), now[key]
        if was == new:
            continue
        if isinstance(was, dict) and isinstance(new, dict):
            names = [name for name in dict.fromkeys([*was, *new]) if was.get(name) != new.get(name)]
            if key == "config":
                changes += [f"{stage}.{name} was {was.get(name)!r}, is {new.get(name)!r}" for name in names]
            else:
                changes.append(f"{key} have changed: {names[0]}" + (f" and {len(names) - 1} more" if names[1:] else ""))
        else:
            changes.append(f"{key} has changed")
    return "; ".join(changes)
