"""Manifests: what a finished task read, with which code and settings, and what it wrote. And the stage's own stamp."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from llmdata.errors import ConfigError, InputError
from llmdata.storage.lock import PRIVATE
from llmdata.storage.place import Place


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a task wrote. `path` is relative to the stage's folder."""

    path: str
    sha256: str
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One finished task. `fingerprint` covers inputs, stage versions and settings: equal means nothing to do.

    `counts` is what the task adds to the funnel: stage → {"in": n, "kept": n, "rejected": {reason: n}, …}.
    `cost` (seconds, peak memory, CPU seconds of each stage) is information and never part of a comparison.
    """

    task: str
    fingerprint: str
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Place) -> None:
        """Write into the stage folder's manifests, as the last act of the task."""
        path_of(folder, self.task).write_json(asdict(self))


def find(folder: Place, task: str) -> Manifest | None:
    """The manifest of `task` in the stage folder `folder`, or None if it has not finished."""
    path = path_of(folder, task)
    return _read(path) if path.exists() else None


def finished(folder: Place, task: str, fingerprint: str) -> Manifest | None:
    """The manifest of `task` if it has `fingerprint` and its files are there, as large as they were; else None.

    A manifest that cannot be read is as good as none: the task runs anew.
    """
    try:
        found = find(folder, task)
    except InputError:
        return None
    if found is None or found.fingerprint != fingerprint:
        return None
    return found if all(is_whole(folder, output) for output in found.outputs) else None


def is_whole(folder: Place, output: Output) -> bool:
    """Whether a file is there with its size; its bytes are `llmdata inspect --verify`'s business."""
    return (folder / output.path).has_size(output.bytes)


def manifests(folder: Place) -> Iterator[Manifest]:
    """All manifests of a stage folder, by task name."""
    for path in (folder / PRIVATE / "tasks").children("*.json"):
        yield _read(path)


def forget(folder: Place, task: str) -> None:
    """Remove the manifest of `task`, so that it runs anew."""
    path_of(folder, task).remove()


def path_of(folder: Place, task: str) -> Place:
    """Where the manifest of `task` lies."""
    return folder / PRIVATE / "tasks" / f"{task}.json"


def _read(path: Place) -> Manifest:
    try:
        fields = json.loads(path.read_bytes())
        fields["outputs"] = [Output(**output) for output in fields["outputs"]]
        return Manifest(**fields)
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{path}: damaged; remove it, and the same command runs its task again") from None


def digest(value: Any) -> str:
    """SHA-256 of `value` as canonical JSON: the fingerprint of settings and inputs."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of(place: Place, start: int = 0, end: int | None = None) -> str:
    """SHA-256 of a file, or of its bytes from `start` to `end`."""
    hasher = hashlib.sha256()
    with place.open() as stream:
        if start == 0 and end is None and place.fs is None:
            return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        stream.seek(start)
        left = (place.size() if end is None else end) - start
        while left > 0 and (chunk := stream.read(min(left, 1 << 20))):
            hasher.update(chunk)
            left -= len(chunk)
    return hasher.hexdigest()


def output_of(folder: Place, path: str, rows: int) -> Output:
    """Describe the finished file `folder/path` for a manifest."""
    place = folder / path
    return Output(path, sha256_of(place), place.size(), rows)


def save_stamp(folder: Place, stage: str, state: Mapping[str, Any]) -> None:
    """Write `.llmdata/stage.json`: the stage's name, settings and inputs, as the next run compares them."""
    (folder / PRIVATE / "stage.json").write_json({"stage": stage, **state})


def check_stage(folder: Place, stage: str) -> None:
    """Raise ConfigError if another stage writes into `folder`: `--rerun` would take its files for leftovers."""
    found = (stamp_of(folder) or {}).get("stage", stage)
    if found != stage:
        raise ConfigError(
            f"{folder}: holds what the stage {found} made, so {stage} needs another folder. So says "
            f"{folder / PRIVATE / 'stage.json'}; if it is damaged, remove it."
        )


def stamp_of(folder: Place) -> dict[str, Any] | None:
    """What `save_stamp` wrote, or None if no run has begun in `folder`; raises InputError if it cannot be read."""
    path = folder / PRIVATE / "stage.json"
    if not path.exists():
        return None
    try:
        state = path.read_json()
    except InputError:
        state = None
    if not isinstance(state, dict) or not isinstance(state.get("state", {}), dict):
        raise InputError(f"{path}: damaged. Remove {folder}, and the same command makes it anew.")
    return state


def is_over(folder: Place) -> bool:
    """Whether the stage in `folder` says that it is finished."""
    return bool((stamp_of(folder) or {}).get("finished"))
