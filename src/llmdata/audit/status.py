"""How far a run is: each stage with its tasks, documents, time and speed, and who holds it. Works while it runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from llmdata.audit.folders import STAGES, Kind, Source, stages_of
from llmdata.audit.funnel import funnel_of, read_funnel
from llmdata.audit.training import last_metrics
from llmdata.errors import InputError
from llmdata.storage.lock import PRIVATE, holder
from llmdata.storage.manifest import Manifest, manifests, stamp_of
from llmdata.storage.place import Place
from llmdata.storage.token_index import INDEX, load_index

if TYPE_CHECKING:
    from rich.table import Table

State = Literal["to do", "running", "stopped", "failed", "done"]


@dataclass(slots=True)
class StageStatus:
    """One stage. `seconds` is the work of all its workers together; counts are None where a stage has none."""

    stage: str
    folder: str
    state: State
    held_by: str | None = None
    tasks: int | None = None
    done: int = 0
    running: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    documents: int | None = None
    kept: int | None = None
    rejected: int | None = None
    seconds: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def per_second(self) -> float | None:
        """Documents read a second of work."""
        return self.documents / self.seconds if self.documents and self.seconds else None


def status(source: Source) -> list[StageStatus]:
    """The stages of a run that its recipe names or that lie there; of an experiment; or the one that `source` is."""
    if source.kind == "run":
        wanted = _stages_wanted(source.place)
        return [
            stage_status(kind, source.place / kind)
            for kind in STAGES
            if kind in wanted or (source.place / kind).is_dir()
        ]
    if source.kind == "experiment":
        prefix = f"{source.place.path.rstrip('/')}/"
        found = [stage_status(kind, folder) for kind, folder in stages_of(source.place)]
        return [replace(stage, stage=Place.of(stage.folder).path.removeprefix(prefix)) for stage in found]
    if source.kind not in STAGES:
        raise InputError(f"{source.place}: status is of a run or a stage's folder, this is {source.kind}")
    return [stage_status(source.kind, source.place)]


def stage_status(kind: Kind, folder: Place) -> StageStatus:
    """How far the stage in `folder` is."""
    who = holder(folder)
    stamp = stamp_of(folder) or {}
    running = _read_state(folder)
    tasks = list(manifests(folder))
    report = StageStatus(kind, str(folder), "to do", held_by=str(who) if who else None, done=len(tasks))
    crawl = _read_crawl(folder) if kind == "crawl" else {}
    # Training has one task, and leaves its manifest when it is done.
    finished = bool(stamp.get("finished") or crawl.get("finished") or (kind == "model" and tasks))
    if who:
        report.state = "running"
        report.running = list(running.get("running", []))
    elif finished:
        report.state = "done"
    elif running.get("failed"):
        report.state = "failed"
    elif stamp or running or tasks or crawl:
        report.state = "stopped"
    report.failed = {} if finished else dict(running.get("failed", {}))
    left = 0 if finished else max(0, int(running.get("tasks", 0)) - int(running.get("done", 0)))
    report.tasks = report.done + left if tasks or left else None
    report.seconds = sum(task.cost.get("seconds", 0.0) for task in tasks) or None
    _count(kind, folder, tasks, report)
    if crawl:
        report.documents, report.seconds, report.facts = crawl["pages"], crawl["seconds"], crawl["facts"]
    if who and running.get("stage"):
        report.facts = {"at": running["stage"], **report.facts}
    return report


def status_table(stages: Sequence[StageStatus]) -> Table:
    """For people: a line a stage."""
    from rich.table import Table
    from rich.text import Text

    colours = {"to do": "dim", "running": "cyan", "stopped": "yellow", "failed": "red", "done": "green"}
    table = Table()
    for name in ("stage", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("tasks", "in", "kept", "rejected", "time", "speed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("more", overflow="fold")
    for stage in stages:
        tasks = "" if stage.tasks is None else f"{stage.done:,} of {stage.tasks:,}"
        if stage.running:
            tasks += f", {len(stage.running)} running"
        if stage.failed:
            tasks += f", {len(stage.failed)} failed"
        more = [f"{key} {number(value)}" for key, value in stage.facts.items()]
        more += [f"held by {stage.held_by}"] if stage.held_by else []
        more += [f"{task}: {message}" for task, message in list(stage.failed.items())[:3]]
        table.add_row(
            stage.stage,
            Text(stage.state, style=colours[stage.state]),
            tasks,
            *("" if count is None else f"{count:,}" for count in (stage.documents, stage.kept, stage.rejected)),
            "" if stage.seconds is None else duration(stage.seconds),
            "" if stage.per_second is None else f"{stage.per_second:,.1f}/s",
            Text("\n".join(more)),
        )
    return table


def duration(seconds: float) -> str:
    """`3.2 s`, `4 min 10 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _stages_wanted(run: Place) -> set[str]:
    import yaml

    try:
        recipe = yaml.safe_load((run / "recipe.yaml").read_bytes())
    except yaml.YAMLError as error:
        raise InputError(f"{run / 'recipe.yaml'}: not valid YAML: {error}") from None
    sections = {"tokenize": "tokens", "train": "model"}
    named = [key for key, value in recipe.items() if value is not None] if isinstance(recipe, dict) else []
    return {sections.get(key, key) for key in named}


def _read_state(folder: Place) -> dict[str, Any]:
    try:
        value = (folder / PRIVATE / "state.json").read_json()
    except InputError:  # there is none, or it is damaged: it only says how far the stage was
        return {}
    return value if isinstance(value, dict) else {}


def _read_crawl(folder: Place) -> dict[str, Any]:
    """What a crawl's frontier knows, read beside the crawler; empty if there is none yet."""
    import sqlite3

    path = folder / "frontier.sqlite"
    if folder.fs is not None or not path.exists():
        return {}
    try:
        with closing(sqlite3.connect(f"{path.local().absolute().as_uri()}?mode=ro", uri=True)) as frontier:
            known = dict(frontier.execute("SELECT key, value FROM meta").fetchall())
            pages, size = frontier.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM capture").fetchone()
            queued, hosts = frontier.execute("SELECT coalesce(sum(queued), 0), count(*) FROM host").fetchone()
            reasons = dict(
                frontier.execute("SELECT reason, count(*) FROM url WHERE reason IS NOT NULL GROUP BY 1 ORDER BY 1")
            )
    except sqlite3.Error as error:
        raise InputError(f"{path}: cannot read the crawl's state: {error}") from None
    facts = {"MB": round(size / 1e6, 1), "queued": queued, "hosts": hosts}
    if reasons:
        facts["left out or failed"] = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
    seconds = json.loads(known.get("seconds", "null"))
    return {
        "finished": json.loads(known.get("finished", "null")) is not None,
        "pages": pages,
        "seconds": seconds,
        "facts": facts,
    }


def _count(kind: Kind, folder: Place, tasks: list[Manifest], report: StageStatus) -> None:
    match kind:
        case "clean":
            finished = read_funnel(folder) if report.state == "done" else None
            funnel = finished or funnel_of(tasks, [name for task in tasks for name in task.counts])
            if tasks:
                # In mid-chain the last pass that has begun says what is kept; rejected is sure either way.
                report.documents, report.kept = funnel["in"], funnel["kept"]
                report.rejected = sum(sum(row["rejected"].values()) for row in funnel["stages"])
        case "tokens":
            if (folder / INDEX).exists():
                splits = load_index(folder).splits
                report.documents = sum(split.documents for split in splits.values())
                report.facts = {f"{name} tokens": split.tokens for name, split in splits.items()}
        case "model":
            last = last_metrics(folder)
            wanted = ("step", "loss", "val_loss", "tokens", "tokens_per_second")
            report.facts = {key.replace("_", " "): last[key] for key in wanted if key in last}
        case _:
            pass


def number(value: Any) -> str:
    """`value` for people: thousands apart, four digits of a fraction."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
