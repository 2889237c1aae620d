"""The C library and its counterparts in NumPy: the same answers, and none of it needed."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdata import native
from llmdata.dedup.minhash import signatures

built = pytest.mark.skipif(native.library() is None, reason="no C library was built")


@built
@given(
    counts=st.lists(st.integers(1, 300), min_size=1, max_size=20),
    width=st.integers(1, 250),
    bits=st.sampled_from([32, 64]),
    seed=st.integers(0, 99),
)
def test_signatures_are_those_of_numpy(counts: list[int], width: int, bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = np.dtype(f"uint{bits}")
    hashes = rng.integers(0, 1 << bits, sum(counts), dtype, endpoint=False)
    factors = rng.integers(0, 1 << bits, width, dtype, endpoint=False)
    expected = np.array(
        [(part[:, None] * factors).min(axis=0) for part in np.split(hashes, np.cumsum(counts)[:-1])], dtype
    )
    wide = hashes if bits == 64 else hashes.astype(np.uint64) << np.uint64(32)
    assert (signatures(wide, np.array(counts), factors) == expected).all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "function", lambda *_: None)
        assert (signatures(wide, np.array(counts), factors) == expected).all()


@built
def test_an_array_of_another_type_is_refused() -> None:
    minhash = native.function("minhash_64", "uint64[] int64[] int uint64[] int uint64[]")
    assert minhash is not None
    numbers = np.ones(8, np.uint64)
    with pytest.raises(Exception, match="wanted a contiguous array of int64"):
        minhash(numbers, numbers, 1, numbers, 1, numbers)
    with pytest.raises(Exception, match="wanted a contiguous array of uint64"):
        minhash(numbers[::2], np.ones(1, np.int64), 1, numbers, 1, numbers)


def test_it_can_be_switched_off() -> None:
    asked = "from llmdata import native; print(native.library())"
    answer = subprocess.run(
        [sys.executable, "-c", asked], env={**os.environ, "LLMDATA_NATIVE": "0"}, capture_output=True, text=True
    )
    assert answer.stdout == "None\n"
