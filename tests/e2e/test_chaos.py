"""Two hundred faults in all stages: the run ends with the bytes of an undisturbed one, or refused clearly until then.

`CHAOS_SEED=7 pytest -m chaos tests/e2e/test_chaos.py` repeats one trial (7,8: two); `CHAOS_TABLE=FILE` keeps the
table.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.chaos import FAKETIME, Struck, deal, faked, play, table
from tests.e2e.conftest import environment

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]
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


@pytest.mark.skipif(not FAKETIME.exists(), reason="needs libfaketime")
def test_a_faked_clock_jumps_and_nothing_else_changes(tmp_path: Path) -> None:
    clock, look = tmp_path / "clock", "import time; time.sleep(0.001); print(time.time(), time.monotonic())"
    clock.write_text("+365d\n")
    said = subprocess.run(
        [sys.executable, "-c", look], env=environment(**faked(clock)), capture_output=True, text=True, check=True
    )
    wall, monotonic = map(float, said.stdout.split())
    assert abs(wall - time.time() - 365 * 86400) < 3600
    assert abs(monotonic - time.monotonic()) < 3600


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_with_faults_ends_with_the_same_bytes(
    seed: int, recipe: Path, undisturbed: Path, tmp_path: Path, record: list[Struck]
) -> None:
    record += play(seed, HANDS[seed], recipe, undisturbed, tmp_path)
