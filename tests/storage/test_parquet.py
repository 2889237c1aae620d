"""Parquet shards: FineWeb's columns, the same bytes for the same rows, readable by others."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmdata.document import (
    COLUMNS,
    Document,
    Rejection,
    document_schema,
    rejection_schema,
    rejections_to_batch,
    to_batch,
)
from llmdata.errors import InputError
from llmdata.storage import parquet
from llmdata.storage.parquet import read_batches, read_documents, write_table
from llmdata.storage.place import Place

_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=50)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT, lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner)
)
_DOCUMENTS = st.builds(
    Document,
    text=_TEXT,
    id=_TEXT,
    dump=_TEXT,
    url=_TEXT,
    date=_TEXT,
    file_path=_TEXT,
    language=_TEXT,
    language_score=st.floats(0, 1),
    token_count=st.integers(0, 2**63 - 1),
    warc_offset=st.none() | st.integers(0, 2**63 - 1),
    warc_length=st.none() | st.integers(0, 2**63 - 1),
    content_digest=_TEXT,
    metadata=st.dictionaries(_TEXT, _JSON, max_size=3),
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_DOCUMENTS, max_size=8))
def test_documents_round_trip(tmp_path: Path, documents: list[Document]) -> None:
    place = Place.of(tmp_path / "a.parquet")
    assert write_table(place, [to_batch(documents)], document_schema()) == len(documents)
    assert list(read_documents(place)) == documents


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=10), seed=st.integers(0, 99))
def test_bytes_do_not_depend_on_batches(tmp_path: Path, sizes: list[int], seed: int) -> None:
    rng = random.Random(seed)
    documents = [
        Document(text="wörd " * rng.randrange(60), id=str(n), url="u" * rng.randrange(9)) for n in range(sum(sizes))
    ]
    batches, at = [], 0
    for size in sizes:
        batches.append(to_batch(documents[at : at + size]))
        at += size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROW_GROUP", 2_000)
        one, many = Place.of(tmp_path / "one"), Place.of(tmp_path / "many")
        write_table(one, [to_batch(documents)], document_schema())
        write_table(many, iter(batches), document_schema())
    assert one.read_bytes() == many.read_bytes()
    assert list(read_documents(many)) == documents
    groups = pq.ParquetFile(many.path).metadata
    assert groups.num_row_groups >= sum(len(doc.text.encode()) for doc in documents) // 2_500


def test_row_groups_hold_about_32_mb_of_text(tmp_path: Path) -> None:
    place = Place.of(tmp_path / "a.parquet")
    batch = to_batch([Document(text="x" * 1_000_000)] * 10)
    write_table(place, (batch for _ in range(4)), document_schema())
    file = pq.ParquetFile(place.path)
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [32, 8]
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_row_groups_of_numbers_end_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP", 2_000)
    other = pa.struct([("a", pa.int8())])
    schema = pa.schema([("key", pa.uint64()), ("units", pa.list_(pa.int32())), ("other", other)])
    rows = [{"key": n, "units": [n] * 8, "other": {"a": 1}} for n in range(120)]
    place = Place.of(tmp_path / "a.parquet")
    write_table(place, [pa.RecordBatch.from_pylist(rows, schema)], schema)
    file = pq.ParquetFile(place.path)
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [50, 50, 20]
    assert file.read().to_pylist() == rows


def test_no_rows_is_a_file_with_columns(tmp_path: Path) -> None:
    place = Place.of(tmp_path / "a.parquet")
    assert write_table(place, [], document_schema()) == 0
    assert pq.read_schema(place.path).names == list(COLUMNS)
    assert list(read_documents(place)) == []


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def batches() -> object:
        yield to_batch([Document(text="a")])
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_table(Place.of(tmp_path / "a.parquet"), batches(), document_schema())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_rejections_keep_stage_reason_and_detail(tmp_path: Path) -> None:
    place = Place.of(tmp_path / "a.parquet")
    rejection = Rejection(Document(text="t", id="1"), "gopher", "top_2_gram", "0.24 > 0.20")
    write_table(place, [rejections_to_batch([rejection])], rejection_schema())
    (row,) = pq.read_table(place.path).to_pylist()
    assert (row["id"], row["stage"], row["reason"], row["detail"]) == ("1", "gopher", "top_2_gram", "0.24 > 0.20")


def test_columns_are_read_by_name_and_missing_ones_named(tmp_path: Path) -> None:
    place = Place.of(tmp_path / "a.parquet")
    write_table(place, [to_batch([Document(text="t", id="1")])], document_schema())
    assert [batch.to_pydict() for batch in read_batches(place, ["id"])] == [{"id": ["1"]}]
    with pytest.raises(InputError, match="no column words; there are: text, id"):
        list(read_batches(place, ["words"]))
    place.write_bytes(place.read_bytes()[:-9])
    with pytest.raises(InputError, match="not a whole Parquet file"):
        list(read_batches(place))


def test_hugging_face_datasets_load_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    place = Place.of(tmp_path / "part-0.parquet")
    documents = [Document(text=f"text {n}", id=str(n), metadata={"n": n}) for n in range(10)]
    write_table(place, [to_batch(documents)], document_schema())
    loaded = datasets.load_dataset("parquet", data_files=place.path, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == list(COLUMNS)
    assert loaded[3]["text"] == "text 3"


def test_bytes_are_pinned_within_a_process(tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        place = Place.of(tmp_path / name)
        write_table(place, [to_batch([Document(text="same", metadata={"b": 1, "a": 2})])], document_schema())
        digests.add(hashlib.sha256(place.read_bytes()).hexdigest())
    assert len(digests) == 1
