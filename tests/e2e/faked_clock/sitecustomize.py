"""Python imports this at its start where the chaos suite fakes the clock: a `time.sleep` that libfaketime leaves alone.

libfaketime up to 0.9.10, told to leave the monotonic clock alone, still moves the absolute times of clock_nanosleep,
which is what sleep calls since Python 3.11: every sleep fails with EINVAL (its issue 426).
"""

import select
import time


def _sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


time.sleep = _sleep
