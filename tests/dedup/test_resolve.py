"""From keys to drops: who stays, whatever the parts, the workers, the memory, and the kills."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from llmdata.dedup.config import ExactDedupConfig, LineDedupConfig, MinhashConfig, UrlDedupConfig
from llmdata.dedup.exact import ExactDedup, UrlDedup
from llmdata.dedup.minhash import Minhash
from llmdata.dedup.passages import LineDedup
from llmdata.dedup.rank import microseconds
from llmdata.dedup.shuffle import Drops, Shuffle, Verdict, drops_schema, load_drops
from llmdata.document import Document, Rejection
from llmdata.engine.session import Session, Stop
from llmdata.errors import ConfigError, InputError, StoppedEarly
from llmdata.storage.parquet import write_table
from llmdata.storage.place import Place

from .helpers import cut, dropped, edited, resolved, text_of, verdicts, write_keys


def corpus(size: int = 300) -> list[Document]:
    """Texts of which a third are near-duplicates of an earlier one, in two dumps."""
    rng = random.Random(7)
    texts: list[str] = []
    for number in range(size):
        source = rng.choice(texts) if texts and number % 3 == 0 else None
        texts.append(edited(source, 2, number) if source else text_of(60 + number % 50, number))
    return [Document(id=f"d{n}", text=text, dump=f"dump-{n % 2}") for n, text in enumerate(texts)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("keep", "stays"), [("longest", "long"), ("newest", "new"), ("first", "early")])
def test_keep_rules(tmp_path: Path, keep: str, stays: str) -> None:
    url = "https://example.com/"
    docs = [
        Document(id="early", text="a", url=url, date="2020-01-01T00:00:00Z"),
        Document(id="undated", text="aa", url=url),
        Document(id="long", text="aaaaaa", url=url, date="2019-01-01T00:00:00Z"),
        Document(id="new", text="aaa", url=url, date="2021-06-01T00:00:00Z"),
        Document(id="equal", text="aaaaaa", url=url, date="2021-06-01T02:00:00+02:00"),
        Document(id="other", text="a", url="https://example.org/"),
    ]
    shuffle = UrlDedup(UrlDedupConfig(keep=keep))  # type: ignore[arg-type]
    for name, parts in (("one", [docs]), ("many", [[doc] for doc in docs])):
        found = resolved(shuffle, parts, tmp_path / name)
        assert {name for name, verdict in found.items() if not verdict.drop} == {stays}
        assert set(dropped(found).values()) == {stays}
        assert {verdict.cluster_size for verdict in found.values()} == {5}
        assert "other" not in found


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("", "1970-01-01"),
        ("not a date", "0001-01-01"),
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00.5Z"),
        ("2020-01-01T12:00:00+14:00", "2020-01-01"),
        ("20200101000000", "2020-01-01T00:00:01Z"),
        ("9999-99-99", "2020-01-01"),
    ],
)
def test_order_of_dates(older: str, newer: str) -> None:
    assert microseconds(older) < microseconds(newer)


@pytest.mark.parametrize(
    "shuffle_of",
    [lambda scope: ExactDedup(ExactDedupConfig(scope=scope)), lambda scope: Minhash(MinhashConfig(scope=scope))],
)
def test_scope(tmp_path: Path, shuffle_of: object) -> None:
    text = text_of(100, 1)
    docs = [Document(id=f"{dump}{n}", text=text, dump=dump) for n in range(2) for dump in ("x", "y", "")]
    within = dropped(resolved(shuffle_of("dump"), cut(docs, 2), tmp_path / "dump"))  # type: ignore[operator]
    assert within == {"x1": "x0", "y1": "y0", "1": "0"}
    over_all = dropped(resolved(shuffle_of("all"), cut(docs, 2), tmp_path / "all"))  # type: ignore[operator]
    assert over_all == dict.fromkeys(["y0", "0", "x1", "y1", "1"], "x0")


@pytest.mark.parametrize("verify", [None, 0.6])
def test_parts_and_workers_do_not_matter(tmp_path: Path, verify: float | None) -> None:
    docs = corpus()
    shuffle = Minhash(MinhashConfig(verify_jaccard=verify))
    expected = resolved(shuffle, [docs], tmp_path / "one")
    assert len(dropped(expected)) > 30
    for name, parts in (
        ("three", cut(docs, 100, 250)),
        ("odd", cut(docs, 0, 1, 1, 299)),
        ("each", cut(docs, *range(1, 300, 9))),
    ):
        assert resolved(shuffle, parts, tmp_path / name, workers=3) == expected
    again = tmp_path / "again"
    resolved(shuffle, cut(docs, 100, 250), again, workers=1)
    assert files(again / "drops") == files(tmp_path / "three" / "drops")


@pytest.mark.parametrize(
    "shuffle", [Minhash(MinhashConfig(bands=3)), LineDedup(LineDedupConfig())], ids=["bands", "lines"]
)
def test_steps_in_workers_make_the_same_bytes(
    tmp_path: Path, shuffle: Shuffle, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = corpus(200)
    for n, doc in enumerate(docs):
        doc.text += f"\nline {n % 7}\nand {n}\nline {n % 7}"
    monkeypatch.setattr("llmdata.dedup.repeats.BUCKET", 300)
    for name, few in (("here", 1 << 30), ("workers", 0)):
        monkeypatch.setattr("llmdata.dedup.steps.FEW", few)
        out = Place.of(tmp_path / name)
        write_keys(shuffle, cut(docs, 90), out)
        (tmp_path / name / ".spill-left-by-a-kill").mkdir()
        shuffle.resolve(out / "keys", out, Session(2))
        assert sorted(place.name for place in out.children()) == [".llmdata", "drops", "keys"]
    assert files(tmp_path / "here" / "drops") == files(tmp_path / "workers" / "drops")
    assert len(files(tmp_path / "here" / "drops")) == 2


def test_nothing_to_compare(tmp_path: Path) -> None:
    shuffle = Minhash(MinhashConfig())
    assert resolved(shuffle, [], tmp_path / "no parts") == {}
    assert resolved(shuffle, [[], []], tmp_path / "empty parts") == {}
    assert resolved(shuffle, [[Document(id="a", text="")]], tmp_path / "no keys") == {}


def test_storage_may_be_anywhere(tmp_path: Path) -> None:
    docs, shuffle = corpus(60), Minhash(MinhashConfig())
    address = "memory://dedup-test"
    try:
        assert resolved(shuffle, cut(docs, 20), address) == resolved(shuffle, [docs], tmp_path)
    finally:
        Place.of(address).remove()


def test_finished_work_is_left_alone_and_changed_keys_are_not(tmp_path: Path) -> None:
    docs, out = corpus(60), Place.of(tmp_path)
    shuffle = Minhash(MinhashConfig())
    resolved(shuffle, cut(docs, 20, 40), tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    shuffle.resolve(out / "keys", out, Session())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps
    assert not (tmp_path / "edges").exists()

    (out / "keys" / "part-00002.parquet").remove()
    shorter = cut(docs[:40], 20)
    write_keys(shuffle, shorter, out)
    shuffle.resolve(out / "keys", out, Session())
    assert [place.name for place in (out / "drops").children()] == ["part-00000.parquet", "part-00001.parquet"]
    assert verdicts(shuffle, shorter, out) == resolved(shuffle, [docs[:40]], tmp_path / "fresh")

    (out / "drops" / "part-00001.parquet").remove()
    shuffle.resolve(out / "keys", out, Session())
    assert verdicts(shuffle, shorter, out) == resolved(shuffle, [docs[:40]], tmp_path / "fresh")


def test_stops_between_bands(tmp_path: Path) -> None:
    out, shuffle, stop = Place.of(tmp_path), Minhash(MinhashConfig()), Stop()
    write_keys(shuffle, [corpus(30)], out)

    class StopAfterThree:
        def advance(self, stage: str, count: int, **facts: object) -> None:
            self.done = getattr(self, "done", 0) + 1
            if self.done == 3:
                stop.signal = signal.SIGTERM

        def start(self, stage: str, total: int | None, unit: str) -> None: ...
        def finish(self, stage: str, **facts: object) -> None: ...
        def note(self, message: str) -> None: ...

    with pytest.raises(StoppedEarly):
        shuffle.resolve(out / "keys", out, Session(1, StopAfterThree(), stop))
    edges = {place.path: place.stamp() for place in (out / "edges").children()}
    assert len(edges) == 3
    assert not (out / "drops").exists()


KILLED = """
import os, signal, sys
from llmdata.dedup.config import MinhashConfig
from llmdata.dedup.minhash import Minhash
from llmdata.engine.session import Session, Silent
from llmdata.storage import place

