"""Peak memory of `llmdata clean` on an input and on ten times that input: what bounds it must not be the input's size.

    python benchmarks/clean_memory.py PAGES [--times 1 10] [--extractor resiliparse] [--set KEY=VALUE …]

PAGES is a folder of WARC files; for ten times the input each file lies there under ten names, as copies that share
their blocks. The recipe is `fineweb` with two workers; its MinHash stage drops the copies, so that the second pass
writes hardly more documents, but reads, compares and counts all. Memory is that of the command and its workers
together, five times a second: proportional (PSS: pages that processes share count once) and resident (RSS: as often
as they are mapped).
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
from pathlib import Path

import psutil

WORKERS = 2


def measure(command: list[str]) -> tuple[str, float, float, float]:
    """Run `command`: what it printed, seconds, and the peaks of PSS and RSS of its process tree in MB."""
    began, pss, rss = time.perf_counter(), 0, 0
    with (
        tempfile.TemporaryFile("w+") as shown,
        tempfile.TemporaryFile("w+") as told,
        subprocess.Popen(command, stdout=shown, stderr=told) as process,
    ):
        root = psutil.Process(process.pid)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                proportional, resident = 0, 0
                for member in [root, *root.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        held = member.memory_full_info()
                        proportional, resident = proportional + held.pss, resident + held.rss
                pss, rss = max(pss, proportional), max(rss, resident)
            time.sleep(0.2)
        if process.returncode:
            told.seek(0)
            sys.exit(f"{told.read()[-2000:]}{' '.join(command)}: exit code {process.returncode}")
        shown.seek(0)
        text = shown.read()
    return text, time.perf_counter() - began, pss / 1e6, rss / 1e6


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
            text, seconds, pss, rss = measure(command)
            funnel = json.loads(text)["funnel"]
            print(
                f"{args.extractor}, {times} x: {funnel['in']:,} pages in, {funnel['stages'][-1]['kept']:,} kept,"
                f" {seconds:.0f} s, peak PSS {pss:,.0f} MB, RSS {rss:,.0f} MB, load {load:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
