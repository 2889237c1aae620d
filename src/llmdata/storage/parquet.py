"""Parquet: row groups of about 32 MB compressed with Zstandard, the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

from llmdata.document import Document, Rejection, from_batch
from llmdata.errors import InputError
from llmdata.storage.layouts import to_document
from llmdata.storage.place import Place
from llmdata.storage.source import STAGE, digest_id

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa
    import pyarrow.parquet as pq

ROW_GROUP = 32_000_000
"""Bytes after which a row group ends. Writing one takes three times its bytes of memory, in each worker."""

BATCH_ROWS = 256

# Columns of few distinct values; a dictionary of texts or ids would only cost time and memory.
_DICTIONARIES = ("dump", "file_path", "language", "stage", "reason")


def write_table(place: Place, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    """Write `batches` as one file, whole or not at all; returns the number of rows.

    Where row groups end depends on the rows alone and not on how they are batched. Holds one row group in memory.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, size = 0, 0
    pending: list[pa.RecordBatch] = []
    with place.writer() as stream:
        dictionaries: Any = [name for name in _DICTIONARIES if name in schema.names] or False
        with pq.ParquetWriter(
            stream, schema, compression="zstd", compression_level=3, use_dictionary=dictionaries
        ) as writer:
            for batch in batches:
                rows += batch.num_rows
                for part, part_size, ends in _cut(batch, ROW_GROUP, size):
                    pending.append(part)
                    size += part_size
                    if ends:
                        _write_group(writer, pending, schema)
                        size = 0
            if pending or not rows:
                _write_group(writer, pending, schema)
    pa.default_memory_pool().release_unused()  # a worker's next task may not need it, or need it elsewhere
    return rows


def _write_group(writer: pq.ParquetWriter, pending: list[pa.RecordBatch], schema: pa.Schema) -> None:
    """Write `pending` and empty it, before the group is compressed: else memory would hold all of it twice."""
    import pyarrow as pa

    # Pages end where chunks end: without combining, the bytes would depend on the batches.
    table = pa.Table.from_batches(pending, schema).combine_chunks()
    pending.clear()
    writer.write_table(table, row_group_size=max(1, table.num_rows))


def _cut(batch: pa.RecordBatch, limit: int, size: int) -> Iterator[tuple[pa.RecordBatch, int, bool]]:
    """Slices of `batch`, each with its size and whether a row group ends behind it, when it already holds `size`."""
    import numpy as np

    sums = np.cumsum(sum(map(_sizes, batch.columns), np.zeros(batch.num_rows, np.int64)))
    start, before = 0, 0
    while start < batch.num_rows:
        end = int(np.searchsorted(sums, before + limit - size)) + 1
        if end > batch.num_rows:
            yield batch.slice(start), int(sums[-1]) - before, False
            return
        yield batch.slice(start, end - start), int(sums[end - 1]) - before, True
        start, before, size = end, int(sums[end - 1]), 0


def _sizes(column: pa.Array) -> npt.NDArray[np.int64] | int:
    """The bytes of each value: of texts, numbers and lists of numbers; other kinds, of users' tables, count nothing."""
    import numpy as np
    import pyarrow as pa
    from pyarrow._compute import call_function  # pyarrow.compute makes a wrapper for each function there is: 50 ms

    kind, width = column.type, 1
    if pa.types.is_primitive(kind):
        return int(kind.bit_width) // 8
    if pa.types.is_list(kind) and pa.types.is_primitive(kind.value_type):
        lengths, width = call_function("list_value_length", [column]), kind.value_type.bit_width // 8
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        lengths = call_function("binary_length", [column])
    else:
        return 0
    lengths = call_function("coalesce", [lengths, pa.scalar(0, lengths.type)])
    sizes: npt.NDArray[np.int64] = lengths.to_numpy(zero_copy_only=False).astype(np.int64)
    return sizes * width


def open_parquet(stream: IO[bytes], name: str) -> pq.ParquetFile:
    """The Parquet file in `stream`; raises InputError if it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(stream)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name}: not a whole Parquet file: {error}") from None


def row_groups(place: Place) -> int:
    """How many row groups the file has."""
    with place.open() as stream:
        return int(open_parquet(stream, str(place)).metadata.num_row_groups)


def read_batches(place: Place, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a file in batches of at most BATCH_ROWS; raises InputError naming the file and what is wrong."""
    import pyarrow as pa

    with place.open() as stream:
        file = open_parquet(stream, str(place))
        if missing := sorted(set(columns or ()) - set(file.schema_arrow.names)):
            raise InputError(
                f"{place}: no column {', '.join(missing)}; there are: {', '.join(file.schema_arrow.names)}"
            )
        try:
            yield from file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns) if columns is not None else None)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{place}: damaged: {error}") from None


def read_documents(place: Place) -> Iterator[Document]:
    """The documents of a file that `write_table` wrote."""
    for batch in read_batches(place):
        yield from from_batch(batch)


def read_rows(
    stream: IO[bytes], start: int, end: int, layout: str, text_column: str, path: str
) -> Iterator[Document | Rejection]:
    """The rows of row groups [start, end) of somebody's file; what cannot be read of a row group is one rejection."""
    import pyarrow as pa

    file = open_parquet(stream, path)
    row = sum(file.metadata.row_group(group).num_rows for group in range(start))
    for group in range(start, end):
        last = row + file.metadata.row_group(group).num_rows
        try:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, row_groups=[group]):
                for values in batch.to_pylist():
                    yield to_document(values, layout, text_column, path, digest_id(path, row))
                    row += 1
        except (pa.ArrowException, OSError, ValueError) as error:
            detail = f"rows {row} to {last - 1}: {error}"
            yield Rejection(Document(id=digest_id(path, row), file_path=path), STAGE, "bad_record", detail)
        row = last
