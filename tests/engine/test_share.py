"""Lists that several processes share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from llmdata.engine.session import Session
from llmdata.engine.share import Again, Share, run_list
from llmdata.storage.place import Place


@dataclass(frozen=True)
class Numbered:
    id: str


def test_a_list_that_somebody_has_finished_and_cleared_away_meanwhile_is_not_begun_again(tmp_path: Path) -> None:
    tasks = [Numbered(f"task-{number}") for number in range(4)]
    session = Session(share=Share(Place.of(tmp_path), 0, 2, "wait"))
    began: list[str] = []
    over = False

    def work(todo: list[Numbered], done: int) -> None:
        nonlocal over
        began.extend(task.id for task in todo)
        over = True

    for _ in range(2):
        with pytest.raises(Again):
            run_list(tasks, lambda task: None, work, session, "made", over=lambda: over)
    assert began == ["task-0", "task-2"]
