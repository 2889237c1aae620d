"""Token shards and their index: what is written is read back, and what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdata.errors import InputError
from llmdata.storage.manifest import sha256_of
from llmdata.storage.place import Place
from llmdata.storage.token_index import (
    DocumentsFile,
    Shard,
    Split,
    TokenIndex,
    load_index,
    open_shard,
    verify_shards,
)
from llmdata.storage.token_shards import dtype_for, header, open_tokens, read_header


def write_shard(folder: Path, name: str, tokens: Any, *, raw: bool = False) -> Shard:
    data = (b"" if raw else header(tokens.dtype, len(tokens))) + tokens.tobytes()
    (folder / name).write_bytes(data)
    place = Place(str(folder / name))
    return Shard(name, len(tokens), sha256_of(place), place.size())


@given(st.lists(st.integers(0, 65_535), max_size=50), st.sampled_from([50_257, 65_536, 65_537, 200_019]))
def test_tokens_come_back(tmp_path_factory: pytest.TempPathFactory, ids: list[int], vocab_size: int) -> None:
    folder = tmp_path_factory.mktemp("shard")
    tokens = np.array(ids, dtype=dtype_for(vocab_size))
    write_shard(folder, "train-00000.bin", tokens)
    place = Place(str(folder / "train-00000.bin"))
    head = read_header(place)
    assert (head.tokens, head.dtype) == (len(ids), dtype_for(vocab_size))
    if ids:
        assert open_tokens(place).tolist() == ids


@pytest.mark.parametrize(("size", "name"), [(2, "uint16"), (65_536, "uint16"), (65_537, "uint32"), (200_019, "uint32")])
def test_width_follows_the_vocabulary(size: int, name: str) -> None:
    assert dtype_for(size).name == name


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "too short"),
        (b"\0" * 1023, "too short"),
        (b"\0" * 1024, "not a token shard"),
        (header(np.dtype("<u2"), 5) + b"\0" * 9, "promises 5 tokens"),
        (header(np.dtype("<u2"), 5) + b"\0" * 11, "promises 5 tokens"),
        (header(np.dtype("<u4"), 5) + b"\0" * 10, "promises 5 tokens"),
    ],
)
def test_what_is_no_shard_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.bin").write_bytes(data)
    with pytest.raises(InputError, match=message):
        open_tokens(Place(str(tmp_path / "x.bin")))


def make_index(folder: Path, *, raw: bool = False) -> TokenIndex:
    splits = {
        name: Split(
            tokens=6,
            documents=2,
            bytes=20,
            shards=[write_shard(folder, f"{name}-00000.bin", np.arange(6, dtype="<u2"), raw=raw)],
        )
        for name in ("train", "val")
    }
    (folder / "documents-00000.parquet").write_bytes(b"rows")
    place = Place(str(folder / "documents-00000.parquet"))
    documents = [DocumentsFile(place.name, 4, sha256_of(place), 4)]
    return TokenIndex("d1", 1000, 999, "uint16", "nanogpt" if raw else "llmc", splits, documents)


@pytest.mark.parametrize("raw", [False, True])
def test_the_index_comes_back_and_opens_its_shards(tmp_path: Path, raw: bool) -> None:
    index, folder = make_index(tmp_path, raw=raw), Place(str(tmp_path))
    index.save(folder)
    assert load_index(folder) == index
    for split in index.splits.values():
        assert open_shard(index, folder, split.shards[0]).tolist() == list(range(6))
    assert verify_shards(index, folder) == []


def test_every_file_that_disagrees_is_named(tmp_path: Path) -> None:
    index, folder = make_index(tmp_path), Place(str(tmp_path))
    (tmp_path / "train-00000.bin").write_bytes((tmp_path / "train-00000.bin").read_bytes()[:-1] + b"\xff")
    (tmp_path / "val-00000.bin").write_bytes(b"")
    (tmp_path / "documents-00000.parquet").unlink()
    problems = verify_shards(index, folder)
    assert [problem.split(": ")[0].rsplit("/", 1)[1] for problem in problems] == [
        "train-00000.bin",
        "val-00000.bin",
        "documents-00000.parquet",
    ]
    assert ["sha256" in problem or "bytes" in problem or "missing" in problem for problem in problems] == [True] * 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value.pop("splits"),
        lambda value: value.pop("eot"),
        lambda value: value.update(extra=1),
        lambda value: value["splits"]["train"]["shards"].append({"path": "x"}),
        lambda value: value.update(splits=[]),
    ],
)
def test_what_is_no_index_is_refused(tmp_path: Path, damage: Any) -> None:
    folder = Place(str(tmp_path))
    make_index(tmp_path).save(folder)
    value = json.loads((tmp_path / "index.json").read_text())
    damage(value)
    (tmp_path / "index.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match="not an index"):
        load_index(folder)


def test_no_index_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="llmdata tokenize"):
        load_index(Place(str(tmp_path)))


def test_a_raw_shard_of_another_length_is_refused(tmp_path: Path) -> None:
    index, folder = make_index(tmp_path, raw=True), Place(str(tmp_path))
    (tmp_path / "train-00000.bin").write_bytes(b"\0\0")
    with pytest.raises(InputError, match="2 bytes"):
        open_shard(index, folder, index.splits["train"].shards[0])
