"""A stage that has to see all documents: keys of each on the map side, and on the reduce side what to drop.

The pass that writes the documents writes a table of keys for each part, row for row
(`dedup/NAME/keys/part-00000.parquet`). `resolve` turns all of them into a table of drops for each part
(`dedup/NAME/drops/part-00000.parquet`), and the pass that reads the documents next applies it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from llmdata.document import Document, Rejection
from llmdata.errors import ConfigError
from llmdata.storage import manifest
from llmdata.storage.place import Place

if TYPE_CHECKING:
    import pyarrow as pa

    from llmdata.dedup.config import ShuffleConfig
    from llmdata.engine.session import Session

DUPLICATE = "duplicate"


class Shuffle(Protocol):
    """What a pass needs of such a stage. `version` grows when its decisions change."""

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def config(self) -> ShuffleConfig:
        """Its section of the recipe."""

    @property
    def schema(self) -> pa.Schema:
        """Of the key table."""

    def keys(self, docs: Sequence[Document]) -> pa.RecordBatch:
        """One row a document, in their order."""

    def resolve(self, keys: Place, out: Place, session: Session) -> None:
        """From all parts in the folder `keys` to `out/drops/part-*.parquet`; what is up to date is left as it is."""

    def load(self, drops: Place) -> Verdicts:
        """What was found of one part."""


class Verdicts(Protocol):
    """What a shuffle found of the documents of one part."""

    def apply(self, doc: Document, row: int) -> Document | Rejection:
        """The document at `row` as it stays, or why it goes."""


class DocumentShuffle(ABC):
    """A shuffle that compares whole documents. Its key table has `id`, `rank` (see `rank.ranks`) and its bands."""

    name: ClassVar[str]
    version: ClassVar[int]
    config: ShuffleConfig
    bands: tuple[tuple[str, ...], ...]
    """Documents that agree in all columns (uint64) of any of these groups are duplicates; null agrees with nothing."""
    verify: float | None = None
    """Drop a document only if it is as similar (Jaccard, by the sets in column `shingles`) to the one that stays."""

    @classmethod
    def files(cls, config: ShuffleConfig) -> list[Place]:
        """What was found by earlier runs that are compared: part of what makes this one's results."""
        return earlier_drops(config, cls.name)

    @property
    @abstractmethod
    def schema(self) -> pa.Schema: ...

    @abstractmethod
    def keys(self, docs: Sequence[Document]) -> pa.RecordBatch: ...

    def resolve(self, keys: Place, out: Place, session: Session) -> None:
        from llmdata.dedup.resolve import resolve

        resolve(self, keys, out, session)

    def load(self, drops: Place) -> Verdicts:
        return load_drops(drops, self.name)


def earlier_drops(config: ShuffleConfig, stage: str) -> list[Place]:
    """For each earlier run that `config` names, the manifest of its drops, which covers its keys too.

    Raises ConfigError if there is none.
    """
    return [manifest.path_of(shuffle_folder(Place.of(run), stage), "drops") for run in config.against]


def shuffle_folder(run: Place, stage: str) -> Place:
    """Where a finished run keeps keys and drops of a shuffle; raises ConfigError if it does not."""
    clean = clean_folder(run)
    folder = clean / "dedup" / stage
    if not (folder / "keys").is_dir() or not manifest.is_over(clean):
        raise ConfigError(
            f"{stage}.against: {run} holds no keys of a finished {stage} (with `keep: final` they are removed)"
        )
    return folder


def clean_folder(run: Place) -> Place:
    """Of a run or a clean folder: the clean folder."""
    return run / "clean" if (run / "clean").is_dir() else run


@cache
def drops_schema() -> pa.Schema:
    """Of a table of drops: the rows of one part that are in a cluster of more than one document, by row."""
    import pyarrow as pa

    return pa.schema(
        [
            ("row", pa.int64()),
            ("drop", pa.bool_()),
            ("duplicate_of", pa.string()),
            ("cluster_size", pa.int64()),
        ]
    )


class Verdict(NamedTuple):
    """On one document of a cluster; `duplicate_of` is the id of the one that stays."""

    drop: bool
    duplicate_of: str
    cluster_size: int


@dataclass(frozen=True, slots=True)
class Drops:
    """The verdicts on the documents of one part, by row; the other rows are unlike any other document."""

    stage: str
    verdicts: dict[int, Verdict]

    def apply(self, doc: Document, row: int) -> Document | Rejection:
        """Reject the document at `row`, or let it pass, with `metadata[stage]` naming the size of its cluster."""
        verdict = self.verdicts.get(row)
        if verdict is None:
            return doc
        if verdict.drop:
            return Rejection(doc, self.stage, DUPLICATE, f"duplicate of {verdict.duplicate_of}")
        doc.metadata[self.stage] = {"cluster_size": verdict.cluster_size}
        return doc


def load_drops(place: Place, stage: str) -> Drops:
    """Read the table of drops of one part, which the stage `stage` has made."""
    from llmdata.storage.parquet import open_parquet

    with place.open() as stream:
        columns: dict[str, list[Any]] = open_parquet(stream, str(place)).read().to_pydict()
    verdicts = map(Verdict, columns["drop"], columns["duplicate_of"], columns["cluster_size"])
    return Drops(stage, dict(zip(columns["row"], verdicts, strict=True)))
