"""Each format as its own readers read it: Megatron-LM's, Parquet's, llm.c's and nanoGPT's."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from llmdata.cli.app import app
from llmdata.document import Document
from llmdata.errors import ConfigError
from llmdata.storage.encoding import load_encoding
from llmdata.storage.encoding_kinds import BpeEncoding
from llmdata.storage.place import Place
from llmdata.storage.token_index import load_index, open_shard, read_tokens, verify_shards
from llmdata.storage.token_shards import dtype_for, header, megatron_index
from tests.tokenizer.corpus import documents, pairs_vocabulary, texts, write_corpus
from tests.tokenizer.test_pack import TEXT, check_round_trip, data_files, listed, run


def read_megatron(prefix: Path) -> tuple[list[np.ndarray[Any, Any]], list[int]]:
    """The sequences and document bounds of PREFIX.bin and PREFIX.idx, by the rules in Megatron-LM's
    megatron/core/datasets/indexed_dataset.py: nothing of ours."""
    index = prefix.with_suffix(".idx").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, bounds = struct.unpack("<QBQQ", index[9:34])
    assert version == 1
    dtype = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 8: np.uint16}[code]
    lengths = np.frombuffer(index, np.int32, sequences, 34)
    places = np.frombuffer(index, np.int64, sequences, 34 + 4 * sequences)
    documents = np.frombuffer(index, np.int64, bounds, 34 + 12 * sequences)
    assert len(index) == 34 + 12 * sequences + 8 * bounds
    data = np.memmap(prefix.with_suffix(".bin"), mode="r")
    found = [np.frombuffer(data, dtype, length, place) for length, place in zip(lengths, places, strict=True)]
    assert sum(part.nbytes for part in found) == len(data)
    return found, documents.tolist()


def megatron_core(prefix: Path) -> list[np.ndarray[Any, Any]]:
    library = pytest.importorskip("megatron.core.datasets.indexed_dataset", reason="megatron-core is not installed")
    dataset = library.IndexedDataset(str(prefix), mmap=True)
    return [dataset[number].copy() for number in range(len(dataset))]  # its memory maps close with it


@pytest.mark.parametrize("reader", [lambda prefix: read_megatron(prefix)[0], megatron_core])
@pytest.mark.parametrize("large", [False, True])
def test_megatron(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path, reader: Any, large: bool) -> None:
    tokenizer = pairs_vocabulary(tmp_path / "pairs.tiktoken") if large else tokenizers["bpe"]
    run(corpus, tokenizer, tmp_path / "t", format="megatron", shard_tokens=20_000, pattern="gpt2" if large else None)
    index, encoding = load_index(Place(str(tmp_path / "t"))), load_encoding(Place(str(tmp_path / "t")))
    assert index.dtype == ("int32" if large else "uint16")
    rows = listed(tmp_path / "t")
    found = {}
    for split in ("train", "val"):
        for shard in index.splits[split].shards:
            mine = sorted((row["first_token"], row["id"]) for row in rows if row["shard"] == shard.path)
            for ids, (_, name) in zip(reader(tmp_path / "t" / shard.path.removesuffix(".bin")), mine, strict=True):
                assert ids[-1] == encoding.eot
                found[name] = encoding.decode(ids[:-1].tolist())
    assert found == TEXT
    assert len(index.beside) == len(index.splits["train"].shards) + len(index.splits["val"].shards) > 2


def test_every_document_of_megatron_is_one_sequence(
    corpus: Place, tokenizers: dict[str, Place], tmp_path: Path
) -> None:
    run(corpus, tokenizers["bpe"], tmp_path / "t", format="megatron", val="none")
    sequences, bounds = read_megatron(tmp_path / "t" / "train-00000")
    assert bounds == list(range(301))
    assert len(sequences) == 300


def test_damage_beside_the_shards_is_found(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path) -> None:
    index = run(corpus, tokenizers["bpe"], tmp_path / "t", format="megatron").index
    (tmp_path / "t" / "train-00000.idx").unlink()
    assert ["train-00000.idx: missing" in line for line in verify_shards(index, Place(str(tmp_path / "t")))] == [True]


@pytest.mark.parametrize("large", [False, True])
def test_parquet(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path, large: bool) -> None:
    tokenizer = pairs_vocabulary(tmp_path / "pairs.tiktoken") if large else tokenizers["bpe"]
    settings: dict[str, Any] = {"shard_tokens": 20_000, "shuffle_seed": 2, "pattern": "gpt2" if large else None}
    index = run(corpus, tokenizer, tmp_path / "t", format="parquet", **settings).index
    encoding = load_encoding(Place(str(tmp_path / "t")))
    found = {}
    for split in ("train", "val"):
        for shard in index.splits[split].shards:
            table = pq.read_table(tmp_path / "t" / shard.path)
            assert str(table.schema.field("tokens").type) == f"list<element: {'uint32' if large else 'uint16'}>"
            assert table.column_names == ["id", "url", "tokens"]
            for row in table.to_pylist():
                assert row["tokens"][0] == encoding.eot
                assert row["url"] == f"https://example.com/{int(row['id'][4:])}"
                found[row["id"]] = encoding.decode(row["tokens"][1:])
    assert found == TEXT


def test_datasets_reads_parquet(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path) -> None:
    from datasets import load_dataset

    index = run(corpus, tokenizers["bpe"], tmp_path / "t", format="parquet", val="none").index
    rows = load_dataset("parquet", data_files=str(tmp_path / "t" / "train-*.parquet"), cache_dir=str(tmp_path / "c"))
    assert sum(map(len, rows["train"]["tokens"])) == index.splits["train"].tokens


def test_all_formats_hold_the_same_tokens(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path) -> None:
    found = {}
    for layout in ("llmc", "parquet", "nanogpt", "megatron"):
        run(corpus, tokenizers["bpe"], tmp_path / layout, format=layout, shuffle_seed=4, val="none")
        place = Place(str(tmp_path / layout))
        index = load_index(place)
        (shard,) = index.splits["train"].shards
        found[layout] = open_shard(index, place, shard).tolist()
        assert read_tokens(index, place, shard.path, 1000, 1100) == found[layout][1000:1100]
        assert read_tokens(index, place, shard.path, shard.tokens - 1, shard.tokens) == found[layout][-1:]
    eot = index.eot
    assert found["llmc"] == found["parquet"]
    assert found["nanogpt"] == found["megatron"] == [*found["llmc"][1:], eot]


@pytest.mark.parametrize("layout", ["megatron", "parquet"])
def test_workers_and_a_cut_text(tokenizers: dict[str, Place], tmp_path: Path, layout: str) -> None:
    docs = [*documents(20), Document(text="".join(texts(60)), id="novel"), *documents(40)[20:]]
    corpus = write_corpus(tmp_path / "c", docs)
    settings: dict[str, Any] = {"format": layout, "shard_tokens": 4000, "shuffle_seed": 3, "val": "tail:0.4"}
    for workers in (1, 2):
        run(corpus, tokenizers["bpe"], tmp_path / str(workers), workers=workers, **settings)
    assert data_files(tmp_path / "1") == data_files(tmp_path / "2")
    place = Place(str(tmp_path / "1"))
    index = load_index(place)
    tokens = [
        read_tokens(index, place, row["shard"], row["first_token"], row["first_token"] + row["length"])
        for row in listed(tmp_path / "1")
    ]
    text = load_encoding(place).decode([token for row in tokens for token in row if token != index.eot])
    assert text == "".join(doc.text for doc in docs)


@pytest.mark.parametrize("layout", ["nanogpt", "megatron", "parquet"])
def test_inspect_follows_tokens_in_every_format(
    corpus: Place, tokenizers: dict[str, Place], tmp_path: Path, layout: str
) -> None:
    out = str(tmp_path / "t")
    run(corpus, tokenizers["bpe"], tmp_path / "t", format=layout, shuffle_seed=1)
    runner = CliRunner()
    assert runner.invoke(app, ["inspect", out, "--verify"]).exit_code == 0
    row = next(row for row in listed(tmp_path / "t") if row["split"] == "train" and row["length"] > 50)
    at = f"{row['shard']}:{row['first_token'] + 20}"
    traced = runner.invoke(app, ["inspect", out, "--token", at, "--json"])
    assert traced.exit_code == 0, traced.output

    assert row["id"] in traced.stdout
    shard = str(tmp_path / "t" / row["shard"])
    decoded = runner.invoke(app, ["tokenizer", "decode", shard, "--from", str(row["first_token"]), "--json"])
    assert json.loads(decoded.stdout)["text"].replace("<|endoftext|>", "").startswith(TEXT[row["id"]][:40])


@pytest.mark.parametrize(("size", "name"), [(65_535, "uint16"), (65_536, "uint16"), (65_537, "uint32")])
def test_the_largest_vocabulary_of_sixteen_bits(size: int, name: str) -> None:
    assert dtype_for(size).name == name
    assert np.array([size - 1], dtype_for(size))[0] == size - 1
    assert len(header(dtype_for(size), 5)) == 1024
    assert megatron_index(np.dtype("uint16" if name == "uint16" else "int32"), np.array([1, 2]))[17] in (4, 8)


@pytest.mark.parametrize("size", [65_536, 65_537])
def test_the_last_id_is_written_whole(tmp_path: Path, size: int) -> None:
    file = pairs_vocabulary(tmp_path / "pairs.tiktoken", size - 1)
    encoding = load_encoding(file, "gpt2")
    assert isinstance(encoding, BpeEncoding)
    last = next(token for token, rank in encoding.ranks.items() if rank == size - 2)
    corpus = write_corpus(tmp_path / "c", [Document(text=last.decode("latin-1"), id="x")], parts=1)
    index = run(corpus, file, tmp_path / "t", pattern="gpt2", val="none").index
    assert index.eot == size - 1
    assert index.dtype == ("uint16" if size == 65_536 else "uint32")
    place = Place(str(tmp_path / "t"))
    assert open_shard(index, place, index.splits["train"].shards[0])[0] == size - 1
    check_round_trip(tmp_path / "t", {"x": last.decode("latin-1")})


def test_token_counts(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path) -> None:
    before = {file.path: file.read_bytes() for file in corpus.children("*.parquet")}
    plain = run(corpus, tokenizers["bpe"], tmp_path / "plain").index
    index = run(corpus, tokenizers["bpe"], tmp_path / "t", token_counts=True, workers=2).index
    assert index == plain
    assert before == {file.path: file.read_bytes() for file in corpus.children("*.parquet")}
    encoding = load_encoding(tokenizers["bpe"])
    original = [row for file in corpus.children("*.parquet") for row in pq.read_table(file.path).to_pylist()]
    copies = sorted((tmp_path / "t" / "counted").iterdir())
    copied = [row for file in copies for row in pq.read_table(file).to_pylist()]
    assert copied == [{**row, "token_count": len(encoding.encode(row["text"]))} for row in original]
    run(corpus, tokenizers["bpe"], tmp_path / "t", rerun=True)
    assert not (tmp_path / "t" / "counted").exists()


def test_token_counts_of_other_peoples_columns(tokenizers: dict[str, Place], tmp_path: Path) -> None:
    import pyarrow as pa

    table = pa.table({"n": [1, 2, 3, 4], "body": ["a b", None, "", "<|endoftext|>"]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    order: dict[str, Any] = {"text_column": "body", "token_counts": True, "val": "none"}
    assert run(str(tmp_path / "x.parquet"), tokenizers["bpe"], tmp_path / "t", **order).rejected == 1
    copied = pq.read_table(tmp_path / "t" / "counted").to_pydict()
    encoding = load_encoding(tokenizers["bpe"])
    counts = [len(encoding.encode("a b")), None, 0, len(encoding.encode("<|endoftext|>"))]
    assert copied == {"n": [1, 2, 3, 4], "body": table["body"].to_pylist(), "token_count": counts}


def test_token_counts_are_for_parquet(tokenizers: dict[str, Place], tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(ConfigError, match=r"--token-counts.*jsonl"):
        run(str(tmp_path / "x.jsonl"), tokenizers["bpe"], tmp_path / "t", token_counts=True)
