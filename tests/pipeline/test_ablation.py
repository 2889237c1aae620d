"""An ablation: equal held-out text that no corpus trains on, the same result after a stop, and a verdict on noise."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llmdata.cli.app import app
from llmdata.engine.session import Session
from llmdata.errors import ChangedError, InputError, LlmdataError
from llmdata.pipeline.corpora import AblationConfig, corpus_of, prepared
from llmdata.storage.parquet import read_batches
from llmdata.storage.place import Place
from llmdata.storage.token_index import load_index
from llmdata.train.ablation import Run, ablate, judged, student
from tests.train.corpus import SENTENCES, tiny, write_tokens
from tests.train.test_resume import At

WORDS = "the old house by the river was empty when we came back from the long road through the dark wood".split()


def texts(count: int, seed: int, junk: float = 0.0) -> list[dict[str, str]]:
    """Documents with addresses; those of one seed are the same, and `junk` is the share that is noise."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        noise = rng.random() < junk
        words = rng.choices(WORDS, k=60)
        text = "".join(rng.choices("qxzjkv 0123", k=300)) if noise else " ".join(words)
        rows.append({"id": f"{number}", "url": f"https://example.org/{seed}/{number}", "text": text})
    return rows


def write(path: Path, rows: list[dict[str, str]]) -> Place:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Place.of(path)


def read(place: Place) -> list[dict[str, Any]]:
    return [row for batch in read_batches(place) for row in batch.to_pylist()]


CONFIG = AblationConfig(tokens=2_000, val_bytes=20_000, vocab_size=300, seeds=2)


def test_held_out_text_is_drawn_equally_and_trained_on_by_none(tmp_path: Path) -> None:
    small, large = texts(300, 1), texts(2000, 2)
    # The small corpus is in the large one too: at the same addresses, and copied word for word to others.
    moved = [row | {"url": f"https://copy.example/{row['id']}"} for row in small]
    corpora = [
        corpus_of("small", write(tmp_path / "small.jsonl", small)),
        corpus_of("large", write(tmp_path / "large.jsonl", large + small[:150] + moved[150:])),
    ]
    out = Place.of(tmp_path / "out")
    config = CONFIG.model_copy(update={"tokens": 10_000_000})
    folders = prepared(corpora, out, config, Session())
    held = {name: read(out / "held-out" / f"{name}.parquet") for name in ("small", "large")}
    sizes = [sum(len(row["text"]) for row in rows) for rows in held.values()]
    assert sizes == pytest.approx([10_000, 10_000], rel=0.05)
    urls = {row["url"] for rows in held.values() for row in rows}
    contents = {row["text"] for rows in held.values() for row in rows}
    samples = []
    for name, total in (("small", 300), ("large", 2300)):
        rows = read(out / "documents" / f"{name}.parquet")
        assert not urls & {row["url"] for row in rows}
        assert not contents & {row["text"] for row in rows}
        assert len(rows) > 0.7 * total, "little else is left out"
        samples.append(sum(len(row["text"]) for row in read(out / "samples" / f"{name}.parquet")))
    assert samples[0] == pytest.approx(samples[1], rel=0.15), "the tokenizer sees as much of each"
    indexes = [load_index(folder) for folder in folders]
    assert indexes[0].tokenizer_digest == indexes[1].tokenizer_digest
    assert indexes[0].splits["val"] == indexes[1].splits["val"]
    assert indexes[0].splits["val"].bytes == sum(sizes)
    before = (out / "documents" / "large.parquet").stamp()
    prepared(corpora, out, config, Session())
    assert (out / "documents" / "large.parquet").stamp() == before, "what is done is left alone"
    with pytest.raises(ChangedError, match="val_bytes was 20000, is 30000"):
        prepared(corpora, out, config.model_copy(update={"val_bytes": 30_000}), Session())


def test_only_so_much_text_is_drawn_as_the_tokens_need(tmp_path: Path) -> None:
    corpora = [corpus_of(name, write(tmp_path / f"{name}.jsonl", texts(2000, seed))) for seed, name in enumerate("ab")]
    out = Place.of(tmp_path / "out")
    given = write(tmp_path / "val.jsonl", texts(30, 0)[:20] + texts(50, 9))
    prepared(corpora, out, CONFIG.model_copy(update={"val": str(given)}), Session())
    rows = read(out / "documents" / "a.parquet")
    assert sum(len(row["text"]) for row in rows) == pytest.approx(16_000, rel=0.3)
    assert not {row["url"] for row in rows} & {row["url"] for row in texts(30, 0)[:20]}
    assert len(read(out / "held-out" / "+val.parquet")) == 70


def test_a_corpus_with_nothing_left_is_told(tmp_path: Path) -> None:
    corpora = [corpus_of(name, write(tmp_path / f"{name}.jsonl", texts(3, seed))) for seed, name in enumerate("ab")]
    with pytest.raises(InputError, match="corpus a: no text to train on"):
        prepared(corpora, Place.of(tmp_path / "out"), CONFIG, Session())


