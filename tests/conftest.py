"""What all tests share."""

from __future__ import annotations

import pytest


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Bytes are named by their argument: compressed ones hold the time, and processes must agree on names of tests."""
    return argname if isinstance(val, bytes) else None
