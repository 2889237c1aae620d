"""Where the CPU time of a clean run went: what each stage cost, from the manifests of its tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmdata.storage.manifest import manifests
from llmdata.storage.place import Place

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(slots=True)
class StageTime:
    """CPU seconds that one stage took in all tasks together, and the documents that came in."""

    stage: str
    documents: int = 0
    cpu_seconds: float = 0.0

    @property
    def milliseconds(self) -> float:
        """A document."""
        return 1000 * self.cpu_seconds / self.documents if self.documents else 0.0


def stage_times(folder: Place) -> list[StageTime]:
    """What the finished tasks of the stage folder `folder` spent on each stage, pass by pass.

    `start` is loading models and lists, `write` what it takes to put documents on disk; both count all documents that
    their tasks read. The time between passes, in which a shuffle compares keys, belongs to no task and is left out.
    """
    passes: dict[tuple[str, ...], dict[str, StageTime]] = {}
    for task in manifests(folder):
        rows = passes.setdefault(tuple(task.counts), {})
        read = next((counts["in"] for counts in task.counts.values()), 0)
        for stage, seconds in task.cost.get("stages", {}).items():
            row = rows.setdefault(stage, StageTime(stage))
            row.documents += task.counts[stage]["in"] if stage in task.counts else read
            row.cpu_seconds += seconds
    return [row for rows in passes.values() for row in rows.values()]


def times_table(times: list[StageTime]) -> Table:
    """For people: a line a stage."""
    from rich.table import Table

    table = Table()
    table.add_column("stage")
    for name in ("documents", "CPU seconds", "ms a document", "share"):
        table.add_column(name, justify="right")
    total = sum(row.cpu_seconds for row in times) or 1.0
    for row in times:
        table.add_row(
            row.stage,
            f"{row.documents:,}",
            f"{row.cpu_seconds:,.1f}",
            f"{row.milliseconds:,.2f}",
            f"{row.cpu_seconds / total:.1%}",
        )
    return table
