"""A small clean folder of two passes, and a run around it, as the pipeline leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmdata.audit.funnel import write_funnel
from llmdata.document import (
    Document,
    Rejection,
    document_schema,
    rejection_schema,
    rejections_to_batch,
    to_batch,
)
from llmdata.storage.manifest import Manifest, output_of, save_stamp
from llmdata.storage.parquet import write_table
from llmdata.storage.place import Place

CHAIN = ("read", "extract", "language", "minhash", "pii")


def document(number: int, **changes: Any) -> Document:
    fields = {
        "id": f"doc-{number:02}",
        "url": f"http://example.org/{number}",
        "text": f"Text number {number}. " * 5,
        "language": "en",
    }
    return Document(**(fields | changes))


def write_documents(folder: Place, path: str, documents: Sequence[Document]) -> None:
    write_table(folder / path, [to_batch(documents)], document_schema())


def write_rejections(folder: Place, path: str, rejections: Sequence[Rejection]) -> None:
    write_table(folder / path, [rejections_to_batch(rejections)], rejection_schema())


def counts(*stages: tuple[str, int, dict[str, int]]) -> dict[str, Any]:
    return {
        stage: {"in": entered, "kept": entered - sum(rejected.values()), "changed": 0, "rejected": rejected}
        for stage, entered, rejected in stages
    }


def clean_folder(path: Path) -> Place:
    """Ten documents in two tasks: three rejected in the first pass, one in the second, six in `final`."""
    folder = Place.of(path)
    halves = [range(5), range(5, 10)]
    for number, half in enumerate(halves):
        docs = [document(item) for item in half]
        rejected = [Rejection(docs[0], "extract", "empty", "0 characters")]
        if number == 0:
            rejected.append(Rejection(docs[1], "language", "below_threshold", "fr 0.31"))
        kept = docs[len(rejected) :]
        part, turned_away = f"01-minhash/part-{number:05}.parquet", f"rejected/part-01-{number:05}.parquet"
        write_documents(folder, part, kept)
        write_rejections(folder, turned_away, rejected)
        Manifest(
            task=f"pass-01-{number:05}",
            fingerprint="a",
            outputs=[output_of(folder, part, len(kept)), output_of(folder, turned_away, len(rejected))],
            counts=counts(
                ("read", 5, {}),
                ("extract", 5, {"empty": 1}),
                ("language", 4, {"below_threshold": 1} if number == 0 else {}),
            ),
            cost={"seconds": 2.0},
        ).save(folder)
    kept = [document(item) for item in (2, 3, 4, 6, 7, 8)]
    write_documents(folder, "final/part-00000.parquet", kept)
    write_rejections(
        folder, "rejected/part-02-00000.parquet", [Rejection(document(9), "minhash", "duplicate", "of doc-08")]
    )
    Manifest(
        task="pass-02-00000",
        fingerprint="b",
        outputs=[
            output_of(folder, "final/part-00000.parquet", 6),
            output_of(folder, "rejected/part-02-00000.parquet", 1),
        ],
        counts=counts(("read", 7, {}), ("minhash", 7, {"duplicate": 1}), ("pii", 6, {})),
        cost={"seconds": 1.0},
    ).save(folder)
    write_funnel(folder, CHAIN)
    state = {"writing": {"rejected": "full", "keep": "passes"}}
    save_stamp(folder, "clean", {"state": state, "finished": True, "tasks": 3, "pruned": []})
    return folder
