"""Driving a clean chain: plan its passes, run what is not done, resolve the shuffles between, count the funnel."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmdata.audit.funnel import write_funnel
from llmdata.engine.pool import Limits, Task, run_tasks
from llmdata.engine.session import Session
from llmdata.errors import ChangedError, ConfigError
from llmdata.pipeline.chain import READ, Pass, make_shuffle, passes, stage_state
from llmdata.pipeline.recipe import CleanConfig
from llmdata.pipeline.task import PassTask, run_pass_task
from llmdata.storage import manifest
from llmdata.storage.inputs import Piece, plan_pieces
from llmdata.storage.lock import PRIVATE
from llmdata.storage.manifest import Manifest
from llmdata.storage.place import Place, remove_partials

PRELOAD = ("llmdata.pipeline.task", "pyarrow", "numpy", "xxhash", "fastwarc", "trafilatura")
"""Imported once and shared by the workers that are forked from there."""


@dataclass(frozen=True, slots=True)
class CleanResult:
    """What a clean run did. `funnel` is the content of funnel.json; `fresh` is False if all had been done before."""

    funnel: dict[str, Any]
    tasks: int
    seconds: float
    fresh: bool


def run_clean(out: Place, config: CleanConfig, session: Session, *, rerun: bool = False, base: str = "") -> CleanResult:
    """Run the chain of `config` over `config.input` into the folder `out`.

    What an earlier run finished is kept if it was made from the same inputs with the same settings. If not, `rerun`
    decides: raise ChangedError, or make the changed stages and all that follows anew. `base` is cut off the front of
    input paths where they are recorded.
    """
    began = time.monotonic()
    pieces = _plan_input(config)
    state = _state(config, pieces, base)
    before = manifest.stamp_of(out)
    if before and before.get("state") != state:
        changes = _changes(before.get("state", {}), state)
        if not rerun:
            raise ChangedError(
                f"{out}: {'; '.join(changes)}. Touched: {', '.join(_touched(before.get('state', {}), state))}. "
                "Give --rerun to do these anew, or choose another folder."
            )
        session.progress.note(f"clean: {'; '.join(changes)}: doing {', '.join(_touched(before['state'], state))} anew")
    elif before and before.get("finished"):
        return CleanResult((out / "funnel.json").read_json(), before["tasks"], time.monotonic() - began, fresh=False)
    chain = passes(config.stages, config.keep == "all")
    manifest.save_stamp(out, "clean", {"state": state, "finished": False, "passes": [step.folder for step in chain]})
    _remove_leftovers(out, chain)
    made: list[Manifest] = []
    with _journal_folder(out) as journal:
        previous: list[Manifest] = []
        for step in chain:
            tasks = _plan_pass(step, out, config, journal, pieces, previous, base)
            previous = _run_pass(step, tasks, out, config, session, last_of=len(chain))
            made += previous
            if step.shuffle:
                session.stop.check()
                shuffle = make_shuffle(step.shuffle, config)
                folder = out / "dedup" / step.shuffle
                shuffle.resolve(folder / "keys", folder, session)
    pruned = _prune(out, chain, config)
    funnel = write_funnel(out, _funnel_stages(config))
    manifest.save_stamp(
        out,
        "clean",
        {
            "state": state,
            "finished": True,
            "tasks": len(made),
            "passes": [step.folder for step in chain],
            "pruned": pruned,
        },
    )
    return CleanResult(funnel, len(made), time.monotonic() - began, fresh=True)


@dataclass(frozen=True, slots=True)
class PassPlan:
    """One pass for `--dry-run`. `tasks` is None where it depends on an earlier pass that has not run."""

    folder: str
    stages: tuple[str, ...]
    tasks: int | None
    done: int


def plan_clean(out: Place, config: CleanConfig, *, base: str = "") -> list[PassPlan]:
    """What `run_clean` would do, without doing it."""
    plans = []
    pieces = _plan_input(config)
    previous: list[Manifest] | None = []
    for step in passes(config.stages, config.keep == "all"):
        tasks = None
        if previous is not None:
            tasks = _plan_pass(step, out, config, "", pieces, previous, base)
            found = [found for task in tasks if (found := _finished(out, task))]
            previous = found if len(found) == len(tasks) else None
            plans.append(PassPlan(step.folder, step.stages, len(tasks), len(found)))
        else:
            plans.append(PassPlan(step.folder, step.stages, None, 0))
        if step.shuffle and previous is not None and not (out / "dedup" / step.shuffle / "drops").exists():
            previous = None
    return plans


def _plan_input(config: CleanConfig) -> list[Piece]:
    if not config.input:
        raise ConfigError("there is no input: name files or folders, or set clean.input in the recipe")
    return plan_pieces(config.input, layout=config.layout, text_column=config.text_column, task_bytes=config.task_bytes)


def _state(config: CleanConfig, pieces: Sequence[Piece], base: str) -> dict[str, Any]:
    """All that decides the bytes of the result, as `stage.json` remembers it and the next run compares it."""
    inputs = {piece.path.removeprefix(base): [piece.size, piece.stamp] for piece in pieces}
    reading = config.model_dump(mode="json", include={"layout", "text_column", "limit", "task_bytes", "part_bytes"})
    writing = config.model_dump(mode="json", include={"keep", "rejected"})
    stages = [stage_state(name, config) for name in config.stages]
    return {"inputs": inputs, "reading": reading, "writing": writing, "stages": stages}


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two states, in words."""
    changes = []
    old, new = before.get("inputs", {}), now["inputs"]
    for what, paths in (
        ("added", new.keys() - old.keys()),
        ("gone", old.keys() - new.keys()),
        ("changed", {path for path in old.keys() & new.keys() if old[path] != new[path]}),
    ):
        if paths:
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            changes.append(f"input {what} since the last run: {min(paths)}{more}")
    for part in ("reading", "writing"):
        for key, value in now[part].items():
            if before.get(part, {}).get(key) != value:
                changes.append(f"clean.{key} was {before.get(part, {}).get(key)!r}, is {value!r}")
    old_stages = {stage["stage"]: stage for stage in before.get("stages", [])}
    if list(old_stages) != [stage["stage"] for stage in now["stages"]]:
        changes.append(f"the chain was {', '.join(old_stages)}")
    for stage in now["stages"]:
        was = old_stages.get(stage["stage"])
        if was is None:
            continue
        if was["version"] != stage["version"]:
            changes.append(f"{stage['stage']} is a newer version")
        if was.get("files") != stage.get("files"):
            changes.append(f"a file that {stage['stage']} reads has changed")
        for key, value in stage["config"].items():
            if was["config"].get(key) != value:
                changes.append(f"clean.{stage['stage']}.{key} was {was['config'].get(key)!r}, is {value!r}")
    return changes


