"""What a path holds: a run, one stage's folder, or files of one kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from llmdata.errors import InputError
from llmdata.storage.lock import PRIVATE
from llmdata.storage.manifest import stamp_of
from llmdata.storage.place import Place
from llmdata.storage.token_index import INDEX, TokenIndex, load_index

Kind = Literal[
    "run", "experiment", "crawl", "clean", "tokenizer", "tokens", "model", "parquet", "jsonl", "warc", "shard"
]

STAGES: tuple[Kind, ...] = ("crawl", "clean", "tokenizer", "tokens", "model")
"""The folders of a run, in the order of the work."""

EXPERIMENTS = ("sweep", "ablate")
"""Commands that make several models in one folder, with what these are trained on."""

_SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "parquet": (".parquet",),
    "warc": tuple(f"{kind}{packed}" for kind in (".warc", ".wet", ".wat") for packed in ("", ".gz", ".lz4")),
    "shard": (".bin",),
    "jsonl": tuple(f"{kind}{packed}" for kind in (".jsonl", ".json", ".ndjson") for packed in ("", ".gz", ".zst")),
}


@dataclass(frozen=True, slots=True)
class Source:
    """A path with what it holds: `files` are its data, `rejected` the documents that a clean folder turned away."""

    place: Place
    kind: Kind
    files: list[Place] = field(default_factory=list)
    rejected: list[Place] = field(default_factory=list)


def look_at(address: str) -> Source:
    """Find out what `address` holds; raises InputError, saying what can be inspected, if it is nothing we know."""
    place = Place.of(address)
    if not place.exists():
        raise InputError(f"{place}: there is no such file or folder")
    if not place.is_dir():
        kind = _kind_of_file(place.name)
        if kind is None:
            raise InputError(
                f"{place}: not a kind of file that can be inspected; these are .parquet, .jsonl, .warc and .wet "
                "(plain or compressed) and .bin (tokens)"
            )
        return Source(place, kind, [place])
    kind = _kind_of_folder(place)
    if kind is None:
        return _files_of(place)
    if kind == "run" and (place / "clean").is_dir():
        clean = place / "clean"
        return Source(place, kind, documents_of(clean), (clean / "rejected").children("*.parquet"))
    if kind == "clean":
        return Source(place, kind, documents_of(place), (place / "rejected").children("*.parquet"))
    if kind == "crawl":
        return Source(place, kind, warcs_of(place))
    if kind == "tokens":
        return Source(place, kind, [place / entry.path for entry in load_index(place).documents])
    return Source(place, kind)


def documents_of(clean: Place) -> list[Place]:
    """The final documents of a clean folder; before its last pass has begun, those of the pass it has reached."""
    if final := parts_of(clean / "final"):
        return final
    reached = [parts for folder in clean.children("[0-9][0-9]-*") if (parts := parts_of(folder))]
    return reached[-1] if reached else []


def parts_of(folder: Place) -> list[Place]:
    """The parts of a pass, sorted by path: in `folder` itself, or below it in a folder a language."""
    return folder.children("part-*.parquet") + [
        part for language in folder.children("lang=*") for part in language.children("part-*.parquet")
    ]


def warcs_of(crawl: Place) -> list[Place]:
    """The archives of a crawl, oldest first."""
    return [place for place in crawl.walk() if _kind_of_file(place.name) == "warc"]


def stages_of(run: Place) -> Iterator[tuple[Kind, Place]]:
    """The stage folders that a run has, in the order of the work; those of an experiment, one level down too."""
    for name in STAGES:
        if (folder := run / name).is_dir():
            yield name, folder
    if _is_experiment(run):
        below = [folder for group in run.children() if group.name not in STAGES for folder in group.children()]
        for folder in below:
            kind = _kind_of_folder(folder) if folder.is_dir() else None
            if kind in STAGES:
                yield kind, folder


def _is_experiment(place: Place) -> bool:
    return (place / PRIVATE).is_dir() and (stamp_of(place) or {}).get("stage") in EXPERIMENTS


def find_stage(source: Source, stage: Kind) -> Place | None:
    """The folder of `stage`: `source` itself, or below the run that it is."""
    if source.kind == stage:
        return source.place
    if source.kind == "run" and (source.place / stage).is_dir():
        return source.place / stage
    return None


def tokens_index(source: Source) -> tuple[Place, TokenIndex] | None:
    """The tokens folder of a run or tokens folder, with its index; None if there is none (yet)."""
    folder = find_stage(source, "tokens")
    return (folder, load_index(folder)) if folder is not None and (folder / INDEX).exists() else None


def _kind_of_file(name: str) -> Kind | None:
    return next((kind for kind, suffixes in _SUFFIXES.items() if name.lower().endswith(suffixes)), None)


def _kind_of_folder(place: Place) -> Kind | None:
    names = {child.name for child in place.children()}
    if "recipe.yaml" in names and names & set(STAGES):
        return "run"
    if INDEX in names:
        return "tokens"
    if names & {"metrics.jsonl", "checkpoints", "export"}:
        return "model"
    if names & {"tokenizer_config.json", "vocab.tiktoken"}:
        return "tokenizer"
    if names & {"crawl.json", "frontier.sqlite"}:
        return "crawl"
    if names & {"final", "funnel.json"}:
        return "clean"
    if PRIVATE not in names:
        return None
    if _is_experiment(place):
        return "experiment"
    # A stage that has only just begun: its own stamp says what it will be.
    stage = str((stamp_of(place) or {}).get("stage", ""))
    stage = {"tokenize": "tokens", "train": "model", "dedup": "clean"}.get(stage, stage)
    return next((kind for kind in STAGES if kind == stage), None)


def _files_of(place: Place) -> Source:
    files = list(place.walk())
    kinds: dict[Kind, list[Place]] = {}
    for file in files:
        if kind := _kind_of_file(file.name):
            kinds.setdefault(kind, []).append(file)
    if not kinds:
        held = f"{len(files)} files, none of a known kind" if files else "nothing"
        raise InputError(f"{place}: holds {held}. Give a run, a stage's folder, or Parquet, JSON lines, WARC or tokens")
    for kind in ("parquet", "warc", "shard", "jsonl"):  # a folder of shards often has small JSON files beside them
        if kind in kinds:
            return Source(place, kind, kinds[kind])
    raise AssertionError(kinds)
