"""S3 behind fsspec: requests that are repeated, reads that are whole, uploads that appear in one piece.

botocore repeats a request (5xx, SlowDown, timeouts, lost connections) with exponential backoff and jitter. What it
cannot repeat is a body that breaks off while it is read: that is done here. s3fs' own retries are off, since they
would multiply with botocore's.
"""

from __future__ import annotations

import errno
import functools
import io
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeVar

from llmdata.errors import InputError, LlmdataError, StoppedEarly

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

log = logging.getLogger(__name__)
T = TypeVar("T")

S3 = ("s3", "s3a")
REQUEST_ATTEMPTS = 6
"""Tries of one request. botocore waits between them up to 1, 2, 4, 8, 16 s, half of that on average."""
BODY_ATTEMPTS = 5
"""Tries of a read whose body broke off."""
CONNECT_TIMEOUT, READ_TIMEOUT = 10, 60
WINDOW = 256 << 10, 16 << 20
"""Bytes that a reader asks for at least, and at most when it reads on and on."""


def options(protocol: str) -> dict[str, Any]:
    """How to open the file system of `protocol`.

    No listings are kept: a file that another worker wrote a moment ago is there. Credentials come from the environment
    or the profile, where botocore looks for them, and from nowhere else.
    """
    if protocol not in S3:
        return {}
    return {
        "use_listings_cache": False,
        "config_kwargs": {
            "retries": {"mode": "standard", "max_attempts": REQUEST_ATTEMPTS},
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": READ_TIMEOUT,
        },
    }


def is_s3(fs: AbstractFileSystem | None) -> bool:
    protocol = getattr(fs, "protocol", ())
    return bool({protocol} & set(S3) if isinstance(protocol, str) else set(protocol) & set(S3))


def configure(fs: AbstractFileSystem) -> None:
    """Leave repeating requests to botocore alone."""
    if is_s3(fs):
        fs.retries = 1


@contextmanager
def errors(address: object) -> Iterator[None]:
    """Turn what a store's client raises into errors that say which address, and what to do.

    FileNotFoundError, FileExistsError and the like pass: callers ask for those.
    """
    try:
        yield
    except LlmdataError:
        raise
    except PermissionError as error:
        raise InputError(
            f"{address}: access denied ({_said(error)}). Check the credentials and the bucket's policy."
        ) from None
    except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError):
        raise
    except Exception as error:
        name = type(error).__name__
        if name in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
            raise InputError(
                f"{address}: no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
            ) from None
        if not _is_remote(error):
            raise
        if getattr(error, "errno", None) in (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG):
            raise LlmdataError(f"{address}: the store refused: {_said(error)}") from None
        raise StoppedEarly(
            f"{address}: the store failed {REQUEST_ATTEMPTS} times: {_said(error)}. "
            "Run the same command again: finished tasks are kept."
        ) from None


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _is_remote(error: Exception) -> bool:
    """Whether the store or the way to it failed, and not our own code or disk."""
    if isinstance(error, OSError):
        return error.errno not in (errno.ENOSPC, errno.EDQUOT)
    return type(error).__module__.split(".")[0] in ("botocore", "aiobotocore", "aiohttp", "fsspec", "asyncio")


class _BrokenOff(Exception):
    """A body was shorter than its range."""


def _whole(call: Callable[[], T], address: object) -> T:
    """`call`, tried again while its body breaks off."""
    for attempt in range(BODY_ATTEMPTS):
        try:
            return call()
        except Exception as error:
            broken = isinstance(error, _BrokenOff) or type(error).__name__ in (
                "ClientPayloadError",
                "IncompleteRead",
                "IncompleteReadError",
                "ResponseStreamingError",
                "ReadTimeoutError",
                "FSTimeoutError",
            )
            if not broken:
                raise
            log.info("%s: the answer broke off (%s), try %d", address, error, attempt + 1)
            time.sleep(0.1 * 2**attempt)
    raise StoppedEarly(
        f"{address}: the answer broke off {BODY_ATTEMPTS} times. Run the same command again: finished tasks are kept."
    )


