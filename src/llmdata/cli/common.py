"""What every command shares: options, progress on the screen, results, and how errors end."""

from __future__ import annotations

import errno
import json as jsonlib
import logging
import os
import re
import select
import sys
import time
import traceback as tracebacks
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmdata.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_UNHEARD, ConfigError, LlmdataError

if TYPE_CHECKING:
    from llmdata.cli.progress import BarProgress, LineProgress
    from llmdata.engine.session import Session

Out = Annotated[str, typer.Option("--out", "-o", help="Folder for the results (any fsspec address).", metavar="DIR")]
Json = Annotated[bool, typer.Option("--json", help="Results and progress as JSON lines, for machines.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Logs on stderr.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-w", min=1, help="Worker processes. [default: one a core]", metavar="N"),
]


def set_option(example: str) -> Any:
    """The option `--set`, with an example of the command's own section."""
    return typer.Option("--set", help=f"Change one setting, e.g. {example}. Repeatable.", metavar="KEY=VALUE")


Settings = Annotated[list[str] | None, set_option("clean.language.threshold=0.7")]
Layout = Annotated[
    str | None,
    typer.Option(help="What the input is, if several kinds lie together: warc, wet, c4, pile, …", metavar="NAME"),
]
TextColumn = Annotated[str | None, typer.Option(help="Column of the text in Parquet or JSON lines.", metavar="NAME")]
Encodings = Annotated[
    list[str],
    typer.Option("--encoding", "-e", help="gpt2, cl100k_base, …, a folder or a file. Repeatable.", metavar="NAME"),
]
Pattern = Annotated[
    str | None,
    typer.Option(
        help="For .tiktoken files that are not OpenAI's: gpt2, cl100k, o200k or an expression.", metavar="PATTERN"
    ),
]
Until = Annotated[
    str | None, typer.Option(help="Last stage: crawl, clean, tokenizer, tokenize or train.", metavar="STAGE")
]
RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe by name (fineweb, demo) or path.")]
Workdir = Annotated[str | None, typer.Option(help="Folder of the run. [default: runs/NAME]", metavar="DIR")]
MaxTime = Annotated[
    str | None,
    typer.Option("--max-time", help="Stop at a task boundary after e.g. 90s, 30m or 2h; exit code 75.", metavar="TIME"),
]
Executor = Annotated[
    str, typer.Option("--executor", help="Where tasks run: local, or ray for a Ray cluster.", metavar="local|ray")
]
RayAddress = Annotated[
    str,
    typer.Option("--ray-address", help="The cluster: an address, auto, or local to start one.", metavar="ADDRESS"),
]
Rerun = Annotated[bool, typer.Option("--rerun", help="Do changed stages, and all that follows, anew.")]


class Console:
    """Where a command's results go: text for people, or with `--json` one JSON object a line."""

    def __init__(self, json: bool) -> None:
        self.json = json

    def result(self, record: Mapping[str, Any], text: str | None = None) -> None:
        """Print `record` under `--json`, else `text`."""
        if self.json:
            _say(jsonlib.dumps(record, ensure_ascii=False, default=str) + "\n")
        elif text is not None:
            _say(f"{text}\n")

    def render(self, renderable: Any) -> None:
        """Print a rich renderable (a table, say) for people; nothing under `--json`."""
        if not self.json:
            from rich.console import Console as RichConsole

            # Piped output gets room for whole lines: a table cut to 80 columns cannot be searched.
            console = RichConsole(width=None if sys.stdout.isatty() else 140)
            with console.capture() as captured:
                console.print(renderable)
            _say(captured.get())  # rich itself would end the process where nobody reads


def _say(text: str) -> None:
    try:
        print(text, end="", flush=True)
    except OSError as error:
        error.filename = "stdout"
        raise


