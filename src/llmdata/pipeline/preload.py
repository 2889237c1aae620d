"""What workers of a clean run import. The fork server does it once for all of them, while the command plans."""

from __future__ import annotations

from collections.abc import Sequence

_TEXTS = (
    "llmdata.pipeline.task",
    "pyarrow.parquet",
    "llmdata.storage.no_pandas",
    "numpy.ma",  # np.unique asks for it
    "xxhash",
    "fasttext_pybind",
)
_PAGES = (
    "fastwarc",
    "tldextract",
    "resiliparse.extract.html2text",
    "trafilatura",
)


def clean(stages: Sequence[str] | None) -> tuple[str, ...]:
    """Names of modules for a chain of `stages` (None: not yet known); one that is not installed is passed over."""
    pages = stages is None or not {"url", "extract"}.isdisjoint(stages)
    languages = stages is None or "language" in stages
    return _TEXTS + pages * _PAGES + languages * ("llmdata.pipeline.preload_language",)
