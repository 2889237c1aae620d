"""The archives of a crawl on disk, in step with what the frontier has committed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from llmdata.crawl.frontier import Frontier
from llmdata.errors import InputError
from llmdata.storage import manifest
from llmdata.storage.place import Place

OPEN = ".open"
"""Suffix of the archive that is being written; it loses it when it is whole."""


class Archives:
    """Appends to the open archive; `sync` before each commit of the frontier, which learns the length that counts.

    What a killed crawl wrote beyond its last commit is cut off when the crawl goes on.
    """

    def __init__(self, folder: Path, frontier: Frontier, size: int, opening: Callable[[str], bytes]) -> None:
        self._folder, self._frontier, self._size, self._opening = folder, frontier, size, opening
        self._stream: IO[bytes] | None = None
        self._recover()

    def _recover(self) -> None:
        known = set()
        for warc, name, length, closed in self._frontier.archives():
            path, known_name = self._folder / (name + OPEN), name + OPEN
            known.add(known_name)
            if closed:
                self._publish(name)
                continue
            there = path.stat().st_size if path.exists() else 0
            if there < length:
                raise InputError(
                    f"{path} holds {there:,} bytes of the {length:,} that were captured: it was changed or removed. "
                    "Start the crawl anew in another folder, or with --rerun."
                )
            os.truncate(path, length)
            self._warc, self._name, self._length = warc, name, length
            self._stream = path.open("ab")
        for path in self._folder.glob(f"*.warc.gz{OPEN}"):
            if path.name not in known:
                path.unlink()

    def append(self, *members: bytes) -> tuple[int, int]:
        """Write the gzip members of one page; returns the archive's number and the offset of the first."""
        if self._stream is not None and self._length >= self._size:
            self.close()
        if self._stream is None:
            self._name = f"crawl-{len(self._frontier.archives()):05d}.warc.gz"
            self._warc = self._frontier.open_archive(self._name)
            self._stream = (self._folder / (self._name + OPEN)).open("wb")
            self._length = self._stream.write(self._opening(self._name))
        offset = self._length
        for member in members:
            self._length += self._stream.write(member)
        return self._warc, offset

    def sync(self) -> None:
        """Bring all that was appended to disk, and its length to the frontier."""
        if self._stream is not None:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._frontier.set_archive(self._warc, self._length)

    def close(self) -> None:
        """Finish the open archive, if there is one: it is whole from here on."""
        if self._stream is None:
            return
        self.sync()
        self._stream.close()
        self._stream = None
        self._frontier.set_archive(self._warc, self._length, closed=True)
        self._frontier.commit()
        self._publish(self._name)

    def _publish(self, name: str) -> None:
        """Give a whole archive its final name and its manifest, unless it has them, or was taken elsewhere."""
        place, opened = Place.of(self._folder), self._folder / (name + OPEN)
        if opened.exists():
            opened.rename(self._folder / name)
        task = name.removesuffix(".warc.gz")
        if (self._folder / name).exists() and manifest.find(place, task) is None:
            outputs = [manifest.output_of(place, name, self._frontier.captures_in(name))]
            manifest.Manifest(task, fingerprint="", outputs=outputs).save(place)

    def abandon(self) -> None:
        """Close the file as it is; `sync` said last what of it counts."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            try:
                stream.close()
            except OSError:
                return  # the disk is full: what is in the buffer was never committed
