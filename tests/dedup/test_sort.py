from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from llmdata.dedup.sort import sorter
from llmdata.storage.place import Place

SCHEMA = pa.schema([("label", pa.uint64()), ("rank", pa.int64()), ("doc", pa.int64()), ("id", pa.string())])


def batches(count: int) -> list[pa.RecordBatch]:
    docs = [number * 7919 % count for number in range(count)]
    columns = {
        "label": [doc % 3 * ((1 << 63) - 1) for doc in docs],
        "rank": [(doc % 5 - 2) * (1 << 61) for doc in docs],
        "doc": docs,
        "id": [None if doc % 11 == 0 else f"é{doc}" for doc in docs],
    }
    found: list[pa.RecordBatch] = pa.table(columns, SCHEMA).to_batches(max_chunksize=700)
    return found


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_what_is_sorted_in_memory_is_sorted_as_by_the_database(count: int, tmp_path: Path) -> None:
    rows = [row for batch in batches(count) for row in batch.to_pylist()]
    expected = sorted(rows, key=lambda row: (row["label"], -row["rank"], row["doc"]))
    for at_a_time in (count + 1, 2048):  # more than that many go to the database
        with sorter(Place.of(tmp_path), 60_000_000, 2) as sort:
            found = list(sort.sort(iter(batches(count)), SCHEMA, ["label", "-rank", "doc"], at_a_time))
        assert all(batch.num_rows <= at_a_time for batch in found)
        assert [row for batch in found for row in batch.to_pylist()] == expected
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_rows_keeps_its_name(tmp_path: Path) -> None:
    def failing(count: int) -> Iterator[pa.RecordBatch]:
        yield from batches(count)
        raise ValueError("of the rows")

    for count in (10, 5000):
        with sorter(Place.of(tmp_path), 60_000_000, 2) as sort, pytest.raises(ValueError, match="of the rows"):
            list(sort.sort(failing(count), SCHEMA, ["doc"], 2048))