def run_of(corpus: str, seed: int, bits: float) -> Run:
    return Run(corpus, seed, "", 100, 1.0, 1.0, bits)


@pytest.mark.parametrize(
    ("a", "b", "beyond"),
    [
        ([1.00, 1.01, 1.02], [1.10, 1.11, 1.12], True),
        ([1.00, 1.05, 1.10], [1.04, 1.09, 1.14], False),
        ([1.0], [1.5], None),
        ([1.0, 1.0], [1.0, 1.0], False),
        ([1.0, 1.0], [1.1, 1.1], True),
    ],
)
def test_a_difference_is_judged_by_its_noise(a: list[float], b: list[float], beyond: bool | None) -> None:
    runs = [run_of(name, seed, bits) for name, found in (("a", a), ("b", b)) for seed, bits in enumerate(found)]
    one = judged(runs, 1000).differences[0]
    assert one.beyond_noise is beyond
    assert one.difference == pytest.approx(sum(b) / len(b) - sum(a) / len(a))


def test_welchs_interval_is_the_published_one() -> None:
    """Welch's test of R's own `sleep` data: a difference of 1.58 with 95 % from -0.2054832 to 3.3654832."""
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    runs = [run_of(name, i, bits) for name, found in (("one", one), ("two", two)) for i, bits in enumerate(found)]
    found = judged(runs, 1).differences[0]
    assert (found.difference, found.error) == pytest.approx((1.58, 0.849091), abs=1e-4)
    assert (found.low, found.high) == pytest.approx((-0.2054832, 3.3654832), abs=1e-2)
    assert student(17.7765) == student(17), "of 17.8 degrees of freedom, 17 count: a little wider"


def test_stopped_and_gone_on_with(tmp_path: Path) -> None:
    import signal

    folder = Place.of(tmp_path / "tokens")
    write_tokens(folder, SENTENCES * 4)
    corpora = [("a", folder), ("b", folder)]
    base = tiny(loop={"steps": 1})
    whole, cut = Place.of(tmp_path / "whole"), Place.of(tmp_path / "cut")
    result = ablate(corpora, whole, base, 2_560, 2, Session())
    assert result.scores[0].mean == result.scores[1].mean, "the same tokens and seeds are the same models"
    assert not result.differences[0].beyond_noise
    assert result.runs[0].bits_per_byte != result.runs[1].bits_per_byte, "seeds differ"
    for step in (3, 25):
        session = Session()
        session.progress = At(step, lambda: setattr(session.stop, "signal", signal.SIGTERM))  # noqa: B023
        with pytest.raises(LlmdataError):
            ablate(corpora, cut, base, 2_560, 2, session)
    assert ablate(corpora, cut, base, 2_560, 2, Session()) == result
    for name in ("ablation.json", "ablation.svg"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()


def test_the_command_finds_the_corpus_with_noise_in_it(tmp_path: Path) -> None:
    write(tmp_path / "good.jsonl", texts(150, 1))
    write(tmp_path / "bad.jsonl", texts(150, 1, junk=0.6))
    write(tmp_path / "val.jsonl", texts(20, 5))
    (tmp_path / "tiny.yaml").write_text(tiny(loop={"steps": 1}).model_dump_json())
    out = tmp_path / "out"

    def run(*options: str) -> Any:
        corpora = ["--corpus", str(tmp_path / "good.jsonl"), "--corpus", str(tmp_path / "bad.jsonl")]
        fixed = ["--model", str(tmp_path / "tiny.yaml"), "--vocab-size", "300", "--val", str(tmp_path / "val.jsonl")]
        return CliRunner().invoke(app, ["ablate", *corpora, *fixed, "-o", str(out), *options])

    result = run("--tokens", "15K", "--seeds", "2")
    assert result.exit_code == 0, result.output
    assert "bad is" in result.stdout
    assert "worse than good" in result.stdout
    record = json.loads((out / "ablation.json").read_text())
    assert [run["corpus"] for run in record["runs"]] == ["good", "good", "bad", "bad"]
    assert record["differences"][0]["difference"] > 0
    states = CliRunner().invoke(app, ["status", str(out), "--json"])
    stages = {json.loads(line)["stage"]: json.loads(line)["state"] for line in states.stdout.splitlines()}
    assert set(stages.values()) == {"done"}
    assert {"tokenizer", "tokenized/good", "models/bad-1"} <= set(stages)
    assert CliRunner().invoke(app, ["inspect", str(out)]).exit_code == 0
    assert CliRunner().invoke(app, ["inspect", str(out), "--verify"]).exit_code == 0
    assert run("--tokens", "x").exit_code == 2
    assert run("--tokens", "15K", "--names", "a").exit_code == 2
    assert run("--tokens", "15K", "--names", "a,../b").exit_code == 2
    assert "--rerun" in run("--tokens", "9K").output
