"""Sorting tables that are larger than memory: DuckDB, with what does not fit in a folder on the local disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmdata.errors import LlmdataError, StoppedEarly
from llmdata.storage.place import Place

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 1 << 17
THREAD = 60_000_000
"""Memory of a sorting thread (bytes); with less than half of this DuckDB gives up."""


@dataclass(frozen=True, slots=True)
class Sorter:
    """How to sort: memory in bytes, threads, and a local folder for the rest."""

    memory: int
    threads: int
    folder: str

    def share(self, parts: int) -> Sorter:
        """With so much of the memory, for sorts that go on at the same time."""
        return Sorter(self.memory // parts, self.threads, self.folder)

    def sort(
        self, batches: Iterable[pa.RecordBatch], schema: pa.Schema, order: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """The rows of `batches` in the order of the columns `order` (a `-` before the name: falling).

        `order` must be total, so that the result is the same for any number of threads. The memory bound holds for
        DuckDB's buffers: batches on their way in and out come on top.
        """
        import duckdb
        import pyarrow as pa

        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{self.memory // 1000}KB",
            "threads": max(1, min(self.threads, self.memory // THREAD)),
            "temp_directory": self.folder,
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        keys = ", ".join(f'"{name[1:]}" DESC' if name.startswith("-") else f'"{name}"' for name in order)
        source = _Source(batches)
        with source.errors(), duckdb.connect(":memory:", config=settings) as connection:
            connection.register("rows", pa.RecordBatchReader.from_batches(schema, source))
            yield from connection.sql(f"SELECT * FROM rows ORDER BY {keys}").to_arrow_reader(BATCH_ROWS)


@contextmanager
def sorter(folder: Place, memory: int, threads: int) -> Iterator[Sorter]:
    """A sorter that spills below `folder`; where that is not on the local disk, into the system's temporary folder."""
    parent = None if folder.fs is not None else folder.mkdir().path
    with tempfile.TemporaryDirectory(prefix=".spill-", dir=parent, ignore_cleanup_errors=True) as spill:
        yield Sorter(memory, threads, spill)


class _Source:
    """Batches on their way into DuckDB, which would turn an error of theirs into one of its own."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._batches = batches
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._batches
        except Exception as error:
            self._error = error
            raise

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Give errors their true name, and say what to do."""
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            if self._error is not None:
                raise self._error from None
            # DuckDB calls it memory too when the disk for spilled runs is full.
            if isinstance(error, duckdb.OutOfMemoryException) or "No space left" in str(error):
                raise StoppedEarly(
                    f"Sorting ran out of memory, or of disk for what does not fit: {str(error).splitlines()[0]} Give "
                    "more memory (clean.STAGE.memory, --memory) or make room, and run the same command again: finished "
                    "steps are kept."
                ) from None
            raise LlmdataError(f"sorting keys: {error}") from None
