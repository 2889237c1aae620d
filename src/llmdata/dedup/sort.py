"""Sorting tables that are larger than memory: DuckDB, with what does not fit in a folder on the local disk.

What is small is sorted by Arrow: opening a database takes longer than that.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from llmdata.errors import LlmdataError, StoppedEarly
from llmdata.storage.place import Place, disk_full_is_resumable

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

BATCH_ROWS = 1 << 17
THREAD = 60_000_000
"""Memory of a sorting thread (bytes); with less than half of this DuckDB gives up."""
SMALL = 16_000_000
"""Bytes that are sorted without a database."""
SPILL = ".spill-"


class Sorter:
    """One memory bound for all sorts, also for those that go on at the same time."""

    def __init__(self, folder: Place, memory: int, threads: int, stack: ExitStack) -> None:
        self._folder, self._memory, self._threads, self._stack = folder, memory, threads, stack
        self._numbers = itertools.count()

    def sort(
        self, batches: Iterable[pa.RecordBatch], schema: pa.Schema, order: Sequence[str], rows: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """The rows of `batches` in the order of the columns `order` (a `-` before the name: falling), `rows` at a time.

        `order` must be total, so that the result is the same for any number of threads.
        """
        import pyarrow as pa

        directions = {column.removeprefix("-"): column.startswith("-") for column in order}
        batches = iter(batches)
        held, count, size = [], 0, 0
        for batch in batches:
            held.append(batch)
            count += batch.num_rows
            size += batch.nbytes
            if count > rows or size > SMALL:
                break
        else:
            table = pa.Table.from_batches(held, schema)
            table = table.sort_by(
                [(name, "descending" if falls else "ascending") for name, falls in directions.items()]
            )
            yield from table.combine_chunks().to_batches()
            return

        keys = ", ".join(f'"{name}" DESC' if falls else f'"{name}"' for name, falls in directions.items())
        name = f"rows_{next(self._numbers)}"
        source = _Source(itertools.chain(held, batches))
        del held
        with source.errors(self._spill), self._database.cursor() as cursor:
            cursor.execute("SET enable_progress_bar = false")  # it would write to stdout
            cursor.register(name, pa.RecordBatchReader.from_batches(schema, source))
            yield from cursor.sql(f"SELECT * FROM {name} ORDER BY {keys}").to_arrow_reader(rows)

    @cached_property
    def _spill(self) -> str:
        local = self._folder.fs is None
        parent = self._folder.mkdir().path if local else tempfile.gettempdir()
        with disk_full_is_resumable(parent):
            folder = tempfile.TemporaryDirectory(prefix=SPILL, dir=parent, ignore_cleanup_errors=True)
        return self._stack.enter_context(folder)

    @cached_property
    def _database(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{self._memory // 1000}KB",
            "threads": max(1, min(self._threads, self._memory // THREAD)),
            "temp_directory": self._spill,
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        return self._stack.enter_context(duckdb.connect(":memory:", config=settings))


@contextmanager
def sorter(folder: Place, memory: int, threads: int) -> Iterator[Sorter]:
    """A sorter with `memory` bytes for DuckDB's buffers; batches on their way in and out come on top.

    It spills below `folder`, or where that is not on the local disk, into the system's temporary folder.
    """
    with ExitStack() as stack:
        yield Sorter(folder, memory, threads, stack)


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
    def errors(self, spill: str) -> Iterator[None]:
        """Give errors their true name, and say what to do; `spill` is where it sorts what does not fit into memory."""
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            if self._error is not None:
                raise self._error from None
            said = str(error).splitlines()[0]
            again = "and run the same command again: finished steps are kept."
            # DuckDB calls it memory too when it may put no more into the folder for what does not fit.
            if "No space left" in said or "Disk quota" in said or "offload" in said:
                raise StoppedEarly(
                    f"{spill}: the disk is full; keys that do not fit into memory are sorted there ({said}). Make room "
                    f"{again}"
                ) from None
            if isinstance(error, duckdb.OutOfMemoryException):
                raise StoppedEarly(
                    f"Sorting keys ran out of memory: {said} Give more (clean.STAGE.memory, --memory) {again}"
                ) from None
            raise LlmdataError(f"sorting keys: {error}") from None
