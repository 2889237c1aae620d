"""Tokenizing: what lies in the shards is the documents, where the list says, however the run went."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from llmdata.document import Document
from llmdata.engine.session import Session, Stop
from llmdata.engine.share import Again, Share
from llmdata.errors import ChangedError, ConfigError, InputError, StoppedEarly
from llmdata.storage.encoding import load_encoding
from llmdata.storage.manifest import manifests
from llmdata.storage.place import Place
from llmdata.storage.token_index import load_index, open_shard, verify_shards
from llmdata.storage.token_shards import open_tokens
from llmdata.tokenizer import TokenizeConfig, TokenizeResult, tokenize
from llmdata.tokenizer.encode import ENCODED
from tests.tokenizer.corpus import documents, pairs_vocabulary, texts, write_corpus

TEXT = {doc.id: doc.text for doc in documents(300)}


def run(
    corpus: Place | str, tokenizer: Place, out: Path, *, workers: int = 1, rerun: bool = False, **settings: Any
) -> TokenizeResult:
    config = TokenizeConfig(**{"task_bytes": 10_000, **settings})
    return tokenize([corpus], tokenizer, Place(str(out)), config, Session(workers=workers), rerun=rerun)


def listed(out: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(out.glob("documents-*.parquet")) for row in pq.read_table(file).to_pylist()]


def data_files(out: Path) -> dict[str, bytes]:
    """Every file a user sees, by its path."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".llmdata" not in path.parts
    }


def check_round_trip(out: Path, expected: dict[str, str]) -> None:
    """Every document is in a shard, where the list says, preceded by end-of-text, and decodes to its text."""
    place = Place(str(out))
    index, encoding = load_index(place), load_encoding(place)
    shards = {shard.path: open_shard(index, place, shard) for split in index.splits.values() for shard in split.shards}
    covered = {path: np.zeros(len(tokens), dtype=bool) for path, tokens in shards.items()}
    rows = listed(out)
    for row in rows:
        inside = slice(row["first_token"], row["first_token"] + row["length"])
        ids = shards[row["shard"]][inside].tolist()
        assert not covered[row["shard"]][inside].any()
        covered[row["shard"]][inside] = True
        at = -1 if index.format in ("nanogpt", "megatron") else 0
        assert ids.pop(at) == encoding.eot
        assert encoding.decode(ids) == expected[row["id"]]
        assert row["shard"].startswith(row["split"])
    assert all(found.all() for found in covered.values())
    assert sorted(row["id"] for row in rows) == sorted(expected)
    for name, split in index.splits.items():
        mine = [row for row in rows if row["split"] == name]
        assert split.documents == len(mine)
        assert split.tokens == sum(row["length"] for row in mine) == sum(shard.tokens for shard in split.shards)
        assert split.bytes == sum(len(expected[row["id"]].encode()) for row in mine)
    assert verify_shards(index, place) == []


SMALL_SHARDS = {"val": "hash:0.3", "shard_tokens": 3000, "shuffle_seed": 5}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("bpe", {}),
        ("bpe", SMALL_SHARDS),
        ("char", SMALL_SHARDS),
        ("own", {}),
        ("bpe", {**SMALL_SHARDS, "format": "nanogpt"}),
        ("bpe", {**SMALL_SHARDS, "format": "megatron"}),
        ("bpe", {**SMALL_SHARDS, "format": "parquet"}),
    ],
)
def test_round_trip(
    corpus: Place, tokenizers: dict[str, Place], tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    result = run(corpus, tokenizers[name], tmp_path / "t", **settings)
    check_round_trip(tmp_path / "t", TEXT)
    assert result.fresh
    assert load_index(Place(str(tmp_path / "t"))) == result.index
    assert not (tmp_path / "t" / ".llmdata" / "encoded").exists()


@pytest.mark.parametrize("name", ["bpe", "word"])
def test_a_tokenizer_given_as_its_file(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path, name: str) -> None:
    """By its `tokenizer.json`, in its folder or copied out of it: the same tokens, and they can be decoded."""
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "alone" / file).parent.mkdir(exist_ok=True)
        (tmp_path / "alone" / file).write_bytes((tokenizers[name] / file).read_bytes())
    alone = Place(str(tmp_path / "alone"))
    given = [tokenizers[name], tokenizers[name] / "tokenizer.json", alone, alone / "tokenizer.json"]
    found = []
    for number, tokenizer in enumerate(given):
        run(corpus, tokenizer, tmp_path / str(number))
        found.append((tmp_path / str(number) / "train-00000.bin").read_bytes())
        if name == "bpe":
            check_round_trip(tmp_path / str(number), TEXT)
    assert found == found[:1] * 4


