"""Documents: what is written is read back, and what cannot be written is made writable."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from llmdata.document import (
    COLUMNS,
    REJECTION_COLUMNS,
    Document,
    Payload,
    Rejection,
    document_schema,
    from_batch,
    rejection_schema,
    rejections_to_batch,
    to_batch,
)

texts = st.text(alphabet=st.characters(blacklist_categories=["Cs"]))
documents = st.builds(
    Document,
    text=texts,
    id=texts,
    dump=texts,
    url=texts,
    date=texts,
    file_path=texts,
    language=texts,
    language_score=st.floats(0, 1),
    token_count=st.integers(0, 2**60),
    warc_offset=st.none() | st.integers(0, 2**60),
    warc_length=st.none() | st.integers(0, 2**60),
    content_digest=texts,
    metadata=st.dictionaries(texts, st.none() | st.integers() | texts, max_size=3),
)


@given(st.lists(documents, max_size=4))
def test_documents_round_trip(docs: list[Document]) -> None:
    assert list(from_batch(to_batch(docs))) == docs


def test_the_columns_are_finewebs_and_then_lineage() -> None:
    assert tuple(document_schema().names) == COLUMNS
    assert COLUMNS[:9] == (
        "text", "id", "dump", "url", "date", "file_path", "language", "language_score", "token_count",
    )  # fmt: skip
    assert tuple(rejection_schema().names) == REJECTION_COLUMNS


def test_lone_surrogates_are_replaced() -> None:
    (doc,) = from_batch(to_batch([Document(text="a\ud800b", url="http://x/\udfff")]))
    assert doc.text == "a?b"
    assert doc.url == "http://x/?"


def test_the_same_metadata_is_the_same_bytes() -> None:
    one, two = Document(metadata={"a": 1, "b": 2}), Document(metadata={"b": 2, "a": 1})
    rows = to_batch([one, two]).column("metadata").to_pylist()
    assert rows[0] == rows[1] == json.dumps({"a": 1, "b": 2})


def test_a_payload_is_never_written() -> None:
    batch = rejections_to_batch([Rejection(Document(payload=Payload(b"<p>secret")), "extract", "empty", "x")])
    assert b"secret" not in batch.serialize().to_pybytes()
    row = batch.to_pylist()[0]
    assert (row["stage"], row["reason"], row["detail"]) == ("extract", "empty", "x")


def test_the_view_follows_the_text() -> None:
    doc = Document(text="one two")
    first = doc.view
    assert doc.view is first
    doc.text = "three"
    assert doc.view is not first
    assert doc.view.text == "three"
