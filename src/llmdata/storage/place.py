"""One way to name a place where bytes rest: a local path or any fsspec address, with atomic writes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from llmdata.errors import InputError, LlmdataError, StoppedEarly
from llmdata.resources import cache_folder
from llmdata.storage import objects

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_SECRET = re.compile(r"://[^/@]*:[^/@]*@|[?&](X-Amz-|AWSAccessKeyId=|Signature=|sig=|X-Goog-)", re.IGNORECASE)

PARTIAL = ".partial"
"""Suffix of a file that is still being written; leftovers of a killed run are removed by `remove_partials`."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder. `fs` is None for the local disk, where plain system calls are several times faster."""

    path: str
    fs: AbstractFileSystem | None = None

    @classmethod
    def of(cls, address: str | Path | Place) -> Place:
        """The place that `address` names: a path, `file://…`, or any fsspec address (`s3://…`, `hf://…`).

        Raises InputError if the address carries a password or a signature: addresses are written into recipes and
        manifests.
        """
        if isinstance(address, Place):
            return address
        text = os.fspath(address)
        if "://" not in text or text.startswith("file://"):
            return cls(text.removeprefix("file://"))
        from fsspec.core import url_to_fs

        protocol = text.split("://", 1)[0]
        if _SECRET.search(text):
            raise InputError(
                f"{protocol}://…: the address holds a password or signature, and addresses are recorded in recipes and "
                "manifests. Give credentials by the environment or a profile."
            )
        try:
            fs, path = url_to_fs(text, **objects.options(protocol))
            objects.configure(fs)
        except ImportError as error:
            raise InputError(f"{text}: reading {protocol}:// needs another package: {error}") from None
        except ValueError as error:
            raise InputError(f"{text}: {error}") from None
        return cls(path, fs)

    def __reduce__(self) -> Any:
        return Place.of, (str(self),)  # another process makes a connection of its own, set up as this one

    def __str__(self) -> str:
        return self.path if self.fs is None else str(self.fs.unstrip_protocol(self.path))

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.path.rstrip('/')}/{name}" if self.path != "/" else f"/{name}", self.fs)

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def parent(self) -> Place:
        return Place(os.path.dirname(self.path.rstrip("/")) or ".", self.fs)

    def local(self) -> Path:
        """As a local path; raises LlmdataError if it is not on the local disk."""
        if self.fs is not None:
            raise LlmdataError(f"{self}: this has to be on the local disk")
        return Path(self.path)

    def on_disk(self) -> Path:
        """This file on the local disk, for memory maps: itself, or a copy in the cache, fetched once a version."""
        if self.fs is None:
            return Path(self.path)
        name = hashlib.sha256(f"{self} {self.stamp()}".encode()).hexdigest()
        copy = Place(str(cache_folder("objects") / name))
        if not copy.exists():
            with copy.writer() as out, self.open() as stream:
                shutil.copyfileobj(stream, out, 8 << 20)
        return copy.local()

    def exists(self) -> bool:
        return os.path.exists(self.path) if self.fs is None else bool(self._ask("exists"))

    def is_dir(self) -> bool:
        return os.path.isdir(self.path) if self.fs is None else bool(self._ask("isdir"))

    def size(self) -> int:
        return os.path.getsize(self.path) if self.fs is None else int(self._ask("size"))

    def has_size(self, size: int) -> bool:
        """Whether this is a file of so many bytes; False if it is not there, or not any more."""
        try:
            return self.size() == size
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _ask(self, method: str, *args: Any, **options: Any) -> Any:
        with objects.errors(self):
            return getattr(self.fs, method)(self.path, *args, **options)

    def stamp(self) -> str:
        """Changes when the file gets other bytes: modification time locally, the ETag or the like remotely."""
        if self.fs is None:
            return str(os.stat(self.path).st_mtime_ns)
        info = self._ask("info")
        for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created"):
            if info.get(key):
                return str(info[key])
        return str(info.get("size"))

    def mkdir(self) -> Place:
        if self.fs is None:
            with disk_full_is_resumable(self.path):
                os.makedirs(self.path, exist_ok=True)
        elif not objects.is_s3(self.fs):  # which has no folders, and s3fs would make a bucket instead
            self._ask("makedirs", exist_ok=True)
        return self

    def children(self, pattern: str = "*") -> list[Place]:
        """Entries of this folder whose name fits the glob `pattern`, sorted by name; none if it does not exist."""
        from fnmatch import fnmatch

        if self.fs is None:
            try:
                names = os.listdir(self.path)
            except (FileNotFoundError, NotADirectoryError):
                names = []
        else:
            self.fs.invalidate_cache(self.path)
            listed = self._ask("ls", detail=False) if self.is_dir() else []
            names = [str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in listed]
        return [self / name for name in sorted(names) if fnmatch(name, pattern)]

    def walk(self) -> Iterator[Place]:
        """All files below, sorted by path, without hidden files and folders."""
        for child in self.children():
            if child.name.startswith("."):
                continue
            if child.is_dir():
                yield from child.walk()
            else:
                yield child

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open for reading bytes."""
        try:
            stream = open(self.path, "rb") if self.fs is None else objects.open_object(self.fs, self.path)  # noqa: SIM115
        except FileNotFoundError:
            raise InputError(f"{self}: there is no such file") from None
        except (IsADirectoryError, PermissionError) as error:
            raise InputError(f"{self}: {error.strerror or error}") from None
        with stream:
            yield stream

    def read_bytes(self) -> bytes:
        with self.open() as stream:
            data: bytes = stream.read()
        return data

    def read_json(self) -> Any:
        """The JSON value in this file; raises InputError if it is not JSON."""
        try:
            return json.loads(self.read_bytes())
        except ValueError as error:
            raise InputError(f"{self}: not valid JSON: {error}") from None

    @contextmanager
    def writer(self) -> Iterator[IO[bytes]]:
        """Write this file whole or not at all: it appears under its name only when the block ends without error.

        Locally a temporary file beside it is renamed after fsync, but for one with the bytes that the file has: then
        that stays as it is. Elsewhere the bytes go to a local
        temporary file first and then up in one piece, because an object store's own stream would commit
        what was written when an exception leaves its block.
        """
        if self.fs is None:
            with disk_full_is_resumable(self.path), _local_writer(self.path) as stream:
                yield stream
            return
        with tempfile.TemporaryDirectory() as folder:
            local = os.path.join(folder, "upload")
            with disk_full_is_resumable(local), open(local, "wb") as stream:
                yield stream
            objects.upload(self.fs, local, self.path)

    def write_bytes(self, data: bytes) -> None:
        with self.writer() as stream:
            stream.write(data)

    def write_json(self, value: Any) -> None:
        """`value` as indented JSON with a final newline; equal values make equal bytes."""
        self.write_bytes((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())

    def remove(self) -> None:
        """Remove this file or folder with all below it; nothing happens if it is not there, or not any more."""
        if self.fs is not None:
            if self.exists():
                self._ask("rm", recursive=True)
        elif os.path.isdir(self.path) and not os.path.islink(self.path):
            while os.path.isdir(self.path):
                with suppress(FileNotFoundError):  # another rank of a shared run removes it, too
                    shutil.rmtree(self.path)
        else:
            Path(self.path).unlink(missing_ok=True)


def remove_partials(folder: Place) -> None:
    """Remove what a killed run left half written in `folder` (not below it)."""
    if folder.fs is not None:
        objects.abort_uploads(folder.fs, folder.path)
        return
    for place in folder.children(f"*{PARTIAL}"):
        place.remove()


def _holds_the_same(path: str, new: str) -> bool:
    """Whether `path` is a file with the bytes of `new`. It stays then, and with it its stamp: who has read it need not
    read it again. Costs reading both, where they have one size (filecmp would remember answers by size and time)."""
    try:
        if os.path.islink(path) or os.path.getsize(path) != os.path.getsize(new):
            return False
        with open(path, "rb") as old, open(new, "rb") as stream:
            while chunk := stream.read(1 << 20):
                if chunk != old.read(1 << 20):
                    return False
        return True
    except OSError:  # not there, or gone meanwhile
        return False


def _partial(path: str) -> str:
    """A name beside `path` that no other process takes, on this machine or on another that shares the disk: they may
    have one process id (containers have 1), and without the random part one host name."""
    host = re.sub(r"[^\w-]", "_", os.uname().nodename)[:32]
    return f"{path}.{host}-{os.getpid()}-{os.urandom(4).hex()}{PARTIAL}"


@contextmanager
def _local_writer(path: str) -> Iterator[IO[bytes]]:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    partial = _partial(path)
    try:
        with open(partial, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if _holds_the_same(path, partial):
            os.unlink(partial)
        else:
            os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


@contextmanager
def disk_full_is_resumable(path: str) -> Iterator[None]:
    """Turn a full disk (or quota) while writing `path` into StoppedEarly, which says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        there = os.path.abspath(path)
        while not os.path.isdir(there):
            there = os.path.dirname(there)
        disk = os.statvfs(there)
        free = f"{disk.f_bavail * disk.f_frsize / 1e6:.0f} MB free"
        if disk.f_files and not disk.f_favail:
            free += ", but no inode for another file"
        raise StoppedEarly(
            f"{path}: the disk is full ({free}). Make room and run the same command again: finished tasks are kept."
        ) from None
