"""The journal of a task: finished entries come back after a death, an unfinished one does not."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from llmdata.storage.journal import Journal


def batch(*values: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"n": pa.array(values, pa.int64())})


def values(journal: Journal, stream: str) -> list[int]:
    return [value for part in journal.batches(stream) for value in part.column("n").to_pylist()]


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "task")
    journal.append({"kept": batch(1, 2), "rejected": batch()}, {"done": 2})
    journal.append({"kept": batch(3), "rejected": batch(4)}, {"done": 4})
    again = Journal(tmp_path / "task")
    assert again.notes == [{"done": 2}, {"done": 4}]
    assert values(again, "kept") == [1, 2, 3]
    assert values(again, "rejected") == [4]


def test_what_a_dying_worker_left_without_a_note_is_written_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "task")
    journal.append({"kept": batch(1)}, {"done": 1})
    (tmp_path / "task/000001.kept").write_bytes(b"half a batch")
    (tmp_path / "task/000001.partial").write_text('{"do')
    again = Journal(tmp_path / "task")
    assert again.notes == [{"done": 1}]
    again.append({"kept": batch(2)}, {"done": 2})
    assert values(Journal(tmp_path / "task"), "kept") == [1, 2]


def test_a_removed_journal_begins_anew(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "task")
    journal.append({"kept": batch(1)}, {"done": 1})
    journal.remove()
    assert Journal(tmp_path / "task").notes == []
