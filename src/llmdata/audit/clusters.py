"""The largest clusters of duplicates that a clean folder found, with their texts to compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmdata.audit.folders import Source
from llmdata.audit.tables import Tables
from llmdata.errors import InputError

_PREFIX = "duplicate of "


@dataclass(frozen=True, slots=True)
class Cluster:
    """`size` documents of which `kept` stays; `members` are some of them, the kept one first where it is on disk."""

    stage: str
    kept: str
    size: int
    members: list[dict[str, Any]]
    """`id`, `url`, `text` (empty where rejected documents are kept without), `kept`."""


def largest_clusters(source: Source, count: int, members: int) -> list[Cluster]:
    """The `count` largest clusters, each with up to `members` of its documents; none where nothing was rejected.

    Raises InputError if `source` is not what a clean chain made.
    """
    if source.kind not in ("run", "clean") or not (source.files or source.rejected):
        raise InputError(f"{source.place}: --clusters reads a run or a folder that `llmdata clean` or `dedup` made")
    if not source.rejected:
        return []
    tables = Tables(source)
    duplicates = f"reason = 'duplicate' AND starts_with(detail, '{_PREFIX}')"
    found = tables.records(
        f"""SELECT stage, substr(detail, {len(_PREFIX) + 1}) AS kept, count(*) + 1 AS size FROM rejected
            WHERE {duplicates} GROUP BY ALL ORDER BY size DESC, stage, kept LIMIT {count}"""
    )
    # The one that stayed may have been rejected by a later stage.
    everything = "SELECT id, url, text FROM rejected"
    if source.files:
        everything += " UNION ALL SELECT id, url, text FROM docs"
    clusters = []
    for row in found:
        first = tables.records(
            f"SELECT *, true AS kept FROM ({everything}) WHERE id = ? ORDER BY length(text) DESC LIMIT 1", [row["kept"]]
        )
        others = tables.records(
            f"""SELECT id, url, text, false AS kept FROM rejected WHERE {duplicates} AND stage = ? AND detail = ?
                ORDER BY id LIMIT {max(0, members - 1)}""",
            [row["stage"], _PREFIX + row["kept"]],
        )
        clusters.append(Cluster(row["stage"], row["kept"], row["size"], first + others))
    return clusters


def differences(left: str, right: str) -> list[tuple[str, bool]]:
    """`right` in pieces, each with whether its words are missing from `left` at that place."""
    from difflib import SequenceMatcher

    old, new = left.split(), right.split()
    pieces = []
    for kind, _, _, begin, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if begin < end:
            pieces.append((" ".join(new[begin:end]), kind != "equal"))
    return pieces
