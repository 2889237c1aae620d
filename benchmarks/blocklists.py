"""What a long blocklist costs: CPU time and memory to compile it, time to map it and to look a host up.

    python benchmarks/blocklists.py [--entries 5000000] [--kind domains|odd|urls]

`odd` has an entry outside ASCII in every thousand, `urls` a path behind every third.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import string
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=5_000_000)
    parser.add_argument("--kind", choices=["domains", "odd", "urls"], default="domains")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LLMDATA_CACHE"] = f"{folder}/cache"
        path = Path(folder, "list")
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(_entries(args.entries, args.kind))
        measure(path, "urls" if args.kind == "urls" else "domains")


def _entries(count: int, kind: str) -> Iterator[str]:
    draw = random.Random(1)
    letters = string.ascii_lowercase + string.digits
    for number in range(count):
        name = "".join(draw.choices(letters, k=draw.randint(4, 16)))
        odd = "exämple" if kind == "odd" and number % 1000 == 0 else ""
        path = "/a/b" if kind == "urls" and number % 3 == 0 else ""
        yield f"{odd}{name}.{'com' if number % 2 else 'co.uk'}{path}\n"


def measure(path: Path, kind: str) -> None:
    import numpy as np  # noqa: F401  # not part of what is measured
    import xxhash  # noqa: F401

    from llmdata.clean import host_lists

    base, began = _peak(), time.process_time()
    hashes = host_lists.lookup(path, kind)
    print(f"{len(hashes):,} {kind} compiled in {time.process_time() - began:.2f} s of CPU time; peak {_peak()} MB,")
    began = time.perf_counter()
    hashes = host_lists.lookup(path, kind)
    print(f"of which {base} MB before; mapped in {1000 * (time.perf_counter() - began):.2f} ms")
    with path.open(encoding="utf-8") as stream:
        hosts = [next(stream).strip() for _ in range(5000)]
    began = time.perf_counter()
    for host in hosts:
        host_lists.has(hashes, host)
    print(f"a look-up takes {1e6 * (time.perf_counter() - began) / len(hosts):.1f} µs")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