def test_hostile_documents(tokenizers: dict[str, Place], tmp_path: Path) -> None:
    hostile = ["<|endoftext|>", "", "a<|endoftext|>b" * 50, "\0", "x" * 50_000, "\u088f", " \n", "😀" * 1000]
    docs = [Document(text=text, id=f"h{number}") for number, text in enumerate(hostile)]
    run(write_corpus(tmp_path / "c", docs, parts=1), tokenizers["bpe"], tmp_path / "t", shard_tokens=1000, val="none")
    check_round_trip(tmp_path / "t", {doc.id: doc.text for doc in docs})
    index = load_index(Place(str(tmp_path / "t")))
    for shard in index.splits["train"].shards:
        tokens = open_tokens(Place(str(tmp_path / "t")) / shard.path)
        starts = {row["first_token"] for row in listed(tmp_path / "t") if row["shard"] == shard.path}
        assert set(np.flatnonzero(tokens == index.eot).tolist()) == starts, "end-of-text stands nowhere else"


def test_the_header_is_llm_c_s(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path) -> None:
    index = run(corpus, tokenizers["bpe"], tmp_path / "t").index
    raw = (tmp_path / "t" / "train-00000.bin").read_bytes()
    head = np.frombuffer(raw[:1024], dtype=np.int32)
    tokens = np.frombuffer(raw[1024:], dtype=np.uint16)
    assert head[:3].tolist() == [20240520, 1, len(tokens)]
    assert not head[3:].any()
    assert tokens[0] == index.eot
    assert index.dtype == "uint16"
    assert tokens.max() < index.vocab_size


def test_large_vocabularies_take_32_bits(corpus: Place, tmp_path: Path) -> None:
    file = pairs_vocabulary(tmp_path / "pairs.tiktoken")
    index = run(corpus, file, tmp_path / "t", pattern="gpt2").index
    assert (index.dtype, index.vocab_size) == ("uint32", 256 + 65536 + 1)
    check_round_trip(tmp_path / "t", TEXT)
    head = np.frombuffer((tmp_path / "t" / "train-00000.bin").read_bytes()[:1024], dtype=np.int32)
    assert head[:3].tolist() == [20240801, 7, index.splits["train"].tokens]
    with pytest.raises(ConfigError, match="llmc"):
        run(corpus, file, tmp_path / "n", format="nanogpt", pattern="gpt2")


def test_nanogpt_reads_its_format(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path) -> None:
    run(corpus, tokenizers["bpe"], tmp_path / "t", format="nanogpt", val="hash:0.2")
    index, encoding = load_index(Place(str(tmp_path / "t"))), load_encoding(Place(str(tmp_path / "t")))
    assert {path.name for path in (tmp_path / "t").glob("*.bin")} == {"train.bin", "val.bin"}
    found = {}
    for split in ("train", "val"):
        # As nanoGPT's get_batch opens it.
        data = np.memmap(tmp_path / "t" / f"{split}.bin", dtype=np.uint16, mode="r")
        assert len(data) == index.splits[split].tokens
        assert (data == open_shard(index, Place(str(tmp_path / "t")), index.splits[split].shards[0])).all()
        for row in (row for row in listed(tmp_path / "t") if row["split"] == split):
            ids = data[row["first_token"] : row["first_token"] + row["length"]].tolist()
            assert ids[-1] == encoding.eot
            found[row["id"]] = encoding.decode(ids[:-1])
    assert found == TEXT


