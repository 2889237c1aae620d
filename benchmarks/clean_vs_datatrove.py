"""The `fineweb` recipe beside datatrove's FineWeb pipeline: pages a second, memory, and the decisions one by one.

    python benchmarks/clean_vs_datatrove.py --pages WARC_DIR --peer-python PYTHON --peer-script datatrove_fineweb.py
        [--rounds 1] [--only speed|after|agreement] [--more PARQUET_DIR [--every 40]] [--work DIR]

PYTHON is that of an environment with datatrove in it, best one without torch, which spaCy imports where it is. All runs
have two workers. Speed counts from the start of the command to its end, imports included; memory is the sum of the
proportional set sizes (Pss) of the process tree. Both read the extracted texts as JSON lines in FILES files; `--more`
adds a run on these and every so many texts of another corpus, cut to PAGE characters.
"""

from __future__ import annotations

import argparse
import compileall
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

import llmdata

WORKERS = 2
_PR_SET_CHILD_SUBREAPER = 36
AFTER_EXTRACTION = "language,gopher_repetition,gopher_quality,c4,fineweb,minhash,pii"
FILES = 4
"""Of texts, each a task of both: as many as there are archives of pages."""
PAGE = 10_000
JUDGES = ("language", "gopher_repetition", "gopher_quality", "c4", "fineweb")


class Watch(threading.Thread):
    """Peak memory (MB) of a process and its children, looked at five times a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root, self.mb, self.over = psutil.Process(pid), 0.0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            try:
                tree = [self.root, *self.root.children(recursive=True)]
            except psutil.Error:
                return
            self.mb = max(self.mb, sum(map(_pss, tree)))


def _pss(process: psutil.Process) -> float:
    try:
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


def timed(command: list[str], **environment: str) -> dict[str, Any]:
    """Run `command`: seconds, peak memory, the load before, and the last JSON object that it printed."""
    load = os.getloadavg()[0]
    # Workers hang on a server, which nobody waits for: they come to us, and the kernel's sum of CPU time is of all.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **environment}
    ) as process:
        watch = Watch(process.pid)
        watch.start()
        shown = process.communicate()[0]
    seconds = time.perf_counter() - began
    watch.over.set()
    with suppress(ChildProcessError):
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return {"seconds": seconds, "cpu": cpu, "peak_mb": watch.mb, "load": load, "shown": shown}


def trafilatura_alone(archive: str) -> int:
    """Extract every page of one archive; returns the pages. Nothing else is done."""
    from llmdata.clean.decode import decode
    from llmdata.clean.extract import Extract, ExtractConfig
    from llmdata.document import Rejection
    from llmdata.storage.inputs import plan_pieces, read_piece

    extract = Extract(ExtractConfig())
    pages = 0
    for piece in plan_pieces([archive]):
        for item in read_piece(piece):
            if not isinstance(item, Rejection) and item.payload is not None:
                try:
                    extract._extractor(decode(item.payload.content, item.payload.charset), item.url, extract.config)
                except Exception as error:
                    print(error, file=sys.stderr)
                pages += 1
    return pages


def _check(python: str) -> None:
    """Without one of these the peer's child processes die one after the other, and its run hangs."""
    names = "datatrove, trafilatura, spacy, fasttext, lxml_html_clean"
    imported = subprocess.run([python, "-c", f"import {names}"], stderr=subprocess.PIPE, text=True, check=False)
    if imported.returncode:
        raise SystemExit(f"{python} cannot import {names}: {imported.stderr.strip().splitlines()[-1]}")


def _alone(pages: Path) -> None:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS) as pool:
        print(sum(pool.map(trafilatura_alone, map(str, sorted(pages.glob("*.warc.gz"))))))


def show(row: dict[str, Any]) -> None:
    row["cpu_rate"] = row["documents"] / row["cpu"]
    print(
        f"{row['run']:32} {row['rate']:7.1f} a second {row['cpu_rate']:7.1f} a CPU second"
        f" {row.get('peak_mb', 0):6.0f} MB  load {row.get('load', 0):.1f}",
        flush=True,
    )


