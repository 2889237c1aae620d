"""Texts are read in batches whose size does not depend on how the file was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmdata.storage.inputs import plan_pieces
from llmdata.storage.place import Place
from llmdata.tokenizer.counts import write_counts
from llmdata.tokenizer.source import read_texts


@pytest.mark.parametrize(
    "sizes",
    [
        [1_500_000] * 20,  # each a good part of a batch
        [100] * 250 + [9_000_000] * 2 + [100] * 250 + [7_000_000],  # few are most of the text
        [0, 10_000_000, 0, 0, 1],
        [],
    ],
)
def test_a_batch_holds_little_more_than_one_long_document(tmp_path: Path, sizes: list[int]) -> None:
    texts = [f"{number}:".ljust(size, "x") if size else "" for number, size in enumerate(sizes)]
    ids = [f"id-{number}" for number in range(len(sizes))]
    columns = pa.table({"id": pa.array(ids, pa.string()), "text": pa.array(texts, pa.string())})
    pq.write_table(columns, tmp_path / "long.parquet")
    batches = [batch for piece in plan_pieces([str(tmp_path / "long.parquet")]) for batch in read_texts(piece, [])]
    assert [text for batch in batches for text in batch.texts.to_pylist()] == texts
    assert [name for batch in batches for name in batch.ids.to_pylist()] == ids
    assert [row for batch in batches for row in batch.rows] == list(range(len(sizes)))
    longest = max(sizes, default=0)
    for batch in batches:
        assert sum(map(len, batch.texts.to_pylist())) <= longest + 8_000_000


@pytest.mark.parametrize("sizes", [[10] * 1000, [1_500_000] * 30])
def test_a_copy_with_counts_has_row_groups_of_32_mb(tmp_path: Path, sizes: list[int]) -> None:
    table = pa.table({"text": [f"{number}:".ljust(size, "x") for number, size in enumerate(sizes)]})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=2000)
    rows = np.arange(0, len(sizes), 2)
    for piece in plan_pieces([str(tmp_path / "in.parquet")]):
        assert write_counts(piece, rows, rows * 3, Place(str(tmp_path / "out.parquet"))) == len(sizes)
    copy = pq.ParquetFile(tmp_path / "out.parquet")
    assert copy.metadata.num_row_groups == 1 + sum(sizes) // 32_000_000
    assert copy.read().column("text") == table.column("text")
    assert copy.read().column("token_count").to_pylist()[:3] == [0, None, 6]
