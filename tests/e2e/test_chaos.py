"""Two hundred faults in all stages: the run ends with the bytes of an undisturbed one, or refused clearly until then.

`CHAOS_SEED=7 pytest -m chaos tests/e2e/test_chaos.py` repeats one trial (7,8: two); `CHAOS_TABLE=FILE` keeps the
table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.chaos import Struck, deal, play, table

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
TRIALS = 40
HANDS = deal(TRIALS)
SEEDS = (
    [int(seed) for seed in os.environ["CHAOS_SEED"].split(",")] if "CHAOS_SEED" in os.environ else list(range(TRIALS))
)


@pytest.fixture(scope="module")
def record(pytestconfig: pytest.Config) -> Iterator[list[Struck]]:
    """All that struck; its table is shown when the last trial has ended."""
    struck: list[Struck] = []
    yield struck
    text = f"{table(struck)}\n\n{len(struck)} faults struck.\n"
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n{text}")
    if path := os.environ.get("CHAOS_TABLE"):
        Path(path).write_text(text)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_with_faults_ends_with_the_same_bytes(
    seed: int, recipe: Path, undisturbed: Path, tmp_path: Path, record: list[Struck]
) -> None:
    record += play(seed, HANDS[seed], recipe, undisturbed, tmp_path)