def test_a_document_never_moves_between_splits(tokenizers: dict[str, Place], tmp_path: Path) -> None:
    few, many = documents(300)[:200], documents(300)[::-1]
    run(write_corpus(tmp_path / "few", few), tokenizers["bpe"], tmp_path / "a", val="hash:0.3")
    run(write_corpus(tmp_path / "many", many, 5), tokenizers["gpt2"], tmp_path / "b", val="hash:0.3", shuffle_seed=1)
    before = {row["id"]: row["split"] for row in listed(tmp_path / "a")}
    after = {row["id"]: row["split"] for row in listed(tmp_path / "b")}
    assert before == {name: split for name, split in after.items() if name in before}
    assert 60 < sum(split == "val" for split in after.values()) < 120


def test_the_tail_of_one_long_text(tokenizers: dict[str, Place], tmp_path: Path) -> None:
    text = "".join(texts(100))
    corpus = write_corpus(tmp_path / "c", [Document(text=text, id="novel")], parts=1)
    index = run(corpus, tokenizers["char"], tmp_path / "t", val="tail:0.1").index
    place, encoding = Place(str(tmp_path / "t")), load_encoding(tokenizers["char"])
    train, val = (open_shard(index, place, index.splits[name].shards[0]).tolist() for name in ("train", "val"))
    assert len(val) == round((len(text) + 1) * 0.1)
    assert train[0] == index.eot
    assert train[1:] + val == encoding.encode(text)
    assert [row["id"] for row in listed(tmp_path / "t")] == ["novel", "novel"]
    sizes = {name: index.splits[name].bytes for name in ("train", "val")}
    assert sizes == {"train": len(encoding.decode(train[1:]).encode()), "val": len(encoding.decode(val).encode())}
    assert sum(sizes.values()) == len(text.encode())


def test_validation_from_other_documents(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path) -> None:
    docs = [Document(text=text, id=f"val-{number}") for number, text in enumerate(texts(30, seed=9))]
    other = write_corpus(tmp_path / "other", docs, parts=1)
    run(corpus, tokenizers["bpe"], tmp_path / "t", val=str(other))
    check_round_trip(tmp_path / "t", TEXT | {doc.id: doc.text for doc in docs})
    assert {row["id"] for row in listed(tmp_path / "t") if row["split"] == "val"} == {doc.id for doc in docs}


def test_a_file_is_not_both_input_and_validation(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"part-00001\.parquet is among the inputs"):
        run(corpus, tokenizers["bpe"], tmp_path / "t", val=f"{corpus}/part-00001.parquet")


def test_shuffling_changes_the_order_alone(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path) -> None:
    orders = []
    for number, seed in enumerate((None, 1, 1, 2)):
        run(corpus, tokenizers["bpe"], tmp_path / str(number), shuffle_seed=seed, val="none")
        rows = sorted(listed(tmp_path / str(number)), key=lambda row: row["first_token"])
        orders.append([row["id"] for row in rows])
    assert orders[0] == sorted(TEXT)
    assert orders[1] == orders[2] != orders[3]
    assert sorted(orders[1]) == sorted(orders[3]) == orders[0]


def test_any_number_of_workers_makes_the_same_bytes(
    corpus: Place, tokenizers: dict[str, Place], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"shard_tokens": 4000, "shuffle_seed": 3, "val": "hash:0.1"}
    for workers in (1, 3):
        run(corpus, tokenizers["bpe"], tmp_path / str(workers), workers=workers, **settings)
    assert data_files(tmp_path / "1") == data_files(tmp_path / "3")


def test_finished_tokens_are_left_alone(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path) -> None:
    first = run(corpus, tokenizers["bpe"], tmp_path / "t")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "t").rglob("*")}
    again = run(corpus, tokenizers["bpe"], tmp_path / "t", workers=2)
    assert (first.fresh, again.fresh) == (True, False)
    assert again.index == first.index
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "t").rglob("*")}


