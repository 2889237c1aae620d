"""The funnel: what each stage let through and what it turned away, and why. Made from manifests alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from llmdata.storage.manifest import Manifest, manifests
from llmdata.storage.place import Place

if TYPE_CHECKING:
    from rich.table import Table

FUNNEL = "funnel.json"
READ = "read"
"""Every pass begins with reading: the first reads the input, later ones what the pass before them wrote."""


def funnel_of(tasks: Iterable[Manifest], stages: Sequence[str]) -> dict[str, Any]:
    """The funnel of the finished `tasks`; `stages` is the chain in order.

    `in` and `kept` count documents, `changed` those whose text a stage rewrote, `share` is kept / in. The same tasks
    make the same funnel in whatever order they come. Reading in a later pass is a stage of its own only if it lost
    something.
    """
    passes: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for task in tasks:
        if task.counts:
            sums = passes.setdefault(tuple(task.counts), {})
            for stage, counts in task.counts.items():
                _add(sums.setdefault(stage, _zero()), counts)
    position = {stage: number for number, stage in enumerate(dict.fromkeys(stages))}

    def first_stage(names: tuple[str, ...]) -> int:
        return min((position.get(name, len(position)) for name in names if name != READ), default=-1)

    rows: list[dict[str, Any]] = []
    for names in sorted(passes, key=first_stage):
        sums = passes[names]
        rows += [_row(name, sums[name]) for name in names if name != READ or not rows or sums[name]["rejected"]]
    done = {row["stage"] for row in rows}
    rows += [_row(stage, _zero()) for stage in position if stage not in done]
    entered, kept = (rows[0]["in"], rows[-1]["kept"]) if rows else (0, 0)
    return {"in": entered, "kept": kept, "share": _share(kept, entered), "stages": rows}


def write_funnel(folder: Place, stages: Sequence[str]) -> dict[str, Any]:
    """Write `folder/funnel.json` from the manifests of `folder`; returns what it holds."""
    funnel = funnel_of(manifests(folder), stages)
    (folder / FUNNEL).write_json(funnel)
    return funnel


def read_funnel(folder: Place) -> dict[str, Any] | None:
    """The funnel of a clean folder: as written, or of the tasks finished so far; None if it has neither."""
    path = folder / FUNNEL
    if path.exists():
        funnel: dict[str, Any] = path.read_json()
        return funnel
    tasks = [task for task in manifests(folder) if task.counts]
    return funnel_of(tasks, [stage for task in tasks for stage in task.counts]) if tasks else None


def funnel_table(funnel: dict[str, Any], title: str = "") -> Table:
    """For people: a line a stage, its commonest reasons behind it."""
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    table.add_column("stage")
    for name in ("in", "kept", "share", "rejected"):
        table.add_column(name, justify="right")
    table.add_column("commonest reasons", overflow="fold")
    for row in funnel["stages"]:
        reasons = sorted(row["rejected"].items(), key=lambda item: (-item[1], item[0]))
        shown = ", ".join(f"{reason} {count:,}" for reason, count in reasons[:4])
        table.add_row(
            row["stage"],
            f"{row['in']:,}",
            f"{row['kept']:,}",
            f"{row['share']:.1%}",
            f"{sum(row['rejected'].values()):,}",
            shown + (f", {len(reasons) - 4} more" if len(reasons) > 4 else ""),
        )
    lost = funnel["in"] - funnel["kept"]
    table.add_section()
    table.add_row("all", f"{funnel['in']:,}", f"{funnel['kept']:,}", f"{funnel['share']:.1%}", f"{lost:,}", "")
    return table


def _zero() -> dict[str, Any]:
    return {"in": 0, "kept": 0, "changed": 0, "rejected": {}}


def _add(total: dict[str, Any], counts: dict[str, Any]) -> None:
    for key in ("in", "kept", "changed"):
        total[key] += counts.get(key, 0)
    for reason, count in counts.get("rejected", {}).items():
        total["rejected"][reason] = total["rejected"].get(reason, 0) + count


def _row(stage: str, total: dict[str, Any]) -> dict[str, Any]:
    return {
        "stage": stage,
        **{key: total[key] for key in ("in", "kept", "changed")},
        "share": _share(total["kept"], total["in"]),
        "rejected": dict(sorted(total["rejected"].items())),
    }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0
