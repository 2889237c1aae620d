"""The quality classifier: scores, thresholds, the best share over all parts, and training where fastText can."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmdata.clean.language import bundled_model
from llmdata.clean.quality import Quality, QualityBest, QualityBestConfig, QualityConfig
from llmdata.clean.quality_train import QualityTrainConfig, train_quality
from llmdata.document import Document, Rejection
from llmdata.engine.session import Session
from llmdata.errors import ConfigError, InputError
from llmdata.pipeline.clean import run_clean
from llmdata.pipeline.clean_config import CleanConfig
from llmdata.storage.parquet import read_documents
from llmdata.storage.place import Place

ENGLISH = "The old bridge over the river is closed to all traffic until the end of the year."
GERMAN = "Die alte Brücke über den Fluss ist bis zum Ende des Jahres für den Verkehr gesperrt."
MIXED = f"{ENGLISH} {GERMAN}"


def config(**settings: object) -> QualityConfig:
    """A model of languages tells `good` from `bad` too, where good is English."""
    return QualityConfig.model_validate({"model": bundled_model(), "label": "en", **settings})


def score(text: str) -> float:
    doc = Quality(config())(Document(text=text))
    assert isinstance(doc, Document)
    return float(doc.metadata["quality"])


def test_a_score_is_the_probability_of_the_label() -> None:
    assert score(ENGLISH) > 0.9
    assert score(GERMAN) < 0.1
    assert score("") <= 1
    assert 0 <= score("\ud800 a\0b") <= 1


def test_the_score_must_be_above_the_threshold() -> None:
    limit = score(ENGLISH)
    assert isinstance(Quality(config(threshold=limit - 1e-6))(Document(text=ENGLISH)), Document)
    found = Quality(config(threshold=limit))(Document(text=ENGLISH))
    assert isinstance(found, Rejection)
    assert (found.stage, found.reason, found.detail) == ("quality", "threshold", f"{limit:.4g} <= {limit:g}")
    assert found.document.metadata["quality"] == limit


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": None}, "llmdata quality train"),
        ({"model": "nowhere.bin"}, "there is no such file"),
        ({"model": __file__}, "not a fastText model"),
        ({"label": "good"}, "has no label 'good'"),
    ],
)
def test_a_wrong_model_is_a_clear_error(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Quality(config(**settings))


def write(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text, "id": str(n)}) + "\n" for n, text in enumerate(texts)))
    return str(path)


@pytest.mark.parametrize(("share", "kept"), [(0.1, ["7"]), (0.3, ["0", "7", "9"]), (1.0, None)])
def test_the_best_share_of_all_parts_stays(share: float, kept: list[str] | None, tmp_path: Path) -> None:
    texts = [GERMAN] * 10
    texts[7] = ENGLISH
    texts[0] = texts[9] = MIXED
    source = write(tmp_path / "texts.jsonl", [text + " " * 10_000 for text in texts])
    settings = CleanConfig(
        input=[source],
        stages=["quality", "quality_best"],
        task_bytes=20_000,
        quality=config(),
        quality_best=QualityBestConfig(share=share),
    )
    out = Place.of(tmp_path / "out")
    result = run_clean(out, settings, Session(workers=1))
    assert result.tasks > 2
    parts = sorted((out / "final").children("*.parquet"), key=lambda place: place.name)
    ids = [doc.id for part in parts for doc in read_documents(part)]
    assert ids == (kept or [str(number) for number in range(10)])
    reasons = {
        (row["stage"], row["reason"]) for part in (out / "rejected").children("*") for row in _rows(part)
    }  # fmt: skip
    assert reasons == ({("quality_best", "not_among_the_best")} if kept else set())
    assert not run_clean(out, settings, Session(workers=1)).fresh


def _rows(place: Place) -> list[dict[str, str]]:
    import pyarrow.parquet as pq

    return list(pq.read_table(str(place), columns=["stage", "reason", "detail"]).to_pylist())


def test_the_best_share_needs_scores() -> None:
    with pytest.raises(ConfigError, match="put the stage quality before it"):
        QualityBest(QualityBestConfig()).keys([Document(text="x")])


GOOD_WORDS, BAD_WORDS = "theorem proof lemma therefore hence suppose", "click buy cart offer sale cheap"


def corpus(words: str) -> list[str]:
    pool = words.split()
    return [" ".join(pool[(n * k + k) % len(pool)] for k in range(1, 30)) + f" {n}" for n in range(200)]


def test_training_tells_good_from_bad(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "good.jsonl", corpus(GOOD_WORDS)), write(tmp_path / "bad.jsonl", corpus(BAD_WORDS))
    out = tmp_path / "models" / "quality.bin"
    import fasttext

    settings = QualityTrainConfig(buckets=20_000)
    if not hasattr(fasttext, "train_supervised"):
        with pytest.raises(ConfigError, match="needs the full fastText"):
            train_quality([good], [bad], out, settings, Session(workers=1))
        assert not out.exists()
        return
    figures = train_quality([good], [bad], out, settings, Session(workers=1))
    assert figures["documents"] == {"good": 200, "bad": 200}
    assert figures["held_out"]["accuracy"] > 0.9
    first = out.read_bytes()
    train_quality([good], [bad], out, settings, Session(workers=1))
    assert out.read_bytes() == first
    assert [path.name for path in out.parent.iterdir()] == ["quality.bin"]
    judge = Quality(QualityConfig(model=str(out)))
    best = judge(Document(text="suppose the lemma, hence the proof"))
    assert isinstance(best, Document)
    assert best.metadata["quality"] > 0.5


def test_training_without_texts_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmdata.clean.quality_train._trainer", lambda: None)
    empty = write(tmp_path / "empty.jsonl", [" "])
    with pytest.raises(InputError, match="--good: there is no text"):
        train_quality([empty], [empty], tmp_path / "m.bin", QualityTrainConfig(), Session(workers=1))


def test_a_model_of_one_s_own_chooses_the_best_share_of_a_run(tmp_path: Path) -> None:
    """From `quality train` to a clean run that scores by its model and keeps the best third."""
    if not hasattr(pytest.importorskip("fasttext"), "train_supervised"):
        pytest.skip("training needs the full fastText")
    good, bad = write(tmp_path / "good.jsonl", corpus(GOOD_WORDS)), write(tmp_path / "bad.jsonl", corpus(BAD_WORDS))
    model = tmp_path / "quality.bin"
    settings = ["--set", "quality.buckets=20_000"]
    command = ["quality", "train", "--good", good, "--bad", bad, "--out", str(model), *settings]
    subprocess.run([sys.executable, "-m", "llmdata", *command], check=True)
    fresh = [text + " again" for text in corpus(GOOD_WORDS)[:20] + corpus(BAD_WORDS)[:40]]
    source, out = write(tmp_path / "fresh.jsonl", fresh), tmp_path / "out"
    chain = ["--stages", "quality,quality_best", "--set", "clean.quality_best.share=0.333"]
    chain += ["--set", f"clean.quality.model={model}"]
    subprocess.run([sys.executable, "-m", "llmdata", "clean", source, "--out", str(out), *chain], check=True)
    kept = [doc.text for path in (out / "final").iterdir() for doc in read_documents(Place.of(path))]
    assert len(kept) in (19, 20)
    assert set(kept) <= set(fresh[:20])