def test_changes_need_rerun(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path) -> None:
    run(corpus, tokenizers["bpe"], tmp_path / "t", shard_tokens=2000)
    with pytest.raises(ChangedError, match=r"shard_tokens was 2000, is 100000000.*--rerun"):
        run(corpus, tokenizers["bpe"], tmp_path / "t")
    with pytest.raises(ChangedError, match="tokenizer has changed"):
        run(corpus, tokenizers["gpt2"], tmp_path / "t", shard_tokens=2000)
    run(corpus, tokenizers["gpt2"], tmp_path / "t", rerun=True)
    run(corpus, tokenizers["gpt2"], tmp_path / "fresh")
    assert data_files(tmp_path / "t") == data_files(tmp_path / "fresh")


def test_stopped_and_gone_on(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path) -> None:
    config = TokenizeConfig(task_bytes=10_000)
    with pytest.raises(StoppedEarly):
        tokenize([corpus], tokenizers["bpe"], Place(str(tmp_path / "t")), config, Session(stop=Stop(deadline=0)))
    run(corpus, tokenizers["bpe"], tmp_path / "t")
    run(corpus, tokenizers["bpe"], tmp_path / "whole")
    assert data_files(tmp_path / "t") == data_files(tmp_path / "whole")


DRIVER = """
import sys
from llmdata.engine.session import Session
from llmdata.storage.place import Place
from llmdata.tokenizer import TokenizeConfig, tokenize
if __name__ == "__main__":
    corpus, tokenizer, out = map(Place, sys.argv[1:])
    config = TokenizeConfig(task_bytes=10_000, shard_tokens=2000, shuffle_seed=3, val="hash:0.1")
    tokenize([corpus], tokenizer, out, config, Session(workers=2))
"""


def test_killed_at_any_moment_and_gone_on(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    out = tmp_path / "t"
    order = [sys.executable, str(driver), corpus.path, tokenizers["bpe"].path, str(out)]
    for finished_tasks in (1, 3, 5):
        process = subprocess.Popen(order, start_new_session=True)
        while process.poll() is None and len(list(out.glob(".llmdata/tasks/*.json"))) < finished_tasks:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.002)
        assert process.returncode is None, "killed before it was done"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (out / "index.json").exists()
    subprocess.run(order, check=True)
    run(corpus, tokenizers["bpe"], tmp_path / "whole", shard_tokens=2000, shuffle_seed=3, val="hash:0.1")
    assert data_files(out) == data_files(tmp_path / "whole")


def test_half_written_and_damaged_leftovers_are_made_again(
    corpus: Place, tokenizers: dict[str, Place], tmp_path: Path
) -> None:
    run(corpus, tokenizers["bpe"], tmp_path / "whole")
    out = tmp_path / "t"
    config = TokenizeConfig(task_bytes=10_000)
    with pytest.raises(StoppedEarly):
        tokenize([corpus], tokenizers["bpe"], Place(str(out)), config, Session(stop=Stop(deadline=0)))
    (out / "train-00000.bin.123.partial").write_bytes(b"half")
    (out / "train-00000.bin").write_bytes(b"from nowhere")
    run(corpus, tokenizers["bpe"], out)
    assert data_files(out) == data_files(tmp_path / "whole")


def test_who_shares_a_run_leaves_alone_what_others_are_writing(
    corpus: Place, tokenizers: dict[str, Place], tmp_path: Path
) -> None:
    workdir, out = Place.of(tmp_path), tmp_path / "t"
    run(corpus, tokenizers["bpe"], tmp_path / "whole")
    in_hand = [out / "tokenizer/tokenizer.json.other-7.partial", out / ".llmdata/state.json.other-7.partial"]
    left_behind = [out / "train-00000.bin.dead-7.partial", out / ENCODED / "00000.tokens.dead-7.partial"]
    for path in [*in_hand, *left_behind]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    with contextlib.closing(Share(workdir, 0, 1, "wait")) as share:
        session, config = Session(share=share), TokenizeConfig(task_bytes=10_000)
        for _ in range(2):  # behind each of the two lists, all is looked at again
            with pytest.raises(Again):
                tokenize([corpus], tokenizers["bpe"], Place.of(out), config, session)
        assert tokenize([corpus], tokenizers["bpe"], Place.of(out), config, session).fresh
        assert not tokenize([corpus], tokenizers["bpe"], Place.of(out), config, session).fresh
    assert [path.exists() for path in in_hand + left_behind] == [True, True, False, False]
    (made,) = manifests(Place.of(out))
    assert not [output.path for output in made.outputs if "partial" in output.path]
    in_hand[0].unlink()
    assert data_files(out) == data_files(tmp_path / "whole")