@contextmanager
def command(
    *,
    json: bool = False,
    verbose: bool = False,
    workers: int | None = None,
    max_time: str | None = None,
    executor: str = "local",
    ray_address: str = "auto",
) -> Iterator[tuple[Session, Console]]:
    """Run the body of a command: gives its session and console, turns errors into messages and exit codes."""
    with ends_well(json):
        from llmdata.config import parse_duration
        from llmdata.engine.session import Cluster, Session, Stop

        logging.basicConfig(
            level=logging.INFO if verbose else logging.ERROR,
            format="%(asctime)s %(name)s: %(message)s",
            stream=sys.stderr,
        )
        deadline = None
        if max_time is not None:
            try:
                deadline = time.monotonic() + float(str(parse_duration(max_time)))
            except ValueError as error:
                raise ConfigError(f"--max-time: {error}") from None
        if executor not in ("local", "ray"):
            raise ConfigError(f"--executor {executor}: choose local or ray")
        progress = _progress(json)
        session = Session(
            workers=workers if workers and executor == "local" else len(os.sched_getaffinity(0)),
            progress=progress,
            stop=Stop(deadline=deadline),
            cluster=Cluster(ray_address, workers) if executor == "ray" else None,
        )
        try:
            with ExitStack() as stack:
                if session.cluster is not None:
                    from llmdata.engine.cluster import connected

                    stack.enter_context(connected(session.cluster.address))
                stack.enter_context(session.stop.on_signals())
                yield session, Console(json)
        finally:
            progress.close()


@contextmanager
def named_by_options(options: Mapping[str, str]) -> Iterator[None]:
    """Where a setting (KEY=VALUE) of `options` is wrong, let the message name the option that it came from."""
    try:
        yield
    except ConfigError as error:
        message = str(error)
        for setting, option in options.items():
            escaped = option.replace("\\", r"\\")
            message = re.sub(re.escape(f"--set {setting}: ") + r"[\w.]+(?=: )", escaped, message)
        raise ConfigError(message) from None


@contextmanager
def ends_well(json: bool = False) -> Iterator[None]:
    """Turn errors into one message on stderr and the error's exit code."""
    try:
        yield
    except LlmdataError as error:
        _fail(json, str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail(json, "Interrupted.", EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.EIO) and _unheard():
            raise typer.Exit(EXIT_UNHEARD) from None
        logging.getLogger("llmdata").info("error of the system", exc_info=True)
        _fail(json, f"{error.filename or _where(error)}: {error.strerror or error}", EXIT_FAILED)
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        # A defect. People get one line that they can report; -v shows how it came there.
        logging.getLogger("llmdata").info("unexpected error", exc_info=True)
        message = f"{_where(error)}: unexpected {type(error).__name__}: {error} (a defect of llmdata; -v shows all)"
        _fail(json, message, EXIT_FAILED)


def _where(error: BaseException) -> str:
    """The last line of llmdata's own that `error` passed, as llmdata/MODULE.py:LINE."""
    package = os.path.dirname(os.path.dirname(__file__))
    lines = [
        f"{os.path.relpath(frame.f_code.co_filename, os.path.dirname(package))}:{number}"
        for frame, number in tracebacks.walk_tb(error.__traceback__)
        if frame.f_code.co_filename.startswith(package)
    ]
    return lines[-1]


def _unheard() -> bool:
    """Whether the reader of our output went away (`| head`, a terminal that was closed). Then nothing is wrong, and
    nothing more can be said."""
    unheard = False
    for stream in (sys.stdout, sys.stderr):
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            unheard = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return unheard


def _fail(json: bool, message: str, exit_code: int) -> None:
    if json:
        print(
            jsonlib.dumps({"event": "error", "message": message, "exit_code": exit_code}), file=sys.stderr, flush=True
        )
    else:
        print(message if exit_code == EXIT_INTERRUPTED else f"llmdata: {message}", file=sys.stderr, flush=True)
    raise typer.Exit(exit_code) from None


def _progress(json: bool) -> LineProgress | BarProgress:
    from llmdata.cli import progress

    if json:
        return progress.JsonProgress()
    return progress.BarProgress() if sys.stderr.isatty() else progress.LineProgress()
