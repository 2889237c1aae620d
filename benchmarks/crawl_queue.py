"""Memory of a crawl with a long queue: a site whose pages link to a million others, of which few are fetched.

    python benchmarks/crawl_queue.py [--urls 1000000]

Needs nginx. The largest resident size is that of any single process of the crawl.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from crawl_vs_scrapy import serving, timed

LINKS_A_PAGE = 5000


def main() -> None:
    """Crawl and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--urls", type=int, default=1_000_000)
    given = parser.parse_args()
    if shutil.which("nginx") is None:
        print("skipped: needs nginx")
        return
    with tempfile.TemporaryDirectory() as name:
        folder, site, out = Path(name), Path(name) / "site", Path(name) / "out"
        site.mkdir()
        hubs = given.urls // LINKS_A_PAGE
        (site / "index.html").write_text("".join(f'<a href="/hub{hub}.html">hub</a>' for hub in range(hubs)))
        for hub in range(hubs):
            links = (
                f'<a href="/{hub}/a-page-with-a-name-of-usual-length-{at}.html">x</a>' for at in range(LINKS_A_PAGE)
            )
            (site / f"hub{hub}.html").write_text("".join(links))
        with serving(site, folder) as address:
            limit = ["--max-pages", str(hubs + 1)]
            command = [sys.executable, "-m", "llmdata", "crawl", f"{address}/index.html", *limit, "--json"]
            result, usage = timed([*command, "--out", str(out)])
        print(
            json.dumps(
                {
                    "load": os.getloadavg(),
                    "queued": result["queued"],
                    "seconds": result["seconds"],
                    "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
                    "largest_resident_MB": usage.ru_maxrss // 1024,
                    "frontier_MB": (out / "frontier.sqlite").stat().st_size // 1_000_000,
                }
            )
        )


if __name__ == "__main__":
    main()