class ObjectReader(io.RawIOBase):
    """An object as a seekable stream of exact ranges; raises StoppedEarly if the store does not deliver.

    Each range is fetched by a request of its own and checked for its length. A reader that goes on and on asks for
    twice as much each time, up to 16 MiB; one that jumps about asks for what it wants.
    """

    def __init__(self, fs: AbstractFileSystem, path: str, info: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._fs, self._path, self.name = fs, path, str(fs.unstrip_protocol(path))
        info = info or _info(fs, path)
        if info["type"] == "directory":
            raise IsADirectoryError(errno.EISDIR, "is a folder", self.name)
        self.size = int(info["size"])
        self._at = self._start = 0
        self._held = b""
        self._window = WINDOW[0]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence])
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end."""
        left = max(0, self.size - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        pieces = []
        while wanted:
            piece = self._piece(wanted)
            pieces.append(piece)
            wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _piece(self, wanted: int) -> bytes:
        """Some of the next `wanted` bytes, at least one."""
        end = self._start + len(self._held)
        if not self._start <= self._at < end:
            reads_on = self._at == end and end > 0
            self._window = min(self._window * 2, WINDOW[1]) if reads_on else WINDOW[0]
            self._held = self._fetch(self._at, min(self.size, self._at + max(wanted, self._window)))
            self._start = self._at
        piece = self._held[self._at - self._start :][:wanted]
        self._at += len(piece)
        return piece

    def _fetch(self, start: int, end: int) -> bytes:
        def fetch() -> bytes:
            data: bytes = self._fs.cat_file(self._path, start=start, end=end)
            if len(data) != end - start:
                raise _BrokenOff(f"{len(data)} of {end - start} bytes")
            return data

        with errors(self.name):
            return _whole(fetch, self.name)


def _info(fs: AbstractFileSystem, path: str) -> dict[str, Any]:
    with errors(fs.unstrip_protocol(path)):
        info: dict[str, Any] = fs.info(path)
    return info


def open_object(fs: AbstractFileSystem, path: str, info: dict[str, Any] | None = None) -> IO[bytes]:
    """Open `path` for reading, `info` being what the store says of it. Other stores are read by their own streams."""
    if not is_s3(fs):
        stream: IO[bytes] = fs.open(path, "rb")
        return stream
    return io.BufferedReader(ObjectReader(fs, path, info), 64 << 10)  # type: ignore[return-value,unused-ignore]


def for_duckdb(fs: AbstractFileSystem) -> AbstractFileSystem:
    """`fs` as DuckDB may read it: through `open_object`, because s3fs' own stream takes half an answer for an error.

    DuckDB asks for size and date of a file at each of several openings a query: they are asked of the store once.
    """
    if not is_s3(fs):
        return fs
    from fsspec import AbstractFileSystem as Base

    class Reading(Base):  # type: ignore[misc,unused-ignore]
        protocol = "s3"
        cachable = False

        def open(self, path: str, mode: str = "rb", **_: Any) -> IO[bytes]:
            return open_object(fs, fs._strip_protocol(path), self.info(path))

        def glob(self, path: str, **_: Any) -> list[str]:
            return [path]  # what it is given are names of files, never patterns

        def modified(self, path: str) -> Any:
            return self.info(path)["LastModified"]

    reading = Reading()
    reading.info = functools.cache(lambda path: _info(fs, fs._strip_protocol(path)))
    return reading


def upload(fs: AbstractFileSystem, local: str, path: str) -> None:
    """Put the local file `local` to `path`: it is there whole, or as it was before.

    Small objects go up in one request. Of large ones nobody sees a part before the request that completes them; an
    upload that fails is given up, and if even that fails, `abort_uploads` of the next run does it.
    """
    address = fs.unstrip_protocol(path)
    with errors(address):
        try:
            fs.put_file(local, path)
        except FileNotFoundError as error:
            raise InputError(f"{address}: {_said(error)}") from None  # there is no such bucket
        there, here = fs.info(path)["size"], os.path.getsize(local)
    if there != here:
        raise StoppedEarly(f"{address}: has {there} bytes after an upload of {here}. Run the same command again.")


def abort_uploads(fs: AbstractFileSystem, folder: str) -> None:
    """Give up the uploads to objects directly in `folder` that nobody completed: they cost storage, unseen."""
    if not is_s3(fs):
        return
    bucket, prefix, _ = fs.split_path(folder.rstrip("/") + "/")
    with errors(fs.unstrip_protocol(folder)):
        found = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
        for entry in found.get("Uploads", []):
            if "/" not in entry["Key"][len(prefix) :]:
                fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=entry["Key"], UploadId=entry["UploadId"])
