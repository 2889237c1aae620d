"""Stages `quality` and `quality_best`: a fastText classifier of good against bad text, as in DCLM (arXiv 2406.11794).

`quality` writes the model's score into `metadata["quality"]`, and rejects below a threshold where one is set.
`quality_best` has to see all scores: it keeps the best share of the documents. `llmdata quality train` makes models;
any fastText model with a label for good text will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from llmdata.clean.fasttext import LABEL, load_model, one_line
from llmdata.config import Section
from llmdata.document import Document, Rejection
from llmdata.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from llmdata.engine.session import Session
    from llmdata.storage.place import Place


class QualityConfig(Section):
    """The classifier, and from which score on a document stays."""

    model: str | None = None
    """Path of a fastText model: `llmdata quality train` makes one. The stage needs it."""
    label: str = "good"
    """Its label of good text."""
    threshold: float | None = Field(None, ge=0, le=1)
    """Keep a document only if its score is above this; `null` keeps all, with their scores."""


class Quality:
    """Scores a document: the probability of the label for good text."""

    name = "quality"
    version = 1

    @staticmethod
    def files(config: QualityConfig) -> list[Path]:
        """The model; its content is part of what makes a finished task."""
        if config.model is None:
            raise ConfigError("clean.quality.model: name a fastText model; `llmdata quality train` makes one")
        path = Path(config.model)
        if not path.is_file():
            raise ConfigError(f"clean.quality.model: {path}: there is no such file; `llmdata quality train` makes one")
        return [path]

    def __init__(self, config: QualityConfig) -> None:
        self._path = str(self.files(config)[0])
        self._label = LABEL + config.label
        self._threshold = config.threshold
        labels = sorted(label for _, label in self._predict("the"))
        if self._label not in labels:
            known = ", ".join(label.removeprefix(LABEL) for label in labels)
            raise ConfigError(f"clean.quality.label: {self._path} has no label {config.label!r}; it has {known}")

    def __call__(self, doc: Document) -> Document | Rejection:
        score = next((score for score, label in self._predict(doc.text) if label == self._label), 0.0)
        # A float32; more digits would only say how this machine rounds.
        score = round(min(max(score, 0.0), 1.0), 6)
        doc.metadata["quality"] = score
        if self._threshold is not None and not score > self._threshold:
            return Rejection(doc, self.name, "threshold", f"{score:.4g} <= {self._threshold:g}")
        return doc

    def _predict(self, text: str) -> list[tuple[float, str]]:
        found: list[tuple[float, str]] = load_model(self._path, "clean.quality.model").predict(
            one_line(text), -1, 0.0, "strict"
        )
        return found


class QualityBestConfig(Section):
    """How much stays."""

    share: float = Field(0.1, gt=0, le=1)
    """Share of the documents that stay: those of the highest scores, of equals the first. DCLM keeps a tenth."""


class QualityBest:
    """Keeps the best share of all documents, by the score that the stage `quality` has given each.

    A shuffle (see `dedup.shuffle.Shuffle`): its key table holds the scores, its drops the rows that go.
    """

    name = "quality_best"
    version = 1

    def __init__(self, config: QualityBestConfig) -> None:
        self.config = config

    @cached_property
    def schema(self) -> pa.Schema:
        """Of the key table."""
        import pyarrow as pa

        return pa.schema([("score", pa.float64())])

    def keys(self, docs: Sequence[Document]) -> pa.RecordBatch:
        """The score of each document; raises ConfigError if one has none."""
        import pyarrow as pa

        scores = [doc.metadata.get("quality") for doc in docs]
        if None in scores:
            raise ConfigError("quality_best: a document has no score; put the stage quality before it")
        return pa.RecordBatch.from_arrays([pa.array(scores, pa.float64())], schema=self.schema)

    def resolve(self, keys: Place, out: Place, session: Session) -> None:
        """Find the score from which on documents stay, and write what goes of each part. 16 bytes a document."""
        import numpy as np
        import pyarrow as pa

        from llmdata.storage import manifest
        from llmdata.storage.parquet import read_batches, write_table

        parts = sorted(keys.children("part-*.parquet"), key=lambda part: (len(part.name), part.name))
        inputs = [{"path": part.name, "bytes": part.size(), "stamp": part.stamp()} for part in parts]
        fingerprint = manifest.digest([self.name, self.version, self.config.model_dump(mode="json"), inputs])
        if manifest.finished(out, "drops", fingerprint):
            return
        session.progress.start(self.name, 1, "steps")
        scores = [
            np.concatenate([np.zeros(0), *(batch.column("score").to_numpy() for batch in read_batches(part))])
            for part in parts
        ]
        every = np.concatenate([np.zeros(0), *scores])
        stay = np.zeros(len(every), bool)
        best = np.argsort(-every, kind="stable")[: round(self.config.share * len(every))]
        stay[best] = True
        limit = float(every[best[-1]]) if len(best) else 1.0
        outputs, start = [], 0
        schema = pa.schema([("row", pa.int64()), ("limit", pa.float64())])
        for part, here in zip(parts, scores, strict=True):
            gone = np.flatnonzero(~stay[start : start + len(here)])
            start += len(here)
            batch = pa.RecordBatch.from_arrays([pa.array(gone), pa.array(np.full(len(gone), limit))], schema=schema)
            path = f"drops/{part.name}"
            outputs.append(manifest.output_of(out, path, write_table(out / path, [batch], schema)))
        for place in (out / "drops").children("part-*.parquet"):
            if place.name not in {part.name for part in parts}:
                place.remove()
        manifest.Manifest("drops", fingerprint, inputs, outputs).save(out)
        session.progress.advance(self.name, 1)
        session.progress.finish(self.name, documents=len(every), kept=len(best), limit=limit)

    def load(self, drops: Place) -> Worst:
        """The rows of one part that go."""
        from llmdata.storage.parquet import read_batches

        rows: dict[int, float] = {}
        for batch in read_batches(drops):
            rows.update(zip(batch.column("row").to_pylist(), batch.column("limit").to_pylist(), strict=True))
        return Worst(self.name, rows)


@dataclass(frozen=True, slots=True)
class Worst:
    """Rows of one part that are below the best share, with the lowest score that stayed."""

    stage: str
    rows: dict[int, float]

    def apply(self, doc: Document, row: int) -> Document | Rejection:
        """Reject the document at `row`, or let it pass."""
        limit = self.rows.get(row)
        if limit is None:
            return doc
        score: Any = doc.metadata.get("quality")
        return Rejection(doc, self.stage, "not_among_the_best", f"{score:.4g}, the last that stays {limit:.4g}")
