"""The command line. One module a command, thin: parse, call, render.

The modules import nothing heavy at their top, so that `llmdata --help` stays fast: what a command needs is imported
when it runs.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise

from llmdata.errors import EXIT_FAILED


def main() -> None:
    """Entry point of the console script."""
    _open_streams()
    try:
        _begin(sys.argv[1:])
        from llmdata.cli.app import app
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    try:
        app()
    except SystemExit as end:
        if isinstance(end.code, int):
            _leave(end.code)
        raise
    except OSError as error:  # of the help itself: commands make messages of theirs
        print(f"llmdata: {error.filename or 'stdout'}: {error.strerror or error}", file=sys.stderr)
        _leave(EXIT_FAILED)


def _open_streams() -> None:
    """Where stdin, stdout or stderr is closed (`>&-`), put /dev/null: the next file opened would take its place."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _begin(arguments: Sequence[str]) -> None:
    """Start what workers of `llmdata clean` are forked from: it imports as long as we do, beside us."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it would look for them in every installed package
    if arguments[:1] != ["clean"] or not {"-h", "--help"}.isdisjoint(arguments):
        return
    gc.set_threshold(100_000)  # imports make little garbage: looking for it takes a twentieth of their time
    from llmdata.engine.forks import start_fork_server
    from llmdata.pipeline import preload

    stages = next((value for option, value in pairwise(_apart(arguments)) if option == "--stages"), None)
    with suppress(OSError):  # where no process can be started, the run says so
        start_fork_server(preload.clean(None if stages is None else stages.split(",")))


def _apart(arguments: Sequence[str]) -> Iterator[str]:
    """`--option=value` as `--option`, `value`."""
    for argument in arguments:
        option, equals, value = argument.partition("=")
        yield from (option, value) if equals and option.startswith("--") else (argument,)


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
