"""The recipes and word lists that come with the package."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(folder: str, name: str = "") -> Path:
    """Path of `folder/name` ("pipelines" or "blocklists"): inside an installed package, or at the top of a checkout."""
    inside = _PACKAGE / folder
    return (inside if inside.is_dir() else _PACKAGE.parents[1] / folder) / name
