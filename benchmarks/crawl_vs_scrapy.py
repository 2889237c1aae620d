"""Crawling a static site into WARC beside Scrapy, in turns, in one run, from one nginx on this machine.

    python benchmarks/crawl_vs_scrapy.py --peers DIR --scrapy-python VENV/bin/python [--pages 3000] [--rounds 3]

DIR holds `gen_site.py` (makes the site) and `scrapy_crawl.py` (the peer's spider, prints one JSON line); the other
python is that of an environment with Scrapy and warcio; nginx has to be installed. Both obey robots.txt, wait for
nothing between requests, use 16 connections and write WARC; ours does all else that it does by default.
Seconds are those that each tool counts for the crawl itself, CPU is that of the whole process and its children.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from resource import struct_rusage
from typing import Any

NGINX = """
daemon off; user root; worker_processes 1; error_log stderr crit; pid {folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; keepalive_requests 100000; default_type text/html;
  types {{ text/html html; text/plain txt; text/css css; }}
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{port}; root {site}; }}
}}
"""


def main() -> None:
    """Run the turns and print one JSON object a turn, then the medians and ratios."""
    shared = Path(os.environ.get("LLMDATA_SHARED", Path(__file__).parents[2] / "shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=shared / "tools/peers")
    parser.add_argument("--scrapy-python", type=Path, default=None)
    parser.add_argument("--pages", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.scrapy_python is None or not given.peers.is_dir() or shutil.which("nginx") is None:
        print("skipped: needs nginx, --peers and --scrapy-python; see the head of this file")
        return
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        subprocess.run([sys.executable, given.peers / "gen_site.py", site, str(given.pages)], check=True)
        with serving(site, Path(folder)) as address:
            seed = f"{address}/s000/p00000.html"
            turns: dict[str, list[dict[str, float]]] = {"llmdata": [], "scrapy": []}
            for number in range(given.rounds):
                turns["llmdata"].append(ours(seed, Path(folder) / f"crawl{number}"))
                turns["scrapy"].append(scrapys(seed, Path(folder) / f"{number}.warc.gz", given))
                for name, done in turns.items():
                    print(json.dumps({"round": number, "tool": name, **done[-1]}), flush=True)
    summary: dict[str, Any] = {"load": os.getloadavg()}
    for key in ("pages_per_second", "cpu_ms_per_page"):
        middle = {name: statistics.median(turn[key] for turn in done) for name, done in turns.items()}
        each = [one[key] / other[key] for one, other in zip(turns["llmdata"], turns["scrapy"], strict=True)]
        summary[key] = {**middle, "ratio": round(statistics.median(each), 2)}
    print(json.dumps(summary))


@contextmanager
def serving(site: Path, folder: Path) -> Iterator[str]:
    """nginx over a folder on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, site=site, port=port))
    server = subprocess.Popen(["nginx", "-c", str(config), "-p", str(folder)])
    try:
        while server.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def timed(command: list[str]) -> tuple[dict[str, Any], struct_rusage]:
    """The last JSON line that a command prints, and what it and its children used."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed with exit code {process.returncode}")
    return json.loads(lines[-1]), usage


def ours(seed: str, out: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "llmdata", "crawl", seed, "--out", str(out), "--connections", "16", "--json"]
    result, usage = timed(command)
    return figures(result["pages"], result["seconds"], usage)


def scrapys(seed: str, warc: Path, given: argparse.Namespace) -> dict[str, float]:
    script = str(given.peers / "scrapy_crawl.py")
    result, usage = timed([str(given.scrapy_python), script, "--url", seed, "--warc", str(warc), "--conc", "16"])
    return figures(result["pages"], result["wall_s"], usage)


def figures(pages: int, seconds: float, usage: struct_rusage) -> dict[str, float]:
    return {
        "pages": pages,
        "seconds": round(seconds, 2),
        "pages_per_second": round(pages / seconds, 1),
        "cpu_ms_per_page": round(1000 * (usage.ru_utime + usage.ru_stime) / pages, 2),
    }


if __name__ == "__main__":
    main()
