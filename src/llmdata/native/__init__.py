"""The hottest loops in C, where a C compiler was at hand at installation (`hatch_build.py`).

Each has its counterpart in NumPy, which gives the same answers, more slowly, where there was none and where
`LLMDATA_NATIVE=0` is set; tests hold the two equal. (The trainer's is PyTorch, equal but for the last bits.) The C
looks at no Python object: it gets addresses and lengths of arrays, so that one build serves every Python.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmdata.errors import LlmdataError

if TYPE_CHECKING:
    import ctypes

    import numpy as np

LIBRARY = Path(__file__).with_name("library.so")
VERSION = 6
"""Of the interface; `version.c` says the same number."""


@cache
def library() -> ctypes.CDLL | None:
    """The C library, or None if it was not built or is switched off.

    Raises LlmdataError if what was built belongs to other sources.
    """
    if os.environ.get("LLMDATA_NATIVE") == "0" or not LIBRARY.exists():
        return None
    import ctypes

    try:
        found = ctypes.CDLL(str(LIBRARY))
    except OSError:  # built for another machine
        return None
    if found.llmdata_native_version() != VERSION:
        raise LlmdataError(f"{LIBRARY} was built from other sources; install llmdata again (pip install --editable .)")
    return found


@cache
def function(name: str, arguments: str) -> Callable[..., int] | None:
    """A C function by name, None where there is no library.

    `arguments` tells the type of each, apart by spaces: `uint64[]` is an array of that dtype, which has to be
    contiguous (TypeError), `bytes` a byte string, `int` a number. The function gives back a number.
    """
    found = library()
    if found is None:
        return None
    import ctypes

    kinds = {"int": ctypes.c_ssize_t, "bytes": ctypes.c_char_p}
    call: Callable[..., int] = getattr(found, name)
    call.argtypes = [kinds.get(kind) or _Array(kind.removesuffix("[]")) for kind in arguments.split()]  # type: ignore[attr-defined]
    call.restype = ctypes.c_ssize_t  # type: ignore[attr-defined]
    return call


class _Array:
    """How ctypes hands over an array of one dtype: as the address of its numbers."""

    def __init__(self, dtype: str) -> None:
        import ctypes

        import numpy as np

        self._dtype = np.dtype(dtype)
        self._pointer, self._byte, self._reference = ctypes.c_void_p, ctypes.c_char, ctypes.byref

    def from_param(self, array: np.ndarray[Any, Any]) -> Any:
        if array.dtype != self._dtype or not array.flags.c_contiguous:
            raise TypeError(f"wanted a contiguous array of {self._dtype}, got {array.dtype}, {array.flags}")
        if array.flags.writeable and array.size:  # a quarter of the time
            return self._reference(self._byte.from_buffer(array))  # type: ignore[arg-type]
        return self._pointer(array.__array_interface__["data"][0])