def test_a_finished_folder_that_was_damaged_is_made_again_by_those_who_share_a_run(
    corpus: Place, tokenizers: dict[str, Place], tmp_path: Path
) -> None:
    run(corpus, tokenizers["bpe"], tmp_path / "whole")
    run(corpus, tokenizers["bpe"], tmp_path / "t")
    (tmp_path / "t/train-00000.bin").unlink()
    with contextlib.closing(Share(Place.of(tmp_path), 0, 1, "wait")) as share:
        session, config = Session(share=share), TokenizeConfig(task_bytes=10_000)
        for _ in range(2):
            with pytest.raises(Again):
                tokenize([corpus], tokenizers["bpe"], Place.of(tmp_path / "t"), config, session)
        assert tokenize([corpus], tokenizers["bpe"], Place.of(tmp_path / "t"), config, session).fresh
    assert data_files(tmp_path / "t") == data_files(tmp_path / "whole")


def test_what_cannot_be_read_is_counted_and_kept(tokenizers: dict[str, Place], tmp_path: Path) -> None:
    lines = [json.dumps({"text": text, "id": f"doc-{number}"}) for number, text in enumerate(texts(5))]
    (tmp_path / "data.jsonl").write_text("\n".join([*lines[:2], "{broken", *lines[2:], '{"text": 7}']) + "\n")
    result = run(str(tmp_path / "data.jsonl"), tokenizers["bpe"], tmp_path / "t", val="none")
    assert result.rejected == 2
    assert result.index.splits["train"].documents == 5
    (found,) = manifests(Place(str(tmp_path / "t")))
    counts = found.counts["tokenize"]
    assert (counts["in"], counts["kept"], sum(counts["rejected"].values())) == (7, 5, 2)
    rows = [row for file in (tmp_path / "t" / "rejected").iterdir() for row in pq.read_table(file).to_pylist()]
    assert len(rows) == 2
    assert {row["stage"] for row in rows} == {"read"}
    again = run(str(tmp_path / "data.jsonl"), tokenizers["bpe"], tmp_path / "t", val="none")
    assert (again.rejected, again.fresh) == (2, False)


def test_damage_is_found(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path) -> None:
    index = run(corpus, tokenizers["bpe"], tmp_path / "t").index
    file = tmp_path / "t" / "train-00000.bin"
    data = bytearray(file.read_bytes())
    data[2000] ^= 1
    file.write_bytes(data)
    (tmp_path / "t" / "documents-00001.parquet").unlink()
    problems = verify_shards(index, Place(str(tmp_path / "t")))
    assert len(problems) == 2
    assert "train-00000.bin: sha256" in problems[0]
    assert "documents-00001.parquet: missing" in problems[1]


def test_tokens_carry_their_tokenizer(corpus: Place, tokenizers: dict[str, Place], tmp_path: Path) -> None:
    index = run(corpus, tokenizers["word"], tmp_path / "t").index
    encoding = load_encoding(Place(str(tmp_path / "t")))
    assert encoding.digest == index.tokenizer_digest == load_encoding(tokenizers["word"]).digest
    assert (encoding.n_vocab, encoding.eot) == (index.vocab_size, index.eot)


def test_nothing_to_tokenize(tokenizers: dict[str, Place], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no document"):
        run(write_corpus(tmp_path / "c", [], parts=1), tokenizers["bpe"], tmp_path / "t")
    with pytest.raises(InputError, match="no such file"):
        run(str(tmp_path / "absent"), tokenizers["bpe"], tmp_path / "t2")


@pytest.mark.parametrize(
    "settings",
    [{"val": "hash:0"}, {"val": "tail:1"}, {"val": "hash:x"}, {"val": ""}, {"shard_tokens": 10}, {"format": "llama"}],
)
def test_settings_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TokenizeConfig(**settings)
