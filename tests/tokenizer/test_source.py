"""Texts are read in batches whose size does not depend on how the file was written."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmdata.storage.inputs import plan_pieces
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
