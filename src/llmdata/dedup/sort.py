"""Sorting tables that are larger than memory: DuckDB, with what does not fit in a folder on the local disk."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llmdata.errors import LlmdataError, StoppedEarly
from llmdata.storage.place import Place

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

BATCH_ROWS = 1 << 17
THREAD = 60_000_000
"""Memory of a sorting thread (bytes); with less than half of this DuckDB gives up."""
SPILL = ".spill-"


class Sorter:
    """One memory bound for all sorts, also for those that go on at the same time."""

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._numbers = itertools.count()

    def sort(
        self, batches: Iterable[pa.RecordBatch], schema: pa.Schema, order: Sequence[str], rows: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """The rows of `batches` in the order of the columns `order` (a `-` before the name: falling), `rows` at a time.

        `order` must be total, so that the result is the same for any number of threads.
        """
        import pyarrow as pa

        name = f"rows_{next(self._numbers)}"
        keys = ", ".join(f'"{column[1:]}" DESC' if column.startswith("-") else f'"{column}"' for column in order)
        source = _Source(batches)
        with source.errors(), self._database.cursor() as cursor:
            cursor.execute("SET enable_progress_bar = false")  # it would write to stdout
            cursor.register(name, pa.RecordBatchReader.from_batches(schema, source))
            yield from cursor.sql(f"SELECT * FROM {name} ORDER BY {keys}").to_arrow_reader(rows)


@contextmanager
def sorter(folder: Place, memory: int, threads: int) -> Iterator[Sorter]:
    """A sorter with `memory` bytes for DuckDB's buffers; batches on their way in and out come on top.

    It spills below `folder`, or where that is not on the local disk, into the system's temporary folder.
    """
    import duckdb

    parent = None
    if folder.fs is None:
        parent = folder.mkdir().path
    with tempfile.TemporaryDirectory(prefix=SPILL, dir=parent, ignore_cleanup_errors=True) as spill:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{memory // 1000}KB",
            "threads": max(1, min(threads, memory // THREAD)),
            "temp_directory": spill,
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        with duckdb.connect(":memory:", config=settings) as database:
            yield Sorter(database)


def remove_spills(folder: Place) -> None:
    """Remove what sorters of dead processes have left below `folder`; nobody may be sorting there."""
    if folder.fs is None:
        for left in folder.children(f"{SPILL}*"):
            left.remove()


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
