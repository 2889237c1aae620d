"""A command that is asked to stop, in every stage: it says so, and the same command goes on to the same bytes."""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.chaos import STAGES, Missed, Trial, compare

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

WAYS = {
    "SIGTERM": ([signal.SIGTERM], {75}, r"Stopped by SIGTERM\. The same command goes on"),
    "SIGHUP": ([signal.SIGHUP], {75}, r"Stopped by SIGHUP\. The same command goes on"),
    "Ctrl-C": ([signal.SIGINT], {130}, r"Interrupted\. The same command goes on"),
    "Ctrl-C twice": ([signal.SIGINT, signal.SIGINT], {130}, r"Interrupted\."),
}


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """The commands hear SIGHUP, even where the tests were started by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("way", WAYS)
def test_stopped_in_each_stage_it_goes_on(way: str, recipe: Path, undisturbed: Path, tmp_path: Path) -> None:
    signals, codes, message = WAYS[way]
    trial = Trial(recipe, tmp_path / "disk", False, random.Random(way))
    stopped = []
    for stage in STAGES[:-1]:
        try:
            reached = trial.reach(stage)
        except Missed:
            break
        assert trial.process is not None
        for number in signals:
            trial.process.send_signal(number)
            time.sleep(0.05)
        code, said = trial.wait()
        if code:  # else it had come to its end
            assert code in codes, f"{reached}: exit {code}: {said}"
            assert re.search(message, said), f"{reached}: {said}"
            stopped.append(reached)
    trial.finish()
    compare(trial.run, undisturbed)
    assert len(stopped) >= 4, stopped