out, moment = place.Place.of(sys.argv[1]), int(sys.argv[2])
writes = 0
rename = os.replace

def replace(source, target):
    # Every file appears by a rename: dying before the n-th leaves a half-written one.
    global writes
    writes += 1
    if writes == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)

os.replace = replace
Minhash(MinhashConfig()).resolve(out / "keys", out, Session(2))
"""


def test_killed_and_resumed_gives_the_same_bytes(tmp_path: Path) -> None:
    """A run makes two files a band, one a part, and a last manifest; it dies in each of these phases."""
    parts, shuffle = cut(corpus(90), 30, 60), Minhash(MinhashConfig())
    resolved(shuffle, parts, tmp_path / "whole")
    out = Place.of(tmp_path / "killed")
    write_keys(shuffle, parts, out)
    for moment in (4, 17, 9, 3):
        ended = subprocess.run([sys.executable, "-c", KILLED, out.path, str(moment)], check=False)
        assert ended.returncode == -signal.SIGKILL
    shuffle.resolve(out / "keys", out, Session(1))
    assert files(tmp_path / "killed" / "drops") == files(tmp_path / "whole" / "drops")
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".partial")]
    assert not (tmp_path / "killed" / "edges").exists()


IN_WORKERS = """
import sys
from llmdata.dedup import steps
from llmdata.dedup.config import MinhashConfig
from llmdata.dedup.minhash import Minhash
from llmdata.engine.session import Session
from llmdata.storage.place import Place

