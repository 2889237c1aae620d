"""Lists of millions of addresses as sorted 64-bit hashes in a file that all processes map into memory together.

A list is compiled once, when it is first used or downloaded, into the cache: 8 bytes an entry, whatever its length, on
disk and, while it is made, in memory (an entry that stands twice in the list does so in its hashes too). Two
of 2**64 hashes being equal by chance lets one page in 10**12 go wrongly at 5 million entries.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from llmdata.resources import cache_folder
from llmdata.urls import canonical, host

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

VERSION = 1
_SMALL = 1_000_000  # bytes: 100 ms and some MB, hardly worth a file
_BLOCK = 1_000_000
"""Bytes of a list looked at together: as Python's lines they take seven times as much."""
_ODD = (b"#", b"/", b":", b" ", b"\r", b"\t", b".\n")
"""What a plain list of hosts has nowhere: such a block takes no look at each line."""
_PLAIN_HOST = re.compile(rb"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", re.IGNORECASE)


def lookup(path: Path, kind: str) -> npt.NDArray[np.uint64]:
    """The sorted hashes of the entries of `path` ("domains": hosts, "urls": pages), mapped into memory where large."""
    import numpy as np

    made = compiled(path, kind)
    if made is None:
        return _hashes(path, kind)
    hashes: npt.NDArray[np.uint64] = np.load(made, mmap_mode="r")
    return hashes


def compiled(path: Path, kind: str) -> Path | None:
    """The compiled form of the list `path`, made if it is not there or of another version of the list.

    None if the list is small, or the cache cannot be written: then each process reads the list itself.
    """
    import numpy as np
    from xxhash import xxh3_64_hexdigest

    found = path.stat()
    if found.st_size < _SMALL:
        return None
    key = f"{VERSION} {kind} {path.resolve()} {found.st_size} {found.st_mtime_ns}"
    made = cache_folder("compiled") / f"{xxh3_64_hexdigest(key.encode('utf-8', 'surrogateescape'))}.npy"
    if not made.is_file():
        hashes = _hashes(path, kind)
        if not len(hashes):  # a file of comments: nothing to map
            return None
        try:
            made.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=made.parent, suffix=".partial")
            with os.fdopen(handle, "wb") as stream:
                np.save(stream, hashes)
            os.replace(name, made)
        except OSError:
            return None
    return made


def _hashes(path: Path, kind: str) -> npt.NDArray[np.uint64]:
    import numpy as np

    with path.open("rb") as stream:
        most = sum(block.count(b"\n") + block.count(b"\r") + 1 for block in _blocks(stream))
    hashes, filled = np.empty(most, np.uint64), 0
    for block in _hashed_blocks(path, kind):
        hashes[filled : filled + len(block)] = block
        filled += len(block)
    hashes = hashes[:filled]
    hashes.sort()
    return hashes


def has(hashes: npt.NDArray[np.uint64], entry: str) -> bool:
    """Whether `entry` is among the entries whose hashes these are."""
    if not len(hashes):
        return False
    value = _hash(entry)
    at = int(hashes.searchsorted(hashes.dtype.type(value)))
    return at < len(hashes) and int(hashes[at]) == value


def page(address: str) -> str:
    """A canonical address as blocklists spell it: without scheme, `www.` and the slash at the end."""
    return address.partition("://")[2].removeprefix("www.").rstrip("/").lower()


def entries(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a list that are neither blank nor comments."""
    for line in lines:
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield entry


def _hashed_blocks(path: Path, kind: str) -> Iterator[npt.NDArray[np.uint64]]:
    import numpy as np
    from xxhash import xxh3_64_intdigest

    one_by_one = _hashes_of_hosts if kind == "domains" else _hashes_of_pages
    with path.open("rb") as stream:
        for block in _blocks(stream):
            if kind == "domains" and block.isascii() and not any(odd in block for odd in _ODD):
                hosts = filter(None, block.lower().split(b"\n"))
                yield np.fromiter(map(xxh3_64_intdigest, hosts), np.uint64)
            else:
                yield np.fromiter(one_by_one(block.splitlines()), np.uint64)


def _hashes_of_hosts(lines: list[bytes]) -> Iterator[int]:
    from xxhash import xxh3_64_intdigest

    for line in lines:
        if _PLAIN_HOST.fullmatch(line):
            yield xxh3_64_intdigest(line.lower())
        else:
            yield from (_hash(_listed_host(entry)) for entry in entries([_decoded(line)]))


def _hashes_of_pages(lines: list[bytes]) -> Iterator[int]:
    return (_hash(_listed_page(entry)) for entry in entries(map(_decoded, lines)))


def _decoded(line: bytes) -> str:
    return line.decode("utf-8", "replace")  # published lists have a few broken bytes; none of them is an address


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    while block := stream.read(_BLOCK):
        yield block + stream.readline()


def _listed_host(entry: str) -> str:
    if entry.isascii() and "/" not in entry and ":" not in entry:
        return entry.lower().rstrip(".")
    return host(entry if "://" in entry else f"http://{entry}")


def _listed_page(entry: str) -> str:
    return page(canonical(entry if "://" in entry else f"http://{entry}"))


def _hash(entry: str) -> int:
    from xxhash import xxh3_64_intdigest

    return xxh3_64_intdigest(entry.encode("utf-8", "surrogatepass"))
