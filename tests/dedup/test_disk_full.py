"""A disk that becomes full while keys are sorted and merged: a clear end, and the same bytes once there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llmdata.dedup import sort as module
from llmdata.dedup.config import LineDedupConfig, MinhashConfig
from llmdata.dedup.minhash import Minhash
from llmdata.dedup.passages import LineDedup
from llmdata.dedup.shuffle import Shuffle
from llmdata.dedup.sort import sorter
from llmdata.document import Document
from llmdata.engine.session import Session
from llmdata.errors import StoppedEarly
from llmdata.storage.place import Place

from .helpers import edited, text_of, write_keys


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A disk of its own; called with kilobytes, it gets that size, and what lies on it stays."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")

    def resize(kilobytes: int) -> Path:
        subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", folder], check=True)
        return folder

    yield resize
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize(
    "shuffle", [Minhash(MinhashConfig(bands=2)), LineDedup(LineDedupConfig())], ids=lambda it: it.name
)
@pytest.mark.parametrize("in_database", [True, False])
def test_it_goes_on_where_the_disk_was_full(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_disk: Callable[[int], Path],
    shuffle: Shuffle,
    in_database: bool,
) -> None:
    if in_database:
        monkeypatch.setattr(module, "SMALL", 0)
    texts = [text_of(40, seed) for seed in range(600)]
    texts += [f"{edited(text, 1, 1)}\nthe same line." for text in texts[:300]]
    docs = [Document(id=f"some-long-name-{number:06}", text=text) for number, text in enumerate(texts)]
    whole = Place.of(tmp_path / "whole")
    write_keys(shuffle, [docs[:450], docs[450:]], whole)
    shuffle.resolve(whole / "keys", whole, Session(1))
    stops, size = 0, 8
    while True:
        out = Place.of(small_disk(size) / "out")
        try:
            shuffle.resolve(whole / "keys", out, Session(1))
            break
        except StoppedEarly as stopped:
            assert "the disk is full" in str(stopped)
            assert "the same command again" in str(stopped)
            stops, size = stops + 1, size + 12
    assert stops
    for part in (whole / "drops").children():
        assert (out / "drops" / part.name).read_bytes() == part.read_bytes()
    assert sorted(place.name for place in out.children()) == [".llmdata", "drops"]


def test_a_disk_too_small_for_what_does_not_fit_into_memory(small_disk: Callable[[int], Path]) -> None:
    schema = pa.schema([("key", pa.uint64()), ("doc", pa.int64())])
    rng = np.random.default_rng(1)

    def rows(fill: bool) -> Iterator[pa.RecordBatch]:
        for at in range(0, 2_000_000, 100_000):
            keys, docs = rng.integers(0, 2**64, 100_000, dtype=np.uint64), np.arange(at, at + 100_000)
            yield pa.RecordBatch.from_arrays([pa.array(keys), pa.array(docs)], schema=schema)
            if fill and at == 1_500_000:  # somebody else takes the room that there was when the sort began
                with pytest.raises(OSError, match="No space left"):
                    (folder / "of somebody else").write_bytes(bytes(200_000_000))

    def count(fill: bool = False) -> int:
        with sorter(Place.of(folder), 20_000_000, 1) as sort:
            return sum(batch.num_rows for batch in sort.sort(rows(fill), schema, ["key", "doc"]))

    folder = small_disk(4_000)
    with pytest.raises(StoppedEarly, match=r"\.spill-\w+: the disk is full.*Make room and run the same command again"):
        count()
    assert not list(folder.iterdir())
    folder = small_disk(100_000)
    with pytest.raises(StoppedEarly, match=r"the disk is full.*No space left"):
        count(fill=True)
    (folder / "of somebody else").unlink()
    assert not list(folder.iterdir())
    assert count() == 2_000_000
