"""Copies of the input with `token_count` filled in, for those who choose or mix documents by their length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llmdata.storage.inputs import Piece
from llmdata.storage.parquet import BATCH_ROWS, open_parquet, write_table
from llmdata.storage.place import Place
from llmdata.tokenizer.source import BATCH_BYTES

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

COUNTED = "counted"
COLUMN = "token_count"


def write_counts(piece: Piece, rows: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], place: Place) -> int:
    """Copy the rows of `piece` to `place` with `counts[i]` as the token count of row `rows[i]`, and null for others.

    Returns the number of rows. Of a damaged row group only what comes before the damage is copied.
    """
    import pyarrow as pa

    with Place.of(piece.path).open() as stream:
        file = open_parquet(stream, piece.path)
        schema = file.schema_arrow.remove_metadata()  # what other programs noted there describes other columns
        at = schema.get_field_index(COLUMN)
        field = pa.field(COLUMN, pa.int64())
        schema = schema.append(field) if at < 0 else schema.set(at, field)
        return write_table(place, _copies(file, piece, rows, counts, schema), schema)


def _copies(
    file: pq.ParquetFile, piece: Piece, rows: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    first = 0
    for group in range(piece.start, piece.end):
        size = file.metadata.row_group(group).num_rows
        column = np.full(size, -1, dtype=np.int64)
        inside = (rows >= first) & (rows < first + size)
        column[rows[inside] - first] = counts[inside]
        filled = pa.array(column, mask=column < 0)
        done = 0
        whole = max(1, file.metadata.row_group(group).total_byte_size)
        most = max(1, min(BATCH_ROWS, BATCH_BYTES * size // whole))  # few at a time of long documents
        try:
            for batch in file.iter_batches(batch_size=most, row_groups=[group], use_threads=False):
                columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                columns[COLUMN] = filled.slice(done, batch.num_rows)
                yield pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
                done += batch.num_rows
        except (pa.ArrowException, OSError):
            pass  # `rejected/` names these rows: encoding has met the same damage
        first += size
