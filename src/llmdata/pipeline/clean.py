"""Driving a clean chain: plan its passes, run what is not done, resolve the shuffles between, count the funnel."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmdata.audit import contamination
from llmdata.audit.folders import parts_of
from llmdata.audit.funnel import FUNNEL, write_funnel
from llmdata.engine.pool import Limits, Needs, Task, run_tasks
from llmdata.engine.session import Session
from llmdata.engine.share import run_list
from llmdata.errors import ChangedError, ConfigError, InputError
from llmdata.pipeline import preload
from llmdata.pipeline.chain import READ, Pass, make_shuffle, passes, stage_state
from llmdata.pipeline.clean_config import CleanConfig
from llmdata.pipeline.task import PassTask, run_pass_task
from llmdata.storage import manifest
from llmdata.storage.inputs import Piece, plan_pieces, refuse_pages
from llmdata.storage.lock import PRIVATE
from llmdata.storage.manifest import Manifest
from llmdata.storage.place import Place, remove_partials


@dataclass(frozen=True, slots=True)
class CleanResult:
    """What a clean run did. `funnel` is the content of funnel.json; `fresh` is False if all had been done before."""

    funnel: dict[str, Any]
    tasks: int
    seconds: float
    fresh: bool


def run_clean(
    out: Place,
    config: CleanConfig,
    session: Session,
    *,
    rerun: bool = False,
    base: str = "",
    pieces: list[Piece] | None = None,
) -> CleanResult:
    """Run the chain of `config` over `config.input`, or over those `pieces` of it, into the folder `out`.

    What an earlier run finished is kept if it was made from the same inputs with the same settings. If not, `rerun`
    decides: raise ChangedError, or make the changed stages and all that follows anew. `base` is cut off the front of
    input paths where they are recorded.
    """
    began = time.monotonic()
    pieces = plan_input(config) if pieces is None else pieces
    state = _state(config, pieces, base)
    manifest.check_stage(out, "clean")
    before = manifest.stamp_of(out)
    if before and before.get("state") != state:
        changes = _changes(before.get("state", {}), state)
        if not rerun:
            raise ChangedError(
                f"{out}: {'; '.join(changes)}. Touched: {', '.join(_touched(before.get('state', {}), state))}. "
                "Give --rerun to do these anew, or choose another folder."
            )
        session.progress.note(f"clean: {'; '.join(changes)}: doing {', '.join(_touched(before['state'], state))} anew")
    chain = passes(config.stages, config.keep == "all")
    times = (before or {}).get("times", {})
    if session.share is None:  # who shares a run sees others' work in hand
        _remove_leftovers(out, chain)
    begun = before if before and before.get("state") == state else None
    if begun and begun.get("finished") and _is_whole(out, chain[-1], begun):
        _prune(out, begun["pruned"])
        return CleanResult(_funnel(out, config), begun["tasks"], time.monotonic() - began, fresh=False)
    if session.share is None or not begun or begun.get("finished"):  # finished, and damaged since
        (out / FUNNEL).remove()
        stamp = {"state": state, "finished": False, "passes": [step.folder for step in chain], "times": times}
        manifest.save_stamp(out, "clean", stamp)
    made: list[Manifest] = []
    with _journal_folder(out, shared=bool(session.share or session.cluster)) as journal:
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
    _remove_leftovers(out, chain)  # of workers that died on the way
    funnel = write_funnel(out, [READ, *config.stages])
    if contamination.STAGE in config.stages:
        contamination.write_contamination(out)
    else:
        (out / contamination.REPORT).remove()
    pruned = _to_prune(chain, config)
    final = [output for task in previous for output in task.outputs if output.path.startswith(f"{chain[-1].folder}/")]
    manifest.save_stamp(
        out,
        "clean",
        {
            "state": state,
            "finished": True,
            "tasks": len(made),
            "passes": [step.folder for step in chain],
            "pruned": pruned,
            "final": {output.path: output.bytes for output in final},
            "times": _keep_times(out, final, times),
        },
    )
    _prune(out, pruned)  # after the stamp: a run killed here need not make them anew
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
    pieces = plan_input(config)
    chain = passes(config.stages, config.keep == "all")
    stamp = manifest.stamp_of(out) or {}
    if stamp.get("finished") and stamp["state"] == _state(config, pieces, base) and _is_whole(out, chain[-1], stamp):
        # With `keep: final` the outputs of earlier passes are gone, and nothing is to do all the same.
        made = [len((out / PRIVATE / "tasks").children(f"pass-{step.number:02}-*.json")) for step in chain]
        return [PassPlan(step.folder, step.stages, tasks, tasks) for step, tasks in zip(chain, made, strict=True)]
    previous: list[Manifest] | None = []
    for step in chain:
        tasks = None
        if previous is not None:
            tasks = _plan_pass(step, out, config, "", pieces, previous, base)
            found = [found for task in tasks if (found := manifest.finished(out, task.id, task.fingerprint))]
            previous = found if len(found) == len(tasks) else None
            plans.append(PassPlan(step.folder, step.stages, len(tasks), len(found)))
        else:
            plans.append(PassPlan(step.folder, step.stages, None, 0))
        if step.shuffle and previous is not None and not (out / "dedup" / step.shuffle / "drops").exists():
            previous = None
    return plans


def plan_input(config: CleanConfig) -> list[Piece]:
    """The pieces of the input: the tasks of the first pass. Raises ConfigError if the chain is not for them."""
    if not config.input:
        raise ConfigError("there is no input: name files or folders, or set clean.input in the recipe")
    pieces = plan_pieces(
        config.input, layout=config.layout, text_column=config.text_column, task_bytes=config.task_bytes
    )
    if "extract" not in config.stages:
        refuse_pages(pieces, config.layout, "clean them with a chain that has the stage `extract`")
    elif early := [name for name in config.stages[: config.stages.index("extract")] if name != "url"]:
        refuse_pages(pieces, config.layout, f"put the stage `extract` before {', '.join(early)}")
    return pieces


def _state(config: CleanConfig, pieces: Sequence[Piece], base: str) -> dict[str, Any]:
    """All that decides the bytes of the result, as `stage.json` remembers it and the next run compares it."""
    inputs = {piece.path.removeprefix(base): [piece.size, piece.stamp] for piece in pieces}
    reading = config.model_dump(
        mode="json", include={"layout", "text_column", "limit", "task_bytes", "part_bytes", "limits"}
    )
    # Off, folders by language are no setting that runs of earlier versions lacked.
    folders = {"language_folders"} if config.language_folders else set()
    writing = config.model_dump(mode="json", include={"keep", "rejected"} | folders)
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
        was = before.get(part, {})
        for key in dict.fromkeys([*was, *now[part]]):
            old_value, value = was.get(key), now[part].get(key)
            if old_value != value:
                changes.append(f"clean.{key} was {old_value!r}, is {value!r}")
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
        for key in dict.fromkeys([*was["config"], *stage["config"]]):
            old_value, value = was["config"].get(key), stage["config"].get(key)
            if old_value != value:
                changes.append(f"clean.{stage['stage']}.{key} was {old_value!r}, is {value!r}")
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
        "by_language": step.last and config.language_folders,
    }
    limits = config.limits.model_dump(mode="json")
    settings = {"stages": stages, "folder": step.folder, "rejected": config.rejected, "limits": limits, "format": 1}
    if common["by_language"]:
        settings["by_language"] = True
    tasks = []
    if step.number == 1:
        spread = _spread(config.limit, len(pieces))
        for number, (piece, limit) in enumerate(zip(pieces, spread, strict=False)):
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


def _run_pass(
    step: Pass, tasks: Sequence[PassTask], out: Place, config: CleanConfig, session: Session, last_of: int
) -> list[Manifest]:
    stage = f"clean {step.number}/{last_of}"
    _forget_others(step, tasks, out)

    def work(todo: Sequence[PassTask], done: int) -> None:
        for task in todo:
            manifest.forget(out, task.id)
        if done:
            session.progress.note(f"{stage}: {done} of {len(tasks)} tasks were done before")
        limits = Limits(config.limits.cpu_seconds, config.limits.memory)
        run_tasks(
            [Task(task.id, task) for task in todo],
            run_pass_task,
            session,
            stage=stage,
            limits=limits,
            needs=Needs(memory=limits.memory),
            state=out,
            facts=_facts,
            preload=preload.clean(config.stages),
        )

    def finished(task: PassTask) -> Manifest | None:
        return manifest.finished(out, task.id, task.fingerprint)

    return run_list(tasks, finished, work, session, stage, over=lambda: manifest.is_over(out))


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
    by_language = any(task.by_language for task in tasks)
    for path in (*parts_of(out / step.folder), *(out / f"dedup/{step.shuffle}/keys").children("part-*.parquet")):
        misplaced = by_language != path.parent.name.startswith("lang=") and path.parent.name != "keys"
        if path.name not in parts or misplaced:
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
    keys = [f"dedup/{step.shuffle}/keys" for step in chain if step.shuffle]
    # Not PRIVATE: who shared the run may still write there how far it was, and the lock's next holder looks.
    for folder in (*folders, *keys, "rejected", f"{PRIVATE}/tasks"):
        remove_partials(out / folder)
    for place in (out / chain[-1].folder).children("lang=*"):
        remove_partials(place)
        if place.is_dir() and not place.children():
            place.remove()
    remove_partials(out)


def _to_prune(chain: Sequence[Pass], config: CleanConfig) -> list[str]:
    """With `keep: final`, the folders between, which may go."""
    if config.keep != "final":
        return []
    between = [step.folder for step in chain if not step.last]
    return between + [f"dedup/{step.shuffle}/keys" for step in chain if step.shuffle]


def _prune(out: Place, folders: Sequence[str]) -> None:
    for folder in folders:
        (out / folder).remove()


def _is_whole(out: Place, last: Pass, stamp: dict[str, Any]) -> bool:
    """Whether every manifest that a finished run left can be read, and each file that one names is there."""
    pruned = tuple(f"{name}/" for name in stamp.get("pruned", []))
    folders = [("", out), *((f"dedup/{place.name}/", place) for place in (out / "dedup").children())]
    try:
        found = [(at, folder, list(manifest.manifests(folder))) for at, folder in folders]
    except InputError:
        return False
    if len({task.task for task in found[0][2] if task.task.startswith("pass-")}) != stamp.get("tasks"):
        return False
    for at, folder, tasks in found:
        for output in (output for task in tasks for output in task.outputs):
            kept = not f"{at}{output.path}".startswith((*pruned, f"{at}{PRIVATE}/"))
            if kept and not manifest.is_whole(folder, output):
                return False
    there = {path.path[len(out.path) :].lstrip("/"): path.size() for path in parts_of(out / last.folder)}
    return there == stamp.get("final")


def _keep_times(out: Place, final: Sequence[manifest.Output], before: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """SHA-256 and time of each final part. One that was lost and made again with the same bytes gets back the time that
    it had: stages behind know their input by it. (On an object store that is the ETag, which goes by the bytes.)"""
    times: dict[str, list[Any]] = {}
    for output in final if out.fs is None else ():
        path = (out / output.path).path
        sha256, time_ns = before.get(output.path, ["", 0])
        if sha256 == output.sha256 and time_ns != os.stat(path).st_mtime_ns:
            os.utime(path, ns=(time_ns, time_ns))
        times[output.path] = [output.sha256, os.stat(path).st_mtime_ns]
    return times


def _funnel(out: Place, config: CleanConfig) -> dict[str, Any]:
    """The funnel of a finished run: as it was written, or made again if that is damaged."""
    try:
        funnel = (out / FUNNEL).read_json()
    except InputError:
        funnel = None
    return funnel if isinstance(funnel, dict) and "stages" in funnel else write_funnel(out, [READ, *config.stages])


@contextmanager
def _journal_folder(out: Place, shared: bool) -> Iterator[str]:
    """A local folder for the journals of tasks in hand; what an earlier, killed run left there is removed.

    With `shared`, others may still write into an earlier one: ranks, or machines that have not heard that their driver
    is dead.
    """
    if out.fs is None and not shared:
        folder = (out / PRIVATE / "journal").path
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder = tempfile.mkdtemp(prefix="llmdata-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
