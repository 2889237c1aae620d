"""Peak memory of `llmdata clean` on an input and on ten times that input: what bounds it must not be the input's size.

    python benchmarks/clean_memory.py PAGES [--times 1 10] [--extractor resiliparse] [--set KEY=VALUE …]

PAGES is a folder of WARC files; for ten times the input each file lies there under ten names, as copies that share
their blocks. The recipe is `fineweb` with two workers; its MinHash stage drops the copies, so that the second pass
writes hardly more documents, but reads, compares and counts all. Memory is that of the command and its workers
together, ten times a second: proportional (PSS: pages that processes share count once) and resident (RSS: as often
as they are mapped). A second line tells whether it levels off: the peaks of PSS in each tenth of the time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

WORKERS = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command printed, its seconds and CPU seconds, and the peaks of PSS and RSS of its process tree in MB.

    `course` is each PSS that was seen, in MB: of the command alone, and of all.
    """

    printed: str
    seconds: float
    cpu: float
    pss: float
    rss: float
    course: list[tuple[float, float]]


def cost_of(command: list[str]) -> Cost:
    """Run `command`. CPU seconds are summed up here: the kernel's sum leaves out workers that hang on a server."""
    began, rss = time.perf_counter(), 0
    course: list[tuple[float, float]] = []
    cpu: dict[psutil.Process, float] = {}
    with (
        tempfile.TemporaryFile("w+") as printed,
        tempfile.TemporaryFile("w+") as told,
        subprocess.Popen(command, stdout=printed, stderr=told) as process,
    ):
        root = psutil.Process(process.pid)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                proportional, resident, alone = 0, 0, 0
                for member in [root, *root.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        held, times = member.memory_full_info(), member.cpu_times()
                        proportional, resident = proportional + held.pss, resident + held.rss
                        alone = held.pss if member is root else alone
                        cpu[member] = times.user + times.system
                course.append((alone / 1e6, proportional / 1e6))
                rss = max(rss, resident)
            time.sleep(0.1)
        if process.returncode:
            told.seek(0)
            sys.exit(f"{told.read()[-2000:]}{' '.join(command)}: exit code {process.returncode}")
        printed.seek(0)
        pss = max((together for _, together in course), default=0.0)
        return Cost(printed.read(), time.perf_counter() - began, sum(cpu.values()), pss, rss / 1e6, course)


def tenths(values: list[float]) -> str:
    """The highest of each tenth of `values`."""
    size = -(-len(values) // 10)
    return " ".join(f"{max(values[at : at + size]):,.0f}" for at in range(0, len(values), size))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pages", type=Path)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--extractor", default="resiliparse")
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    files = sorted(args.pages.glob("*.warc.gz"))
    if not files:
        parser.error(f"no *.warc.gz in {args.pages}")
    options = [f"clean.extract.extractor={args.extractor}", *args.set]
    for times in args.times:
        with tempfile.TemporaryDirectory() as work:
            for copy in range(times):
                for file in files:
                    Path(work, f"{copy:03}-{file.name}").symlink_to(file.resolve())
            command = [sys.executable, "-m", "llmdata", "clean", work, "--out", f"{work}/out", "--recipe", "fineweb"]
            command += ["--workers", str(WORKERS), "--json", *(part for one in options for part in ("--set", one))]
            load = os.getloadavg()[0]
            cost = cost_of(command)
            funnel = json.loads(cost.printed)["funnel"]
            print(
                f"{args.extractor}, {times} x: {funnel['in']:,} pages in, {funnel['stages'][-1]['kept']:,} kept,"
                f" {cost.seconds:.0f} s, peak PSS {cost.pss:,.0f} MB, RSS {cost.rss:,.0f} MB, load {load:.1f}",
                flush=True,
            )
            alone, together = map(list, zip(*cost.course, strict=True))
            print(f"  PSS by tenths of the time: {tenths(together)}; the command alone: {tenths(alone)}", flush=True)


if __name__ == "__main__":
    main()
