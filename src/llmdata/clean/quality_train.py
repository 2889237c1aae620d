"""Training the classifier of stage `quality`: fastText on word bigrams, good texts against bad (arXiv 2406.11794)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from llmdata.clean.fasttext import LABEL, load_model, one_line
from llmdata.config import Count, Section
from llmdata.errors import ConfigError, InputError

if TYPE_CHECKING:
    from llmdata.engine.session import Session

_BUCKETS = 64
_HELD_OUT = 20  # one in so many


class QualityTrainConfig(Section):
    """Settings of fastText; the defaults are DCLM's bigrams on fastText's own."""

    word_n_grams: int = Field(2, ge=1, le=5)
    """Longest n-grams of words that are features."""
    dimension: int = Field(100, ge=1)
    """Size of the vectors."""
    epochs: int = Field(5, ge=1)
    """Times that every text is read."""
    learning_rate: float = Field(0.1, gt=0)
    """fastText's lr."""
    min_count: int = Field(1, ge=1)
    """Fewest occurrences of a word that is a feature."""
    buckets: Count = Field(2_000_000, ge=1)
    """Hash buckets of n-grams; the model takes 4 bytes × dimension for each."""
    documents: Count | None = Field(None, ge=1)
    """At most so many documents of each kind; null for all. DCLM: 200,000."""
    threads: int = Field(1, ge=1)
    """With 1, the same texts give the same model; more are quicker and not exactly repeatable."""


def train_quality(
    good: Sequence[str], bad: Sequence[str], out: Path, config: QualityTrainConfig, session: Session
) -> dict[str, Any]:
    """Train on the texts of `good` and `bad` (any input of `clean` but WARC), and write the model to `out`.

    Returns figures, on the twentieth of the texts that was held out. Raises ConfigError where the full fastText is not
    installed, InputError where there are too few texts.
    """
    trainer = _trainer()
    out.parent.mkdir(parents=True, exist_ok=True)
    stage = "quality train"
    session.progress.start(stage, 3, "steps")
    with tempfile.TemporaryDirectory(prefix="llmdata-", dir=out.parent) as scratch:
        held_out, counts = _write_lines(Path(scratch), {"good": good, "bad": bad}, config.documents, session)
        session.progress.advance(stage, 1)
        session.stop.check()
        try:
            model = trainer(
                input=str(Path(scratch, "train.txt")),
                wordNgrams=config.word_n_grams,
                dim=config.dimension,
                epoch=config.epochs,
                lr=config.learning_rate,
                minCount=config.min_count,
                bucket=config.buckets,
                thread=config.threads,
                verbose=0,
            )
        except RuntimeError as error:  # "Encountered NaN"
            raise InputError(
                f"quality train: fastText gave up: {error}; give more texts, a smaller learning_rate or the default "
                "dimension"
            ) from None
        made = Path(scratch, "model.bin")
        model.save_model(str(made))
        session.progress.advance(stage, 1)
        figures = _evaluate(str(made), held_out)
        made.replace(out)
    session.progress.advance(stage, 1)
    session.progress.finish(stage, **counts)
    return {"documents": counts, "held_out": figures}


def _trainer() -> Any:
    import fasttext

    trainer = getattr(fasttext, "train_supervised", None)
    if trainer is None:
        raise ConfigError(
            "quality train needs the full fastText, which a C++ compiler builds: "
            "pip install --force-reinstall --no-deps --no-binary fasttext fasttext (models are read without it)"
        )
    return trainer


def _write_lines(
    folder: Path, kinds: dict[str, Sequence[str]], limit: int | None, session: Session
) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """Write train.txt, its lines in an order that their hashes give; returns the (kind, text) held out, and counts."""
    from xxhash import xxh3_64_intdigest

    held_out, counts = [], {}
    # Training goes along the file, and must not read all good texts first. Sorted a bucket at a time, so that memory
    # holds a part of the texts only.
    buckets = [(folder / f"bucket-{number:02}").open("w", encoding="utf-8") for number in range(_BUCKETS)]
    try:
        for kind, inputs in kinds.items():
            counts[kind] = 0
            for text in _texts(inputs):
                if limit is not None and counts[kind] >= limit:
                    break
                if counts[kind] % 1000 == 0:
                    session.stop.check()
                counts[kind] += 1
                key = xxh3_64_intdigest(text.encode())
                if key % _HELD_OUT == 0:
                    held_out.append((kind, text))
                else:
                    buckets[key // _HELD_OUT % _BUCKETS].write(f"{key:016x} {LABEL}{kind} {text}")
    finally:
        for bucket in buckets:
            bucket.close()
    for kind, count in counts.items():
        if not count:
            raise InputError(f"--{kind}: there is no text in {', '.join(kinds[kind])}")
    with (folder / "train.txt").open("w", encoding="utf-8") as lines:
        for bucket in buckets:
            path = Path(bucket.name)
            lines.writelines(line[17:] for line in sorted(path.read_text("utf-8").splitlines(keepends=True)))
            path.unlink()
    return held_out, counts


def _texts(inputs: Sequence[str]) -> Iterator[str]:
    from llmdata.document import Rejection
    from llmdata.storage.inputs import plan_pieces, read_piece

    for piece in plan_pieces(inputs):
        for item in read_piece(piece):
            if isinstance(item, Rejection):
                continue
            if item.payload is not None:
                raise InputError(f"{piece.path}: pages have to become text first: llmdata clean --stages extract")
            # splitlines knows more line ends than fastText does.
            if text := " ".join(item.text.split()):
                yield one_line(text)


def _evaluate(path: str, held_out: Sequence[tuple[str, str]]) -> dict[str, Any]:
    model = load_model(path, "quality train")
    right = {"good": 0, "bad": 0}
    of = {"good": 0, "bad": 0}
    for kind, text in held_out:
        of[kind] += 1
        right[kind] += model.predict(text, 1, 0.0, "strict")[0][1] == LABEL + kind
    accuracy = sum(right.values()) / len(held_out) if held_out else None
    return {"documents": of, "right": right, "accuracy": accuracy}
