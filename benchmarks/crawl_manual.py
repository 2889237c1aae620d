"""Crawling a real manual in many languages from nginx on this machine: captures, errors and time.

    python benchmarks/crawl_manual.py FOLDER [--start '*/index.html'] [--outsiders DIR]

FOLDER holds the pages, e.g. `usr/share/doc/debian-handbook/html` of Debian's debian-handbook, unpacked with `dpkg -x`;
each file that fits `--start` is a seed. Without FOLDER there is nothing to do. DIR, the `bin` folder of an environment
with warcio and pywb, has `warcio check` and `cdx-indexer` read the archives, and FastWARC, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from crawl_vs_scrapy import serving, timed


def main() -> None:
    """Crawl and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--start", default="*/index.html")
    parser.add_argument("--outsiders", type=Path)
    given = parser.parse_args()
    if given.folder is None:
        print("skipped: needs a folder of pages; see the head of this file")
        return
    starts = sorted(path.relative_to(given.folder) for path in given.folder.glob(given.start))
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name), Path(name) / "out"
        with serving(given.folder.resolve(), folder) as address:
            (folder / "seeds.txt").write_text("".join(f"{address}/{start}\n" for start in starts))
            command = [sys.executable, "-m", "llmdata", "crawl", "--seeds", str(folder / "seeds.txt"), "--json"]
            result, usage = timed([*command, "--out", str(out)])
        files = sum(1 for _ in given.folder.rglob("*.html"))
        kept = ("pages", "revisits", "errors", "left_out", "not_followed", "seconds")
        report = {
            "load": os.getloadavg(),
            "html_files": files,
            "seeds": len(starts),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        }
        print(json.dumps(report | {key: result[key] for key in kept}))
        if given.outsiders is not None:
            check(out, given.outsiders)


def check(out: Path, outsiders: Path) -> None:
    """What other people's tools say of the archives."""
    archives = sorted(map(str, out.glob("*.warc.gz")))
    checked = subprocess.run([outsiders / "warcio", "check", *archives], capture_output=True, text=True)
    index = subprocess.run([outsiders / "cdx-indexer", "-j", *archives], capture_output=True, text=True, check=True)
    theirs = [line for line in index.stdout.splitlines() if "{" in line]
    ours = (out / "index.cdxj").read_text().splitlines()
    places = [{place(line) for line in lines} for lines in (theirs, ours)]
    seen = sum(records_by_fastwarc(path) for path in archives)
    same = places[0] == places[1]
    print(json.dumps({"warcio_check": checked.returncode, "fastwarc": seen, "pywb": len(theirs), "same_index": same}))


def records_by_fastwarc(path: str) -> int:
    """Captures that FastWARC finds, with the digest of the whole record as it should be."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    wanted = WarcRecordType.response | WarcRecordType.revisit
    with open(path, "rb") as stream:
        return sum(record.verify_block_digest() for record in ArchiveIterator(stream, wanted, parse_http=False))


def place(line: str) -> tuple[str, str, str]:
    entry = json.loads(line[line.index("{") :])
    return entry["url"], entry["offset"], entry["length"]


if __name__ == "__main__":
    main()
