"""`llmdata crawl`: from addresses to archives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmdata.cli.common import Json, MaxTime, Out, Rerun, Verbose, Workers, command, set_option
from llmdata.errors import ConfigError

if TYPE_CHECKING:
    from llmdata.crawl.config import CrawlConfig
    from llmdata.crawl.crawler import CrawlResult


def crawl(
    out: Out,
    seeds: Annotated[
        list[str] | None,
        typer.Argument(metavar="SEED", help="Addresses to start from: pages, sitemaps, feeds.", show_default=False),
    ] = None,
    seeds_file: Annotated[
        str | None, typer.Option("--seeds", help="A file of seeds, one a line; # begins a comment.", metavar="FILE")
    ] = None,
    scope: Annotated[
        str | None, typer.Option(help="host, domain, prefix or any. [default: host]", metavar="SCOPE")
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Follow only URLs that match a regular expression.", metavar="REGEX")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave out URLs that match a regular expression.", metavar="REGEX")
    ] = None,
    max_pages: Annotated[
        str | None, typer.Option(help="Pages to capture at most. [default: 100K]", metavar="N")
    ] = None,
    max_depth: Annotated[str | None, typer.Option(help="Links to follow from a seed at most.", metavar="N")] = None,
    max_bytes: Annotated[str | None, typer.Option(help="Bytes to capture, e.g. 10GB.", metavar="SIZE")] = None,
    delay: Annotated[
        str | None,
        typer.Option(help="Time between two requests to a host, e.g. 2s. [default: 1s or more]", metavar="TIME"),
    ] = None,
    connections: Annotated[
        str | None, typer.Option(help="Connections to one host at a time. [default: 1]", metavar="N")
    ] = None,
    contact: Annotated[
        str | None, typer.Option(help="Where you can be reached; required beyond this machine.", metavar="ADDRESS")
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Connect to private and loopback addresses.")
    ] = False,
    settings: Annotated[list[str] | None, set_option("crawl.timeout=30s")] = None,
    rerun: Rerun = False,
    workers: Workers = None,
    max_time: MaxTime = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Crawl websites politely into DIR/*.warc.gz.

    robots.txt and signals against indexing, mining and training are obeyed. The same command goes on after a stop, a
    kill or a crash.

    \b
    Example:
      llmdata crawl https://docs.example.org/guide/ --scope prefix --contact you@example.org --out crawl
      llmdata clean crawl/*.warc.gz --out corpus
    """
    with command(json=json, verbose=verbose, workers=workers, max_time=max_time) as (session, console):
        from dataclasses import asdict

        from llmdata.crawl.crawler import crawl as run_crawl
        from llmdata.storage.lock import locked
        from llmdata.storage.place import Place

        given = {
            "seeds": [*(seeds or []), *_seeds_of(seeds_file)],
            "scope": scope,
            "include": include,
            "exclude": exclude,
            "max_pages": max_pages,
            "max_depth": max_depth,
            "max_bytes": max_bytes,
            "delay": delay,
            "connections": connections,
            "contact": contact,
            "allow_private": allow_private or None,
        }
        config = _config(given, settings or [])
        place = Place.of(out)
        place.local()
        with locked(place, "llmdata crawl"):
            result = run_crawl(config, place, session, rerun=rerun)
        if not result.fresh:
            session.progress.note(f"{place}: finished before, nothing to do")
        console.result({"out": str(place), **asdict(result)}, _summary(result, str(place)))


def _seeds_of(path: str | None) -> list[str]:
    if path is None:
        return []
    from pathlib import Path

    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--seeds {path}: cannot read it: {error}") from None
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _config(given: dict[str, Any], settings: list[str]) -> CrawlConfig:
    """The options as settings of a recipe's crawl section, so that both are checked by the same rules."""
    import json

    from pydantic import create_model

    from llmdata.config import Section, parse
    from llmdata.crawl.config import CrawlConfig

    # JSON is YAML, and quotes whatever needs quotes; a bare number stays a number.
    overrides = [
        f"crawl.{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in given.items()
        if value not in (None, [])
    ]
    section = create_model("CrawlOptions", __base__=Section, crawl=(CrawlConfig, CrawlConfig()))
    config: CrawlConfig = parse(section, "", "the command line", [*overrides, *settings]).crawl  # type: ignore[attr-defined]
    return config


def _summary(result: CrawlResult, place: str) -> str:
    size = f"{result.pages:,} pages, {result.bytes / 1e6:,.1f} MB, {len(result.warcs)} archives"
    lines = [f"{size} in {place} ({result.seconds:,.1f} s)"]
    if result.ended != "done":
        lines.append(f"Ended by {result.ended}, with {result.queued:,} URLs in the queue.")
    counted = (("Left out", result.left_out), ("Errors", result.errors), ("Links not followed", result.not_followed))
    for name, counts in counted:
        if counts:
            lines.append(f"{name}: " + ", ".join(f"{reason} {number:,}" for reason, number in counts.items()))
    return "\n".join(lines)