def speed(args: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    """One round of all runs, one after the other."""
    llmdata = [sys.executable, "-m", "llmdata", "clean"]
    common = ["--workers", str(WORKERS), "--json"]
    pages = [str(args.pages), "--layout", "warc"]
    rows = []

    def add(name: str, command: list[str], count: Any) -> None:
        found = timed(command)
        documents = count(found.pop("shown"))
        rows.append({"run": name, "documents": documents, "rate": documents / found["seconds"], **found})
        show(rows[-1])

    def funnel_in(shown: str) -> int:
        return int(json.loads(shown.splitlines()[-1])["funnel"]["in"])

    def out(name: str) -> str:
        shutil.rmtree(work / name, ignore_errors=True)
        return str(work / name)

    add("trafilatura alone", [sys.executable, __file__, "--alone", "--pages", str(args.pages)], int)
    add("llmdata fineweb", [*llmdata, *pages, "--out", out("trafilatura"), *common], funnel_in)
    fast = ["--set", "clean.extract.extractor=resiliparse"]
    add("llmdata fineweb, resiliparse", [*llmdata, *pages, "--out", out("fast"), *common, *fast], funnel_in)
    if args.peer_python:
        peer = [args.peer_python, str(args.peer_script), "--warc", str(args.pages), "--out", out("peer")]
        count = rows[0]["documents"]
        add("datatrove", [*peer, "--workers", str(WORKERS)], lambda shown: count)
        report = json.loads((work / "peer" / "report.json").read_text())
        rows.append({"run": "datatrove after, its own report", **_after_extraction(report)})
        show(rows[-1])
    return rows


def after(args: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    """One round of both from extracted texts on, each a command measured from outside, on the same files."""
    llmdata = [sys.executable, "-m", "llmdata", "clean"]
    if not (work / "texts" / "final").exists():
        extract = [*llmdata, str(args.pages), "--layout", "warc", "--out", str(work / "texts"), "--stages", "extract"]
        subprocess.run(extract, check=True, capture_output=True)
    inputs = {"": list(_texts(work / "texts" / "final", 1))}
    if args.more:
        more = (text[:PAGE] for text in _texts(args.more, args.every) if len(text) >= 200)
        inputs[", more"] = list(dict.fromkeys([*inputs[""], *more]))
    rows = []
    for name, texts in inputs.items():
        for folder in ("jsonl", "after", "peer-after"):
            shutil.rmtree(work / folder, ignore_errors=True)
        (work / "jsonl").mkdir()
        for number in range(FILES):
            lines = [json.dumps({"id": str(at), "text": texts[at]}) for at in range(number, len(texts), FILES)]
            (work / "jsonl" / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
        command = [*llmdata, str(work / "jsonl"), "--out", str(work / "after"), "--stages", AFTER_EXTRACTION]
        runs = {"llmdata after extraction": [*command, "--workers", str(WORKERS), "--json"]}
        if args.peer_python:
            script = str(Path(__file__).with_name("datatrove_after_extraction.py"))
            peer = [args.peer_python, script, str(work / "jsonl"), str(work / "peer-after"), str(args.peer_script)]
            runs["datatrove after extraction"] = [*peer, str(WORKERS)]
        for run, command in runs.items():
            found = timed(command)
            result = json.loads(found.pop("shown").splitlines()[-1])
            kept = result.get("funnel", result)["kept"]
            row = {"run": run + name, "documents": len(texts), "rate": len(texts) / found["seconds"], **found}
            rows.append(row)
            show(row)
            print(f"    {kept:,} of {len(texts):,} texts kept, {sum(map(len, texts)):,} characters", flush=True)
    return rows


def _texts(folder: Path, every: int) -> Iterator[str]:
    import pyarrow.parquet as pq

    for path in sorted(folder.glob("*.parquet")):
        yield from pq.read_table(path, columns=["text"])["text"][::every].to_pylist()


def _after_extraction(report: dict[str, Any]) -> dict[str, Any]:
    """From the peer's own report: texts that extraction let through, and the seconds of all steps behind it."""
    steps = report["stages"]["base"]["steps"]
    at = next(number for number, name in enumerate(steps) if "rafilatura" in name)
    documents = list(steps.values())[at]["forwarded"]
    seconds = sum(step["seconds"] or 0 for step in list(steps.values())[at + 1 :]) / WORKERS
    seconds += sum(stage["wall_seconds"] for name, stage in report["stages"].items() if name != "base")
    # Its steps take CPU time all the while: seconds of two workers are CPU seconds on an idle machine.
    return {"documents": documents, "seconds": seconds, "rate": documents / seconds, "cpu": seconds * WORKERS}


def agreement(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Each filter of both on the same texts: how often they agree, and where not."""
    from llmdata.document import Document, Rejection
    from llmdata.pipeline.chain import make_filter
    from llmdata.pipeline.recipe import load_recipe
    from llmdata.storage.parquet import read_documents
    from llmdata.storage.place import Place

    if not (work / "texts" / "final").exists():
        command = [
            sys.executable,
            "-m",
            "llmdata",
            "clean",
            str(args.pages),
            "--layout",
            "warc",
            "--out",
            str(work / "texts"),
        ]
        subprocess.run([*command, "--stages", "extract"], check=True, capture_output=True)
    docs = [doc for path in sorted((work / "texts" / "final").glob("*")) for doc in read_documents(Place.of(path))]
    (work / "texts.jsonl").write_text("".join(json.dumps({"text": doc.text}) + "\n" for doc in docs))
    cache = work / "peer" / "cache"
    if not cache.exists():
        raise SystemExit("run --only speed first: the peer's script sets its model up")
    script = Path(__file__).with_name("datatrove_decisions.py")
    command = [args.peer_python, str(script), str(work / "texts.jsonl"), str(work / "decisions.jsonl"), str(cache)]
    subprocess.run(command, check=True, capture_output=True)
    theirs = [json.loads(line) for line in (work / "decisions.jsonl").read_text().splitlines()]
    config = load_recipe("fineweb").clean
    assert config is not None
    result = {}
    for name in (*JUDGES, "pii"):
        judge = make_filter(name, config)
        apart: list[list[object]] = []
        for doc, peer in zip(docs, theirs, strict=True):
            outcome = judge(Document(text=doc.text))
            if name == "pii":
                assert not isinstance(outcome, Rejection)
                if outcome.text != peer["pii_text"]:
                    apart.append([doc.url, "text", ""])
                continue
            ours = f"{outcome.reason} {outcome.detail}" if isinstance(outcome, Rejection) else True
            if (ours is True) != (peer[name] is True):
                apart.append([doc.url, ours, peer[name]])
            elif name == "c4" and not isinstance(outcome, Rejection) and outcome.text != peer["c4_text"]:
                apart.append([doc.url, "text", "text"])
        share = 1 - len(apart) / len(docs)
        result[name] = {"agree": share, "apart": apart}
        print(f"{name:20} {share:8.3%} of {len(docs)}")
        for row in apart:
            print("   ", *row)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=Path, required=True)
    parser.add_argument("--peer-python")
    parser.add_argument("--peer-script", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=["speed", "after", "agreement"])
    parser.add_argument("--more", type=Path, help="folder of Parquet with a column `text`")
    parser.add_argument("--every", type=int, default=40)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        _alone(args.pages)
        return
    if args.peer_python:
        _check(args.peer_python)
    # pip compiles what it installs, so the peer is; an editable installation is not, if Python is to write no bytecode.
    compileall.compile_dir(str(Path(llmdata.__file__).parent), quiet=1)
    work = args.work or Path(tempfile.mkdtemp(prefix="clean-"))
    work.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {}
    parts = {args.only} if args.only else {"speed", "after", "agreement"}
    if "speed" in parts:
        record["speed"] = [speed(args, work) for _ in range(args.rounds)]
    if "after" in parts:
        record["after"] = [after(args, work) for _ in range(args.rounds)]
    if "agreement" in parts:
        record["agreement"] = agreement(args, work)
    rounds = record.get("speed", []) + record.get("after", [])
    if rounds:
        rates, cpu_rates = Counter[str](), Counter[str]()
        for row in (row for round_ in rounds for row in round_):
            rates[row["run"]] = max(rates[row["run"]], row["rate"])
            cpu_rates[row["run"]] = max(cpu_rates[row["run"]], row["cpu_rate"])
        for name, base in (
            ("llmdata fineweb", "trafilatura alone"),
            ("llmdata fineweb", "datatrove"),
            ("llmdata fineweb, resiliparse", "datatrove"),
            ("llmdata after extraction", "datatrove after, its own report"),
            ("llmdata after extraction", "datatrove after extraction"),
            ("llmdata after extraction, more", "datatrove after extraction, more"),
        ):
            if rates[base] and rates[name]:
                by_cpu = cpu_rates[name] / cpu_rates[base]
                print(f"{name} / {base}: {rates[name] / rates[base]:.2f}, by CPU time {by_cpu:.2f}")
    (work / "result.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
