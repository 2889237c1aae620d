"""What a worker encodes: the texts of one piece of input as Arrow columns, each with its id and address.

Of Parquet only these columns are read, and no Python object is made of a text; everything else goes through documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from llmdata.document import Document, Rejection
from llmdata.storage.inputs import Piece, read_piece
from llmdata.storage.parquet import BATCH_ROWS, open_parquet, read_rows
from llmdata.storage.place import Place
from llmdata.storage.source import STAGE, digest_id

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

BATCH_BYTES = 4_000_000
_BATCH_DOCUMENTS = 4096


@dataclass(frozen=True, slots=True)
class Texts:
    """Some documents: three columns without nulls, and which rows of the piece they are."""

    rows: range | list[int]
    ids: pa.StringArray
    urls: pa.StringArray
    texts: pa.LargeStringArray


def buffers_of(texts: pa.LargeStringArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """The bytes of `texts` (no nulls) where they lie, and where each text begins and the last one ends."""
    import numpy as np

    _, ends, data = texts.buffers()
    bounds = np.frombuffer(ends, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return bounds - bounds[0], np.frombuffer(data or b"", np.uint8)[bounds[0] : bounds[-1]]


def count_characters(texts: pa.LargeStringArray) -> int:
    """Characters of `texts` (no nulls): the bytes of UTF-8 that continue none."""
    import numpy as np

    return int(np.count_nonzero(buffers_of(texts)[1].view(np.int8) > -65))


def read_texts(piece: Piece, rejections: list[Rejection]) -> Iterator[Texts]:
    """The documents of `piece` in batches of some 4 MB, or of one that is longer.

    What cannot be read is appended to `rejections`.
    """
    if piece.format != "parquet" or not piece.size:
        yield from _of_documents(enumerate(read_piece(piece)), rejections)
        return
    with Place.of(piece.path).open() as stream:
        file = open_parquet(stream, piece.path)
        row = 0
        for group in range(piece.start, piece.end):
            if _is_plain(file, group, piece.text_column):
                first = sum(file.metadata.row_group(before).num_rows for before in range(group))
                yield from _of_columns(file, group, piece, row, first, rejections)
            else:
                yield from _of_documents(enumerate(_rows(stream, group, piece), row), rejections)
            row += file.metadata.row_group(group).num_rows


def _rows(stream: IO[bytes], group: int, piece: Piece) -> Iterator[Document | Rejection]:
    return read_rows(stream, group, group + 1, piece.layout, piece.text_column, piece.path)


def _is_plain(file: Any, group: int, text_column: str) -> bool:
    """Whether a row group has a text in every row, and ids and addresses that are text as well."""
    import pyarrow as pa

    if text_column in ("id", "url"):
        return False
    schema = file.schema_arrow
    for name in ("id", "url", text_column):
        kind = schema.field(name).type if name in schema.names else pa.string()
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            return False
    statistics = _column(file, group, text_column).statistics
    return statistics is not None and statistics.has_null_count and statistics.null_count == 0


def _column(file: Any, group: int, name: str) -> Any:
    """What the file tells of column `name` of a row group."""
    facts = file.metadata.row_group(group)
    return next(found for found in map(facts.column, range(facts.num_columns)) if found.path_in_schema == name)


def _of_columns(
    file: Any, group: int, piece: Piece, row: int, first: int, rejections: list[Rejection]
) -> Iterator[Texts]:
    """Row group `group`, whose first row is number `row` of the piece and `first` of the file."""
    import pyarrow as pa

    names = [name for name in ("id", "url", piece.text_column) if name in file.schema_arrow.names]
    last = file.metadata.row_group(group).num_rows
    done = seen = size = 0
    held: list[pa.RecordBatch] = []
    text_bytes = max(1, _column(file, group, piece.text_column).total_uncompressed_size)
    most = max(1, min(BATCH_ROWS, BATCH_BYTES * last // text_bytes))  # rows of a megabyte each, 256 at once: 256 MB

    def joined() -> Texts:
        table = pa.Table.from_batches(held)
        rows = range(row + done, row + done + len(table))
        return _texts(table, rows, piece, first + done)

    try:
        # Arrow's threads would each keep some memory for themselves, and the workers have the cores anyway.
        for batch in file.iter_batches(batch_size=most, row_groups=[group], columns=names, use_threads=False):
            batch.validate(full=True)
            for part in _parts(batch, piece.text_column):
                held.append(part)
                seen += part.num_rows
                size += part.column(piece.text_column).nbytes
                if size >= BATCH_BYTES or seen - done >= _BATCH_DOCUMENTS:
                    yield joined()
                    held, done, size = [], seen, 0
                    _give_back()
    except (pa.ArrowException, OSError, ValueError) as error:
        place = first + seen
        detail = f"rows {place} to {first + last - 1}: {error}"
        rejections.append(
            Rejection(Document(id=digest_id(piece.path, place), file_path=piece.path), STAGE, "bad_record", detail)
        )
    if held:
        yield joined()
    _give_back()


def _give_back() -> None:
    """Memory that Arrow and the C library keep for later goes: what one batch took, the next may not need."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    pa.system_memory_pool().release_unused()


