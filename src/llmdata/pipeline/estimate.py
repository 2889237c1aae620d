"""What a run will take, from running it on a sample: time, CPU hours, memory, disk, documents and tokens.

The sample is pieces of the input, evenly spread over it. Of duplicates it sees too few, because it rarely holds both of
a pair: kept documents, tokens and disk behind a shuffle are upper bounds.
"""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from llmdata.audit.status import duration
from llmdata.engine.session import Session
from llmdata.errors import ConfigError, InputError
from llmdata.pipeline.clean import plan_input, run_clean
from llmdata.pipeline.clean_config import CleanConfig
from llmdata.pipeline.recipe import Recipe
from llmdata.pipeline.task import START
from llmdata.storage.inputs import Piece
from llmdata.storage.manifest import manifests
from llmdata.storage.parquet import row_groups
from llmdata.storage.place import Place
from llmdata.storage.token_index import TokenIndex
from llmdata.tokenizer import tokenize, train_tokenizer
from llmdata.tokenizer.config import TokenizeConfig, TokenizerConfig

if TYPE_CHECKING:
    from rich.table import Table

PIECES = 16
"""Pieces that a sample has at least, as far as the input can be cut."""
SMALLEST = 256_000
"""Bytes of a piece: below, the page or two in it would tell of themselves rather than of the input."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the whole input will take on this machine with so many workers. Sizes in bytes, times in seconds."""

    input_bytes: int
    sample_bytes: int
    sample_seconds: float
    workers: int
    seconds: float
    cpu_seconds: float
    memory: int
    """Of all processes together, at most: pages that they share are counted for each."""
    disk: int
    documents: int
    kept: int
    kept_bytes: int
    """Of text."""
    tokens: int
    vocabulary: int

    @property
    def share(self) -> float:
        """Of the input that was run."""
        return self.sample_bytes / self.input_bytes


@dataclass(frozen=True, slots=True)
class _Run:
    """What a sample took and gave."""

    bytes: int
    seconds: float
    cpu_seconds: float
    start: float
    """CPU seconds that loading models and lists took in all workers together."""
    memory: int
    disk: int
    vocabulary_files: int
    """Bytes of the tokenizer, which do not grow with the input."""
    documents: int
    kept: int
    kept_bytes: int
    tokens: int
    vocabulary: int


def estimate(recipe: Recipe, session: Session, *, share: float, least: int) -> Estimate:
    """Run the recipe's cleaning and tokenizing on `share` of its input, `least` bytes at least, in a temporary folder.

    A quarter of the sample is run before all of it: what the two take tells what grows with the input from what does
    not. Raises ConfigError if the recipe has nothing to clean, or input that only a crawl will bring.
    """
    if recipe.clean is None:
        raise ConfigError("this recipe has no clean section; what training costs is said by `llmdata plan`")
    if not recipe.clean.input:
        raise ConfigError("a crawl cannot be known before it is made: name archives with --input")
    began, imports = time.monotonic(), time.time() - psutil.Process().create_time()
    whole, tasks, pieces = _sample(recipe.clean, share, least)
    small = _run(recipe, recipe.clean, pieces[::4], session) if len(pieces) > 1 else None
    run = _run(recipe, recipe.clean, pieces, session)
    ratio = whole / run.bytes
    slope = run.seconds / run.bytes
    if small is not None and run.seconds > small.seconds:
        slope = (run.seconds - small.seconds) / (run.bytes - small.bytes)
    cpu_seconds = run.start + ratio * (run.cpu_seconds - run.start)
    # Few tasks leave workers idle: the last round of them lasts as long as a full one.
    together = tasks / math.ceil(tasks / session.workers)
    by_work = max(0.0, run.seconds - run.cpu_seconds / session.workers) + cpu_seconds / together
    return Estimate(
        input_bytes=whole,
        sample_bytes=run.bytes,
        sample_seconds=time.monotonic() - began,
        workers=session.workers,
        seconds=imports + max(run.seconds + slope * (whole - run.bytes), by_work),
        cpu_seconds=cpu_seconds,
        memory=run.memory,
        disk=run.vocabulary_files + round(ratio * run.disk),
        documents=round(ratio * run.documents),
        kept=round(ratio * run.kept),
        kept_bytes=round(ratio * run.kept_bytes),
        tokens=round(ratio * run.tokens),
        vocabulary=run.vocabulary,
    )


