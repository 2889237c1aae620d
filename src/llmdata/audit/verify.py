"""Recount a run: every file against its manifest, every count against the rows on disk, nothing lost between stages."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from llmdata.audit.folders import Kind, Source, stages_of, warcs_of
from llmdata.audit.funnel import FUNNEL, funnel_of
from llmdata.audit.tables import parquet_rows, warc_records
from llmdata.engine.session import Session
from llmdata.errors import InputError
from llmdata.storage.lock import PRIVATE
from llmdata.storage.manifest import Manifest, Output, manifests, sha256_of, stamp_of
from llmdata.storage.place import Place
from llmdata.storage.token_index import INDEX, load_index, verify_shards
from llmdata.storage.token_shards import read_header

_DOCUMENTS = re.compile(r"final/|\d\d-[^/]*/")


@dataclass(slots=True)
class Report:
    """What was checked, and each thing that disagrees, the first one first."""

    files: int = 0
    bytes: int = 0
    tasks: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def expect(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)


def verify(source: Source, session: Session) -> Report:
    """Recount `source`, a run or one stage's folder; the report's `problems` is empty if all agrees.

    Reads every byte once. Raises InputError where there is nothing to check against.
    """
    report = Report()
    folders: Iterable[tuple[Kind, Place]]
    folders = stages_of(source.place) if source.kind in ("run", "experiment") else [(source.kind, source.place)]
    for kind, folder in folders:
        check = _CHECKS.get(kind)
        if check is None:
            raise InputError(f"{source.place}: --verify recounts a run or a stage's folder, this is {kind}")
        session.stop.check()
        name = f"verify {kind}"
        session.progress.start(name, None, "files")
        before = report.files
        try:
            check(folder, report, session)
        except InputError as error:
            report.problems.append(str(error))
        session.progress.advance(name, report.files - before)
        session.progress.finish(name, problems=len(report.problems))
    return report


def _check_clean(folder: Place, report: Report, session: Session) -> None:
    tasks = list(manifests(folder))
    stamp = stamp_of(folder) or {}
    finished = bool(stamp.get("finished"))
    if not finished:
        report.notes.append(f"{folder}: not finished; its {len(tasks)} finished tasks are checked")
    pruned = tuple(f"{name}/" for name in stamp.get("pruned", []))
    recounted: dict[str, int] = {}
    for task in tasks:
        session.stop.check()
        report.tasks += 1
        for output in task.outputs:
            if output.path.startswith(pruned) and not (folder / output.path).exists():
                continue  # `keep: final` removes the passes between
            if (rows := _check_output(folder, task, output, report)) is not None:
                recounted[output.path] = rows
    for shuffle in (folder / "dedup").children():
        _check_stage(shuffle, report, session)
    rejected = stamp.get("state", {}).get("writing", {}).get("rejected", "full") != "none"
    for task in tasks:
        if task.counts:
            _check_counts(folder, task, recounted, report, rejected_on_disk=rejected)
    if finished:
        _check_funnel(folder / FUNNEL, tasks, report)
        _check_strays(folder, tasks, report)


def _check_output(folder: Place, task: Manifest, output: Output, report: Report) -> int | None:
    """Compare a file with its manifest; returns its rows if it is Parquet."""
    place = folder / output.path
    if not place.exists():
        report.problems.append(f"{place}: missing; task {task.task} wrote it")
        return None
    report.files += 1
    size = place.size()
    report.bytes += size
    if size != output.bytes:
        report.problems.append(f"{place}: {size} bytes, its manifest says {output.bytes}")
        return None
    if (found := sha256_of(place)) != output.sha256:
        report.problems.append(f"{place}: sha256 {found[:16]}…, its manifest says {output.sha256[:16]}…")
        return None
    if not place.name.endswith(".parquet"):
        return None
    rows = parquet_rows(place)
    report.expect(rows == output.rows, f"{place}: {rows} rows, its manifest says {output.rows}")
    return rows


def _check_counts(
    folder: Place, task: Manifest, recounted: dict[str, int], report: Report, *, rejected_on_disk: bool
) -> None:
    """In = kept + rejected in each stage, what one keeps the next gets, and the files hold what the counts say."""
    name = f"{folder}: task {task.task}"
    stages = list(task.counts.items())
    for stage, counts in stages:
        lost = sum(counts["rejected"].values())
        report.expect(
            counts["in"] == counts["kept"] + lost,
            f"{name}: {stage}: {counts['in']} in, but {counts['kept']} kept and {lost} rejected",
        )
    for (stage, counts), (after, following) in itertools.pairwise(stages):
        report.expect(
            counts["kept"] == following["in"], f"{name}: {stage} kept {counts['kept']}, {after} got {following['in']}"
        )
    outputs = [output for output in task.outputs if output.path in recounted]
    documents = [output.path for output in outputs if _DOCUMENTS.match(output.path)]
    kept = stages[-1][1]["kept"]
    rows = sum(recounted[path] for path in documents)
    if documents:
        report.expect(kept == rows, f"{folder / documents[0]}: {rows} documents, the counts of {task.task} say {kept}")
    if rejected_on_disk:
        rejected = [output.path for output in outputs if output.path.startswith("rejected/")]
        expected = {
            (stage, reason): count for stage, counts in stages for reason, count in counts["rejected"].items() if count
        }
        found = _rejections([folder / path for path in rejected])
        where = folder / rejected[0] if rejected else folder / "rejected"
        for key in sorted(expected.keys() | found.keys()):
            report.expect(
                expected.get(key, 0) == found.get(key, 0),
                f"{where}: {found.get(key, 0)} documents rejected by {key[0]} ({key[1]}), "
                f"the counts of {task.task} say {expected.get(key, 0)}",
            )


def _rejections(files: list[Place]) -> dict[tuple[str, str], int]:
    """Rows by stage and reason, from the two columns alone."""
    import pyarrow.parquet as pq

    counts: dict[tuple[str, str], int] = {}
    for file in files:
        with file.open() as stream:
            table = pq.read_table(stream, columns=["stage", "reason"])
        for row in table.group_by(["stage", "reason"]).aggregate([([], "count_all")]).to_pylist():
            key = (row["stage"], row["reason"])
            counts[key] = counts.get(key, 0) + row["count_all"]
    return counts


def _check_funnel(path: Place, tasks: list[Manifest], report: Report) -> None:
    funnel = path.read_json()
    try:
        rows: list[dict[str, Any]] = funnel["stages"]
        made = funnel_of(tasks, [row["stage"] for row in rows])
        for before, after in itertools.pairwise(rows):
            report.expect(
                before["kept"] == after["in"],
                f"{path}: {before['stage']} kept {before['kept']}, {after['stage']} got {after['in']}",
            )
    except (KeyError, TypeError):
        report.problems.append(f"{path}: not a funnel")
        return
    report.expect(made == funnel, f"{path}: is not the sum of the {len(tasks)} tasks")


def _check_strays(folder: Place, tasks: list[Manifest], report: Report) -> None:
    """Parts that no finished task wrote would be read as data by whoever reads the folder."""
    named = {output.path for task in tasks for output in task.outputs}
    for place in folder.walk():
        path = place.path[len(folder.path) :].lstrip("/")
        if path.endswith(".parquet") and (path.startswith("rejected/") or _DOCUMENTS.match(path)):
            report.expect(path in named, f"{place}: no task says that it wrote this file")


def _check_tokens(folder: Place, report: Report, session: Session) -> None:
    if not (folder / INDEX).exists():
        report.notes.append(f"{folder}: not finished (no {INDEX})")
        return
    index = load_index(folder)
    for name, split in index.splits.items():
        total = 0
        for shard in split.shards:
            session.stop.check()
            place = folder / shard.path
            report.files, report.bytes = report.files + 1, report.bytes + shard.bytes
            total += shard.tokens
            if place.exists() and index.format == "llmc":  # the others have no header
                head = read_header(place)
                report.expect(
                    head.tokens == shard.tokens, f"{place}: {head.tokens} tokens, {INDEX} says {shard.tokens}"
                )
                report.expect(
                    head.dtype.name == index.dtype, f"{place}: tokens of {head.dtype.name}, {INDEX} says {index.dtype}"
                )
        report.expect(
            total == split.tokens, f"{folder / INDEX}: {name} has {total} tokens in shards, not {split.tokens}"
        )
    report.files += len(index.documents)
    report.problems += verify_shards(index, folder)
    rows = sum(parquet_rows(folder / entry.path) for entry in index.documents if (folder / entry.path).exists())
    documents = sum(split.documents for split in index.splits.values())
    report.expect(
        rows == documents or not index.documents,
        f"{folder}: documents-*.parquet have {rows} rows, {INDEX} says {documents}",
    )
    _check_stage(folder, report, session)


def _check_crawl(folder: Place, report: Report, session: Session) -> None:
    """Every record of every archive can be read and has the digest in its header; no capture is missing."""
    files = warcs_of(folder)
    captures = 0
    for file in files:
        session.stop.check()
        report.files += 1
        report.bytes += file.size()
        captures += _check_archive(file, report)
    summary = folder / "crawl.json"
    if not summary.exists():
        report.notes.append(f"{folder}: not finished (no {summary.name}); its {len(files)} archives are checked")
        return
    said = summary.read_json()
    report.expect(captures == said["pages"], f"{summary}: {said['pages']} pages, the archives hold {captures}")
    there = {file.name for file in files}
    for name in said["warcs"]:
        report.expect(name in there or f"{name}.open" in there, f"{folder / name}: missing; the crawl wrote it")


def _check_archive(file: Place, report: Report) -> int:
    """Check a WARC file; returns how many pages it holds; redirects and errors are none."""
    from fastwarc.warc import ArchiveIterator

    records = [(record["type"], record["status"]) for record in warc_records(file)]
    with file.open() as stream:
        # Digests are over the block as stored, so HTTP must not be parsed before.
        for number, record in enumerate(ArchiveIterator(stream, parse_http=False), 1):
            if record.headers.get("WARC-Block-Digest") and not record.verify_block_digest():
                identifier = record.headers.get("WARC-Record-ID")
                report.problems.append(
                    f"{file}: record {number} of {len(records)} ({identifier}) does not have the digest in its header"
                )
    return sum(kind in ("response", "revisit") and status == 200 for kind, status in records)


def _check_stage(folder: Place, report: Report, session: Session) -> None:
    for task in manifests(folder):
        session.stop.check()
        report.tasks += 1
        for output in task.outputs:
            if not output.path.startswith(f"{PRIVATE}/"):  # working files, removed when the stage is done
                _check_output(folder, task, output, report)


_CHECKS: dict[Kind, Callable[[Place, Report, Session], None]] = {
    "crawl": _check_crawl,
    "clean": _check_clean,
    "tokenizer": _check_stage,
    "tokens": _check_tokens,
    "model": _check_stage,
}