def _touched(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The stages that have to be done anew: the first that differs, and all after it."""
    names = [READ, *(stage["stage"] for stage in now["stages"])]
    if any(before.get(part) != now[part] for part in ("inputs", "reading", "writing")):
        return names
    old = before.get("stages", [])
    same = 0
    while same < min(len(old), len(now["stages"])) and old[same] == now["stages"][same]:
        same += 1
    return names[same + 1 :] or names[-1:]


def _plan_pass(
    step: Pass,
    out: Place,
    config: CleanConfig,
    journal: str,
    pieces: Sequence[Piece],
    previous: Sequence[Manifest],
    base: str,
) -> list[PassTask]:
    """The tasks of a pass. Their number and content depend on the input alone, never on workers."""
    stages = [stage_state(name, config) for name in (*step.stages, *([step.shuffle] if step.shuffle else []))]
    common: dict[str, Any] = {
        "out": str(out),
        "folder": step.folder,
        "journal": journal,
        "config": config.model_dump_json(),
        "filters": step.filters,
        "drop": step.drop,
        "shuffle": step.shuffle,
        "pass_number": step.number,
    }
    settings = {"stages": stages, "folder": step.folder, "rejected": config.rejected, "format": 1}
    tasks = []
    if step.number == 1:
        limits = _spread(config.limit, len(pieces))
        for number, (piece, limit) in enumerate(zip(pieces, limits, strict=False)):
            record = asdict(piece)
            seen = record | {"path": piece.path.removeprefix(base)}
            fingerprint = manifest.digest([settings, seen, limit])
            tasks.append(
                PassTask(_id(step, number), number, fingerprint, piece=record, limit=limit, base=base, **common)
            )
        return tasks
    for number, group in enumerate(_groups(previous, config.part_bytes)):
        parts = [(output.path, f"dedup/{step.drop}/drops/{Path(output.path).name}") for output in group]
        drops = [manifest.sha256_of(out / drop) for _, drop in parts] if step.drop and _exist(out, parts) else []
        fingerprint = manifest.digest([settings, [output.sha256 for output in group], drops])
        tasks.append(PassTask(_id(step, number), number, fingerprint, parts=parts, **common))
    return tasks


def _id(step: Pass, number: int) -> str:
    return f"pass-{step.number:02}-{number:05}"


def _exist(out: Place, parts: Sequence[tuple[str, str]]) -> bool:
    return all((out / drops).exists() for _, drops in parts)


def _spread(limit: int | None, pieces: int) -> list[int | None]:
    if limit is None:
        return [None] * pieces
    used = min(pieces, limit)
    return [limit // used + (number < limit % used) for number in range(used)]


def _groups(previous: Sequence[Manifest], part_bytes: int) -> Iterator[list[manifest.Output]]:
    """Neighbouring parts of the pass before, together about `part_bytes` large."""
    group: list[manifest.Output] = []
    for task in previous:
        documents = task.outputs[0]
        if group and sum(output.bytes for output in group) + documents.bytes > part_bytes:
            yield group
            group = []
        group.append(documents)
    if group:
        yield group


def _finished(out: Place, task: PassTask) -> Manifest | None:
    """The manifest of `task` if it was made by the same code from the same input, and its files are there."""
    found = manifest.find(out, task.id)
    if found is None or found.fingerprint != task.fingerprint:
        return None
    whole = all((out / output.path).exists() and (out / output.path).size() == output.bytes for output in found.outputs)
    return found if whole else None


def _run_pass(
    step: Pass, tasks: Sequence[PassTask], out: Place, config: CleanConfig, session: Session, last_of: int
) -> list[Manifest]:
    done = {task.id: found for task in tasks if (found := _finished(out, task))}
    todo = [task for task in tasks if task.id not in done]
    for task in todo:
        manifest.forget(out, task.id)
    _forget_others(step, tasks, out)
    if todo:
        stage = f"clean {step.number}/{last_of}"
        if done:
            session.progress.note(f"{stage}: {len(done)} of {len(tasks)} tasks were done before")
        limits = Limits(config.limits.cpu_seconds, config.limits.memory)
        run_tasks(
            [Task(task.id, task) for task in todo],
            run_pass_task,
            session,
            stage=stage,
            limits=limits,
            state=out,
            facts=_facts,
            preload=PRELOAD,
        )
    return [done.get(task.id) or _made(out, task) for task in tasks]


def _made(out: Place, task: PassTask) -> Manifest:
    found = manifest.find(out, task.id)
    assert found is not None, task.id
    return found


def _facts(result: dict[str, Any]) -> dict[str, int]:
    return {"kept": list(result["counts"].values())[-1]["kept"]}


def _forget_others(step: Pass, tasks: Sequence[PassTask], out: Place) -> None:
    """Remove parts and manifests of this pass that belong to no task of the plan: the input has become smaller."""
    names = {task.id for task in tasks}
    parts = {task.part for task in tasks}
    rejected = {Path(task.rejected).name for task in tasks}
    for path in (out / PRIVATE / "tasks").children(f"pass-{step.number:02}-*.json"):
        if path.name.removesuffix(".json") not in names:
            path.remove()
    for folder, wanted in ((step.folder, parts), (f"dedup/{step.shuffle}/keys", parts)):
        for path in (out / folder).children("part-*.parquet"):
            if path.name not in wanted:
                path.remove()
    for path in (out / "rejected").children(f"part-{step.number:02}-*.parquet"):
        if path.name not in rejected:
            path.remove()


def _remove_leftovers(out: Place, chain: Sequence[Pass]) -> None:
    """Remove what a killed run left half written, and the passes and shuffles that the chain no longer has."""
    folders = {step.folder for step in chain}
    for place in out.children():
        if place.name[:2].isdigit() and place.name[2:3] == "-" and place.name not in folders:
            place.remove()
    for place in (out / "dedup").children():
        if place.name not in {step.shuffle for step in chain}:
            place.remove()
    for path in (out / PRIVATE / "tasks").children("pass-*.json"):
        if int(path.name[5:7]) > len(chain):
            path.remove()
    for path in (out / "rejected").children("part-*.parquet"):
        if int(path.name[5:7]) > len(chain):
            path.remove()
    for folder in (*folders, "rejected", f"{PRIVATE}/tasks"):
        remove_partials(out / folder)


def _prune(out: Place, chain: Sequence[Pass], config: CleanConfig) -> list[str]:
    """With `keep: final`, remove the folders between; returns their names."""
    if config.keep != "final":
        return []
    pruned = [step.folder for step in chain if not step.last]
    pruned += [f"dedup/{step.shuffle}/keys" for step in chain if step.shuffle]
    for folder in pruned:
        (out / folder).remove()
    return pruned


def _funnel_stages(config: CleanConfig) -> list[str]:
    return [READ, *config.stages]


@contextmanager
def _journal_folder(out: Place) -> Iterator[str]:
    """A local folder for the journals of tasks in hand; what an earlier, killed run left there is removed."""
    if out.fs is None:
        folder = (out / PRIVATE / "journal").path
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder = tempfile.mkdtemp(prefix="llmdata-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