def _run(recipe: Recipe, config: CleanConfig, pieces: list[Piece], session: Session) -> _Run:
    """Clean and tokenize `pieces` in a folder that is gone afterwards; raises InputError if nothing of them is kept."""
    began = time.monotonic()
    size = sum(_bytes(piece) for piece in pieces)
    with tempfile.TemporaryDirectory(prefix="llmdata-estimate-") as folder:
        out = Place(folder) / "clean"
        result = run_clean(out, config, session, pieces=pieces)
        if not result.funnel["kept"]:
            raise InputError(
                f"nothing of {size / 1e6:.1f} MB was kept, so nothing can be said of the whole. Give a larger --least "
                "or --share, or look at what the recipe does with `llmdata clean --limit`."
            )
        index = _tokenize(recipe, Place(folder), session)
        tasks = [*manifests(out), *manifests(Place(folder) / "tokens")]
        splits = index.splits.values()
        vocabulary = _size(Place(folder) / "tokenizer") + _size(Place(folder) / "tokens" / "tokenizer")
        return _Run(
            bytes=size,
            seconds=time.monotonic() - began,
            cpu_seconds=sum(task.cost.get("cpu_seconds", 0.0) for task in tasks),
            start=sum(task.cost.get("stages", {}).get(START, 0.0) for task in tasks),
            memory=max(int(task.cost["peak_memory"]) for task in tasks) * session.workers + _own_memory(),
            disk=_size(Place(folder)) - vocabulary,
            vocabulary_files=vocabulary,
            documents=result.funnel["in"],
            kept=result.funnel["kept"],
            kept_bytes=sum(split.bytes for split in splits),
            tokens=sum(split.tokens for split in splits),
            vocabulary=index.vocab_size,
        )


def _size(folder: Place) -> int:
    return sum(place.size() for place in folder.walk())


def _own_memory() -> int:
    return int(psutil.Process().memory_info().rss)


def _sample(config: CleanConfig, share: float, least: int) -> tuple[int, int, list[Piece]]:
    """Bytes and tasks of the whole input; pieces spread evenly over it that hold `share` of the bytes, or `least`."""
    planned = plan_input(config)
    whole = sum(_bytes(piece) for piece in planned)
    wanted = min(whole, max(share * whole, least))
    size = min(config.task_bytes, max(SMALLEST, int(wanted / PIECES)))
    pieces = plan_input(config.model_copy(update={"task_bytes": size}))
    count = min(len(pieces), math.ceil(len(pieces) * wanted / whole))
    # From the middle of each stretch: the first of a file may be unlike the others (a warcinfo record, a header).
    return whole, len(planned), [pieces[int((number + 0.5) * len(pieces) / count)] for number in range(count)]


def _bytes(piece: Piece) -> int:
    """What a piece takes of its file; of a table, whose bounds are row groups, the file's size shared evenly."""
    if piece.format != "parquet":
        return piece.end - piece.start
    return round(piece.size * (piece.end - piece.start) / max(1, row_groups(Place.of(piece.path))))


def _tokenize(recipe: Recipe, folder: Place, session: Session) -> TokenIndex:
    documents = folder / "clean" / "final"
    train_tokenizer([documents], folder / "tokenizer", recipe.tokenizer or TokenizerConfig(), session)
    config = (recipe.tokenize or TokenizeConfig()).model_copy(update={"val": "none"})
    return tokenize([documents], folder / "tokenizer", folder / "tokens", config, session).index


def estimate_table(found: Estimate) -> Table:
    """For people: a line for each thing that a run takes or gives."""
    from rich.table import Table

    table = Table(
        title=f"From {found.sample_bytes / 1e6:,.1f} of {found.input_bytes / 1e6:,.1f} MB ({found.share:.1%}), run in "
        f"{found.sample_seconds:.0f} s",
        title_justify="left",
        show_header=False,
    )
    rows = {
        f"time with {found.workers} workers": duration(found.seconds),
        "CPU hours": f"{found.cpu_seconds / 3600:,.2f}",
        "memory, at most": f"{found.memory / 1e9:,.2f} GB",
        "disk, at most": f"{found.disk / 1e9:,.3f} GB",
        "documents in": f"{found.documents:,}",
        "documents kept, at most": f"{found.kept:,} ({found.kept / max(1, found.documents):.1%})",
        "text kept, at most": f"{found.kept_bytes / 1e9:,.3f} GB",
        f"tokens of {found.vocabulary:,}, at most": f"{found.tokens:,}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
