"""What workers of a clean run import. The fork server does it once for all of them, while the command plans."""

from __future__ import annotations

CLEAN = (
    "llmdata.pipeline.task",
    "pyarrow.parquet",
    "pyarrow.compute",
    "pandas",  # where it is installed, pyarrow imports it with the first array
    "xxhash",
    "fastwarc",
    "tldextract",
    "fasttext_pybind",
    "resiliparse.extract.html2text",
    "trafilatura",
)
"""Names of modules; one that is not installed is passed over."""
