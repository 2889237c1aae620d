"""`llmdata …` that is in the middle of a list of tasks, and stays there: FOLDER STAGE ARGUMENTS."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from llmdata.cli import main
from llmdata.dedup import steps
from llmdata.engine import pool
from llmdata.engine.session import Session
from llmdata.pipeline import clean
from tests.e2e import gate

FOLDER, STAGE, *ARGUMENTS = sys.argv[1:]
run_tasks = pool.run_tasks


def held(tasks: Any, function: Callable[[Any], Any], session: Session, **options: Any) -> list[Any]:
    if options["stage"] == STAGE:
        function = partial(gate.stay, FOLDER, function)
    return run_tasks(tasks, function, session, **options)


if __name__ == "__main__":
    clean.run_tasks = steps.run_tasks = held  # type: ignore[attr-defined]
    sys.argv[:] = [sys.argv[0], *ARGUMENTS]
    main()
