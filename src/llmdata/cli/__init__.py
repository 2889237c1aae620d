"""The command line. One module a command, thin: parse, call, render.

The modules import nothing heavy at their top, so that `llmdata --help` stays fast: what a command needs is imported
when it runs.
"""

from __future__ import annotations


def main() -> None:
    """Entry point of the console script."""
    try:
        from llmdata.cli.app import app
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    app()
