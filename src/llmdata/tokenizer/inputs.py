"""How a stage remembers what it was made from and says what has changed since; how much text its input has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmdata.storage.inputs import Piece
from llmdata.storage.parquet import open_parquet
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


def hash_bound(pieces: Sequence[Piece], size: int) -> int:
    """The 64-bit hashes below it are the share of all that `size` bytes are of the text of `pieces`."""
    total = sum(_text_bytes(piece) for piece in pieces)
    return 1 << 64 if total <= size else int(size / total * (1 << 64))


def _text_bytes(piece: Piece) -> int:
    """Bytes of text in `piece`, as far as can be known without reading it: for Parquet from the footer."""
    if piece.format != "parquet" or not piece.size:
        return piece.size if piece.start == 0 else 0
    with Place.of(piece.path).open() as stream:
        metadata = open_parquet(stream, piece.path).metadata
        groups = [metadata.row_group(index) for index in range(piece.start, piece.end)]
        columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema == piece.text_column)
