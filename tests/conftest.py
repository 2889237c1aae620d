"""What all tests share."""

from __future__ import annotations

import pytest
from hypothesis import settings

# `make test` asks the same questions each time, so that who changes one thing is told of that thing alone; `make fuzz`
# goes looking for new ones (`--hypothesis-profile=explore`).
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile("repeatable")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Bytes are named by their argument: compressed ones hold the time, and processes must agree on names of tests."""
    return argname if isinstance(val, bytes) else None
