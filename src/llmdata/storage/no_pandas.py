"""Imported for what it does: pyarrow looks for pandas with its first array, and behind this import has found none.

Where pandas is installed, importing it takes as long as all that we need together. For processes of ours alone: their
arrays come from Python and NumPy. Who imports pandas later gets it.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any

import pyarrow as pa


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pyarrow does without", name=fullname)


if "pandas" not in sys.modules:
    sys.meta_path.insert(0, finder := _NoPandas())
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(finder)
