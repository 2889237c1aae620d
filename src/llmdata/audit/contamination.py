"""Which documents hold pieces of which evaluation set: a report of its own, from what the stage left in metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from llmdata.audit.folders import parts_of
from llmdata.storage.parquet import read_batches
from llmdata.storage.place import Place

REPORT = "contamination.jsonl"
STAGE = "decontaminate"


def write_contamination(clean: Place) -> None:
    """Write `contamination.jsonl` into a finished clean folder.

    One line a document: `id`, `url`, `action` (dropped or flagged), `set`, `item`, `runs`, `span`.
    """
    with (clean / REPORT).writer() as stream:
        for row in _found(clean):
            stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def read_contamination(clean: Place) -> list[dict[str, Any]] | None:
    """The lines of the report, or None if there is none."""
    place = clean / REPORT
    if not place.exists():
        return None
    with place.open() as stream:
        return [json.loads(line) for line in stream]


def _found(clean: Place) -> Iterator[dict[str, Any]]:
    for folder, columns in (("rejected", ["id", "url", "metadata", "stage"]), ("final", ["id", "url", "metadata"])):
        for place in parts_of(clean / folder):
            for batch in read_batches(place, columns):
                for row in batch.to_pylist():
                    # Most documents have nothing: a look for the name is cheaper than reading JSON.
                    if f'"{STAGE}"' not in row["metadata"] or STAGE not in (metadata := json.loads(row["metadata"])):
                        continue
                    action = "dropped" if row.get("stage") == STAGE else "flagged"
                    yield {"id": row["id"], "url": row["url"], "action": action, **metadata[STAGE]}