def _parts(batch: pa.RecordBatch, name: str) -> Iterator[pa.RecordBatch]:
    """`batch`, halved until no part of several rows has more than a batch's bytes in column `name`."""
    if batch.num_rows < 2 or batch.column(name).nbytes <= BATCH_BYTES:
        yield batch
        return
    middle = batch.num_rows // 2
    yield from _parts(batch.slice(0, middle), name)
    yield from _parts(batch.slice(middle), name)


def _texts(table: pa.Table, rows: range, piece: Piece, first: int) -> Texts:
    """The columns of `table`, the first row of which is number `first` of its file."""
    import pyarrow as pa

    def column(name: str) -> Any:
        if name not in table.column_names:
            return pa.array([""] * len(table), pa.string())
        found = _as(table.column(name), pa.string())
        return pa.array([value or "" for value in found.to_pylist()], pa.string()) if found.null_count else found

    ids = column("id")
    if not all(names := ids.to_pylist()):
        ids = pa.array([name or digest_id(piece.path, first + at) for at, name in enumerate(names)])
    return Texts(rows, ids, column("url"), _as(table.column(piece.text_column), pa.large_string()))


def _as(column: pa.ChunkedArray, kind: pa.DataType) -> Any:
    """`column` in one piece and as `kind`, without pyarrow.compute, which takes as long to import as all the rest."""
    import numpy as np
    import pyarrow as pa

    whole = column.combine_chunks()
    if whole.type == kind:
        return whole
    width = np.int64 if kind == pa.large_string() else np.int32
    valid, ends, data = whole.buffers()
    bounds = np.frombuffer(ends, np.int32 if pa.types.is_string(whole.type) else np.int64).astype(width)
    return pa.Array.from_buffers(kind, len(whole), [valid, pa.py_buffer(bounds), data], offset=whole.offset)


def _of_documents(items: Iterable[tuple[int, Document | Rejection]], rejections: list[Rejection]) -> Iterator[Texts]:
    rows: list[int] = []
    held: list[Document] = []
    size = 0
    for row, item in items:
        if isinstance(item, Rejection):
            rejections.append(item)
            continue
        rows.append(row)
        held.append(item)
        size += len(item.text)
        if len(held) >= _BATCH_DOCUMENTS or size >= BATCH_BYTES:
            yield _of_held(rows, held)
            rows, held, size = [], [], 0
    if held:
        yield _of_held(rows, held)


def _of_held(rows: list[int], held: list[Document]) -> Texts:
    import pyarrow as pa

    texts = pa.array([doc.text.encode("utf-8", "replace") for doc in held], pa.large_binary())
    ids, urls = (pa.array([getattr(doc, name) for doc in held], pa.string()) for name in ("id", "url"))
    return Texts(rows, ids, urls, texts.view(pa.large_string()))
