"""What each stage cost: summed over tasks, a row a stage and pass, documents as each stage saw them."""

from __future__ import annotations

from pathlib import Path

from llmdata.audit.times import stage_times
from llmdata.storage.manifest import Manifest
from llmdata.storage.place import Place


def counts(**entered: int) -> dict[str, dict[str, int]]:
    return {stage: {"in": number} for stage, number in entered.items()}


def test_times_are_summed_by_pass_and_stage(tmp_path: Path) -> None:
    folder = Place.of(tmp_path)
    for number, (read, c4) in enumerate([(10, 4), (20, 16)]):
        cost = {"seconds": 1.0, "stages": {"start": 0.5, "read": 1.0, "c4": 2.0, "write": 0.1}}
        Manifest(f"pass-01-{number:05}", "", counts=counts(read=read, c4=c4), cost=cost).save(folder)
    Manifest("pass-02-00000", "", counts=counts(read=5, pii=5), cost={"stages": {"read": 0.1, "pii": 1.0}}).save(folder)
    Manifest("resolve", "").save(folder)
    rows = [(row.stage, row.documents, round(row.cpu_seconds, 6)) for row in stage_times(folder)]
    assert rows == [
        ("start", 30, 1.0),
        ("read", 30, 2.0),
        ("c4", 20, 4.0),
        ("write", 30, 0.2),
        ("read", 5, 0.1),
        ("pii", 5, 1.0),
    ]
    assert stage_times(folder)[2].milliseconds == 200.0


def test_a_folder_of_older_manifests_has_no_times(tmp_path: Path) -> None:
    folder = Place.of(tmp_path)
    Manifest("pass-01-00000", "", counts=counts(read=5), cost={"seconds": 1.0}).save(folder)
    assert stage_times(folder) == []
