"""What users name as input, and the published datasets' layouts."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lz4.frame
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmdata.document import Document, Rejection
from llmdata.errors import InputError
from llmdata.storage.inputs import Piece, plan_pieces, read_piece
from tests.storage.archives import archive, http, read, reasons, record


def jsonl(path: Path, rows: Sequence[Any], codec: str = "") -> Path:
    data = b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)
    path.write_bytes(
        {"": bytes, "gz": gzip.compress, "zst": zstandard.compress, "lz4": lz4.frame.compress}[codec](data)
    )
    return path


def table(path: Path, columns: dict[str, list[Any]], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def docs(items: Sequence[Document | Rejection]) -> list[Document]:
    assert all(isinstance(item, Document) for item in items), items
    return [item for item in items if isinstance(item, Document)]


PILE = {"text": "pile text", "meta": {"pile_set_name": "PubMed Abstracts"}}
C4 = {"text": "c4 text", "url": "https://example.com/c4", "timestamp": "2019-04-25T12:57:54Z"}
REFINEDWEB = {
    "content": "refined text",
    "url": "https://example.com/r",
    "timestamp": "2013-05-18T10:42:00Z",
    "dump": "CC-MAIN-2013-20",
    "segment": "1368696381249",
    "image_urls": [["https://example.com/i.png", "an image"]],
}
FINEWEB = {
    "text": "fine text",
    "id": "<urn:uuid:1>",
    "dump": "CC-MAIN-2020-05",
    "url": "https://example.com/f",
    "date": "2020-01-17T23:00:00Z",
    "file_path": "s3://commoncrawl/a.warc.gz",
    "language": "en",
    "language_score": 0.91,
    "token_count": 717,
    "score": 3.5,
}


@pytest.mark.parametrize("kind", ["jsonl", "gz", "zst", "lz4", "parquet"])
@pytest.mark.parametrize(
    ("layout", "row", "expected", "metadata"),
    [
        ("pile", PILE, {"text": "pile text"}, {"pile_set_name": "PubMed Abstracts"}),
        ("c4", C4, {"text": "c4 text", "url": "https://example.com/c4", "date": "2019-04-25T12:57:54Z"}, {}),
        (
            "refinedweb",
            REFINEDWEB,
            {"text": "refined text", "date": "2013-05-18T10:42:00Z", "dump": "CC-MAIN-2013-20"},
            {"segment": "1368696381249", "image_urls": [["https://example.com/i.png", "an image"]]},
        ),
        (
            "fineweb",
            FINEWEB,
            {
                "id": "<urn:uuid:1>",
                "file_path": "s3://commoncrawl/a.warc.gz",
                "language_score": 0.91,
                "token_count": 717,
            },
            {"score": 3.5},
        ),
        ("text", {"text": "t", "id": 7, "extra": [1, None]}, {"text": "t", "id": "7"}, {"extra": [1, None]}),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_layouts_of_published_datasets(
    tmp_path: Path, kind: str, layout: str, row: dict[str, Any], expected: dict[str, Any], metadata: Any, named: bool
) -> None:
    if kind == "parquet":
        path = table(tmp_path / "a.parquet", {name: [value] for name, value in row.items()})
    else:
        path = jsonl(tmp_path / "a.json", [row], "" if kind == "jsonl" else kind)
    (piece,) = plan_pieces([str(path)], layout=layout if named else "auto")
    assert piece.layout == layout
    (doc,) = docs(list(read_piece(piece)))
    assert {name: getattr(doc, name) for name in expected} == expected
    assert doc.metadata == metadata
    assert doc.id
    assert doc.file_path == row.get("file_path", str(path))


def test_values_that_json_cannot_hold_become_ones_it_can(tmp_path: Path) -> None:
    when = datetime(2013, 5, 18, 10, 42, tzinfo=UTC)
    columns = {
        "content": ["x"],
        "url": ["u"],
        "timestamp": [when],
        "dump": ["d"],
        "segment": [b"\xff"],
        "n": [float("nan")],
    }
    (doc,) = docs(read(table(tmp_path / "a.parquet", columns)))
    assert doc.date == "2013-05-18T10:42:00Z"
    assert doc.metadata == {"segment": "/w==", "n": None}


def test_any_column_may_be_the_text(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"body": "hello", "text": "not this"}])
    (doc,) = docs(read(path, text_column="body"))
    assert (doc.text, doc.metadata) == ("hello", {"text": "not this"})


@pytest.mark.parametrize("make", ["parquet", "jsonl"])
def test_without_a_column_of_text_the_error_names_those_there_are(tmp_path: Path, make: str) -> None:
    path = tmp_path / f"a.{make}"
    if make == "parquet":
        table(path, {"body": ["x"], "url": ["u"]})
    else:
        jsonl(path, [{"body": "x", "url": "u"}])
    with pytest.raises(InputError, match=r"no column 'text'.*there are: body, url.*text_column"):
        plan_pieces([str(path)])


def test_bad_lines_are_rejected_one_by_one(tmp_path: Path) -> None:
    lines = [
        {"text": "a"},
        b"{broken",
        b"",
        b"[1]",
        {"text": None},
        {"text": 5},
        {"no": "text"},
        b'{"text": "\\ud800x"}',
    ]
    lines += [
        b'{"text": "\xff"}',
        b'{"text": "t", "deep": ' + b"[" * 700 + b"]" * 700 + b"}",
        {"text": "z", "token_count": 10**30},
    ]
    items = read(jsonl(tmp_path / "a.jsonl", lines))
    assert reasons(items) == ["kept", *["bad_record"] * 5, "kept", "bad_record", "bad_record", "kept"]
    good = [item for item in items if isinstance(item, Document)]
    assert [doc.text for doc in good] == ["a", "\ufffdx", "z"]
    assert good[-1].metadata == {"token_count": 10**30}
    assert all(
        "offset" in item.detail or "text" in item.detail or "deep" in item.detail
        for item in items
        if isinstance(item, Rejection)
    )


@pytest.mark.parametrize("codec", ["gz", "zst", "lz4"])
def test_a_truncated_stream_is_one_rejection_more(tmp_path: Path, codec: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "x" * 50 + str(n)} for n in range(30_000)], codec)
    path.write_bytes(path.read_bytes()[:-30])
    items = read(path)
    assert reasons(items)[-1] == "truncated"
    assert set(reasons(items)[:-1]) <= {"kept"}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=20),
    task_bytes=st.integers(1, 300),
    final_newline=st.booleans(),
)
def test_pieces_partition_json_lines(tmp_path: Path, texts: list[str], task_bytes: int, final_newline: bool) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    path.write_bytes(("\n".join(lines) + "\n" * final_newline).encode())
    pieces = plan_pieces([str(path)], task_bytes=task_bytes)
    items = docs([item for piece in pieces for item in read_piece(piece)])
    assert [doc.text for doc in items] == texts
    assert [doc.id for doc in items] == [doc.id for doc in docs(read(path))]
    assert len({doc.id for doc in items}) == len(items)


def test_pieces_of_parquet_are_row_groups(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", {"text": [str(n) for n in range(1000)]}, row_group_size=100)
    pieces = plan_pieces([str(path)], task_bytes=1)
    assert [(piece.start, piece.end) for piece in pieces] == [(n, n + 1) for n in range(10)]
    items = docs([item for piece in pieces for item in read_piece(piece)])
    assert [doc.text for doc in items] == [str(n) for n in range(1000)]
    assert items == read(path)


def test_damaged_row_group_is_one_rejection(tmp_path: Path) -> None:
    rows = [f"{n:05d}" * 50 for n in range(1000)]
    path = table(tmp_path / "a.parquet", {"text": rows}, row_group_size=500, compression="zstd", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[100:400] = bytes(300)
    path.write_bytes(data)
    found = reasons(read(path))
    assert found.count("bad_record") == 1
    assert found.count("kept") >= 500


def test_files_folders_and_globs(tmp_path: Path) -> None:
    (tmp_path / "deep" / ".hidden").mkdir(parents=True)
    for name in ("b.jsonl", "a.jsonl", "deep/c.jsonl.gz", "deep/.hidden/d.jsonl", "e.jsonl.17.partial"):
        jsonl(tmp_path / name, [{"text": name}], "gz" if name.endswith("gz") else "")
    (tmp_path / "README.md").write_text("# about")
    (tmp_path / "index.cdxj").write_text('com,example)/ 2024 {"url": "x"}\n')

    def names(*inputs: str) -> list[str]:
        return [piece.path.removeprefix(f"{tmp_path}/") for piece in plan_pieces(inputs)]

    assert names(str(tmp_path)) == ["a.jsonl", "b.jsonl", "deep/c.jsonl.gz"]
    assert names(f"{tmp_path}/*.jsonl") == ["a.jsonl", "b.jsonl"]
    assert names(f"{tmp_path}/**/*.gz") == ["deep/c.jsonl.gz"]
    assert names(f"{tmp_path}/b.jsonl", str(tmp_path)) == ["b.jsonl", "a.jsonl", "deep/c.jsonl.gz"]


def test_a_finished_clean_folder_means_what_it_kept(tmp_path: Path) -> None:
    for name in (".llmdata", "final", "rejected"):
        (tmp_path / name).mkdir()
    table(tmp_path / "final" / "part-0.parquet", {"text": ["good"]})
    table(tmp_path / "rejected" / "part-0.parquet", {"text": ["bad"]})
    assert [doc.text for doc in docs(read(tmp_path))] == ["good"]


def test_several_kinds_are_refused_unless_layout_picks_one(tmp_path: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(archive([record(http())]))
    (tmp_path / "a.warc.wet.gz").write_bytes(archive([record(b"t", "conversion", Content_Type="text/plain")]))
    jsonl(tmp_path / "gold.jsonl", [{"text": "x"}])
    with pytest.raises(InputError, match=r"several kinds of file: jsonl \(gold.jsonl\), warc .*, wet .*--layout"):
        plan_pieces([str(tmp_path)])
    for layout, name in (("warc", "a.warc.gz"), ("wet", "a.warc.wet.gz"), ("text", "gold.jsonl")):
        assert [Path(piece.path).name for piece in plan_pieces([str(tmp_path)], layout=layout)] == [name]


def test_missing_empty_and_unknown_inputs(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    (tmp_path / "half.parquet").write_bytes(b"PAR1 and then nothing")
    (tmp_path / "one.json").write_text('{\n "indented": true\n}\n')
    jsonl(tmp_path / "a.jsonl", [{"text": "x"}])
    for inputs, options, message in [
        ([], {}, "no input"),
        (["nowhere"], {}, "no such file or folder"),
        (["no*.jsonl"], {}, "no such file or folder"),
        (["empty"], {}, "no file of WARC"),
        (["photo.png"], {}, "neither WARC"),
        (["one.json"], {}, "neither WARC"),
        (["half.parquet"], {}, "not a whole Parquet file"),
        (["a.jsonl"], {"layout": "warc"}, "this is jsonl"),
        (["a.jsonl"], {"layout": "sql"}, "there is no layout"),
        (["a.jsonl"], {"text_column": "body"}, "no column 'body'"),
    ]:
        with pytest.raises(InputError, match=message):
            plan_pieces([str(tmp_path / name) for name in inputs], **options)  # type: ignore[arg-type]


def test_empty_files_are_counted(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.warc.gz", "c.parquet"):
        (tmp_path / name).touch()
        assert reasons(read(tmp_path / name)) == ["empty_file"]


def test_a_piece_survives_json(tmp_path: Path) -> None:
    from dataclasses import asdict

    (piece,) = plan_pieces([str(jsonl(tmp_path / "a.jsonl", [{"text": "x"}]))])
    assert Piece(**json.loads(json.dumps(asdict(piece)))) == piece


def test_any_fsspec_address(tmp_path: Path) -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe_file("/inputs/a.warc.gz", archive([record(http(), number=n) for n in range(5)]))
    fs.pipe_file("/inputs/sub/b.warc.gz", archive([record(http(), number=9)]))
    for address in ("memory://inputs", "memory://inputs/**/*.gz"):
        pieces = plan_pieces([address], task_bytes=300)
        assert len(pieces) > 2
        assert len(docs([item for piece in pieces for item in read_piece(piece)])) == 6
    fs.rm("/inputs", recursive=True)


def test_hf_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match="huggingface_hub"):
        plan_pieces(["hf://datasets/somebody/something"])


def test_a_pipe_is_no_input_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.warc")
    with pytest.raises(InputError, match="neither WARC"):
        plan_pieces([str(tmp_path / "pipe.warc")])
