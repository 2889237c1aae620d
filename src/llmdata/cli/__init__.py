"""The command line. One module a command, thin: parse, call, render.

The modules import nothing heavy at their top, so that `llmdata --help` stays fast: what a command needs is imported
when it runs.
"""

from __future__ import annotations

import atexit
import os
import sys

from llmdata.errors import EXIT_FAILED


def main() -> None:
    """Entry point of the console script."""
    try:
        from llmdata.cli.app import app
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    try:
        app()
    except SystemExit as end:
        if isinstance(end.code, int):
            _leave(end.code)
        raise


def _leave(code: int) -> None:
    """End the process as `sys.exit` does, but without taking the interpreter apart.

    Arrow's threads may still hold Python's files by then; one that lets go of its file while the interpreter is taken
    apart ends the process with SIGABRT after all the work is done (seen once in hundreds of commands).
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # nobody reads it, or it is a file on a full disk
            code = code or EXIT_FAILED
    os._exit(code)