if __name__ == "__main__":
    steps.FEW = 0
    out = Place.of(sys.argv[1])
    Minhash(MinhashConfig()).resolve(out / "keys", out, Session(2))
"""


def test_killed_while_workers_sort_bands_gives_the_same_bytes(tmp_path: Path) -> None:
    parts, shuffle = cut(corpus(90), 30, 60), Minhash(MinhashConfig())
    resolved(shuffle, parts, tmp_path / "whole")
    out = Place.of(tmp_path / "killed")
    write_keys(shuffle, parts, out)
    (tmp_path / "script.py").write_text(IN_WORKERS)
    for bands in (1, 4, 7):
        process = subprocess.Popen([sys.executable, tmp_path / "script.py", out.path], start_new_session=True)
        while process.poll() is None and len(list((tmp_path / "killed/edges").glob("band-*.parquet"))) < bands:
            pass
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    shuffle.resolve(out / "keys", out, Session(1))
    assert files(tmp_path / "killed" / "drops") == files(tmp_path / "whole" / "drops")
    assert not (tmp_path / "killed" / "edges").exists()


def test_too_little_memory_is_said_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmdata.dedup.resolve.BYTES_A_DOCUMENT", 10_000_000)
    shuffle = ExactDedup(ExactDedupConfig(memory="600MB"))
    with pytest.raises(
        ConfigError, match="exact_dedup: to compare 60 documents takes 1,021 MB of memory, 600 MB are given"
    ):
        resolved(shuffle, [corpus(60)], tmp_path)


def test_a_damaged_key_table_is_named(tmp_path: Path) -> None:
    out, shuffle = Place.of(tmp_path), ExactDedup(ExactDedupConfig())
    write_keys(shuffle, [corpus(10)], out)
    (out / "keys" / "part-00001.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="part-00001"):
        shuffle.resolve(out / "keys", out, Session())


SORTED = """
import resource, sys
import duckdb, numpy as np, pyarrow as pa
from llmdata.dedup.sort import sorter
from llmdata.storage.place import Place

schema, folder = pa.schema([("key", pa.uint64()), ("doc", pa.int64())]), Place.of(sys.argv[1])
spilled = 0

def rows():
    global spilled
    rng = np.random.default_rng(1)
    for at in range(0, 8_000_000, 100_000):
        docs = np.arange(at, at + 100_000)
        keys = rng.integers(0, 2**64, 100_000, dtype=np.uint64)
        yield pa.RecordBatch.from_arrays([pa.array(keys), pa.array(docs)], schema=schema)
    spilled = sum(file.size() for spill in folder.children() for file in spill.walk())

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
last, count = -1, 0
with sorter(folder, 60_000_000, 2) as sort:
    for batch in sort.sort(rows(), schema, ["key", "doc"]):
        keys = batch.column(0).to_numpy()
        assert last <= int(keys[0]) and (keys[:-1] <= keys[1:]).all()
        last, count = int(keys[-1]), count + len(keys)
assert count == 8_000_000
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000, spilled // 1_000_000)
"""


def test_memory_bound(tmp_path: Path) -> None:
    """8 million rows of 16 bytes within 60 MB: the rest is on disk while it sorts, and gone afterwards."""
    ended = subprocess.run([sys.executable, "-c", SORTED, tmp_path], capture_output=True, text=True, check=True)
    grown, spilled = map(int, ended.stdout.split())
    assert grown < 110  # the bound, the code of DuckDB, and batches on their way
    assert spilled > 40
    assert not list(tmp_path.iterdir())


def test_apply(tmp_path: Path) -> None:
    drops = Drops("minhash", {0: Verdict(False, "a", 3), 2: Verdict(True, "a", 3)})
    first, second, third = (Document(id=name, text=name) for name in "abc")
    assert drops.apply(first, 0) is first
    assert first.metadata == {"minhash": {"cluster_size": 3}}
    assert drops.apply(second, 1) is second
    assert second.metadata == {}
    rejection = drops.apply(third, 2)
    assert rejection == Rejection(third, "minhash", "duplicate", "duplicate of a")
    table = pa.RecordBatch.from_pylist(
        [{"row": row, **verdict._asdict()} for row, verdict in drops.verdicts.items()], schema=drops_schema()
    )
    write_table(Place.of(tmp_path) / "part-00000.parquet", [table], drops_schema())
    assert load_drops(Place.of(tmp_path) / "part-00000.parquet", "minhash") == drops
