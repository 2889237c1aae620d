"""The recipes and word lists that come with the package, and where what is downloaded is kept."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(folder: str, name: str = "") -> Path:
    """Path of `folder/name` ("pipelines" or "blocklists"): inside an installed package, or at the top of a checkout."""
    inside = _PACKAGE / folder
    return (inside if inside.is_dir() else _PACKAGE.parents[1] / folder) / name


def cache_folder(name: str) -> Path:
    """Where downloaded and derived files of kind `name` are kept: $LLMDATA_CACHE, else the user's cache folder.

    It may be removed at any time; what is needed of it is made or asked for again. Not made by this.
    """
    base = os.environ.get("LLMDATA_CACHE")
    if base:
        return Path(base) / name
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmdata" / name
