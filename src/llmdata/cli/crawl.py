"""`llmdata crawl`: from addresses to archives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmdata.cli.common import Json, MaxTime, Out, Rerun, Verbose, Workers, command, named_by_options, set_option
from llmdata.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmdata.crawl.common_crawl import Fetched
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
    honour_agents: Annotated[
        list[str] | None,
        typer.Option(help="Obey what robots.txt says to this crawler, too, e.g. CCBot, GPTBot.", metavar="AGENT"),
    ] = None,
    sitemaps: Annotated[
        bool, typer.Option("--sitemaps", help="Fetch the sitemaps that robots.txt names, too.")
    ] = False,
    common_crawl: Annotated[
        str | None,
        typer.Option(
            help="Fetch files of Common Crawl: a list of paths (file or address), one address, or CC-MAIN-2024-10.",
            metavar="PATHS|ADDRESS",
        ),
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(help="With --common-crawl (a crawl or CDX server): captures of this domain.", metavar="DOMAIN"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="With --common-crawl: files, or captures, at most.", metavar="N")
    ] = None,
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
      llmdata crawl --common-crawl warc.paths.gz --limit 3 --contact you@example.org --out archives
      llmdata crawl --common-crawl CC-MAIN-2024-10 --domain example.org --contact you@example.org --out archives
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
            "honour_agents": honour_agents,
            "sitemaps": sitemaps or None,
        }
        if common_crawl is not None:
            _refuse(given)
        elif domain is not None or limit is not None:
            raise ConfigError("--domain and --limit go with --common-crawl")
        config = _config(given, settings or [])
        place = Place.of(out)
        if common_crawl is not None:
            place.local()
            from llmdata.crawl.common_crawl import fetch_domain, fetch_files

            with locked(place, "llmdata crawl"):
                if domain is not None:
                    done = fetch_domain(config, common_crawl, domain, place, session, limit=limit, rerun=rerun)
                else:
                    done = fetch_files(config, common_crawl, place, session, limit=limit, rerun=rerun)
            console.result({"out": str(place), **asdict(done)}, _summary_of_files(done, str(place)))
            return
        with locked(place, "llmdata crawl"):
            result = run_crawl(config, place, session, rerun=rerun)
        if not result.fresh:
            session.progress.note(f"{place}: finished before, nothing to do")
        console.result({"out": str(place), **asdict(result)}, _summary(result, str(place)))


def _refuse(given: dict[str, Any]) -> None:
    """Options of a crawl of websites say nothing about files of Common Crawl."""
    for key, value in given.items():
        if value not in (None, []) and key not in ("contact", "allow_private"):
            raise ConfigError(f"--common-crawl fetches archives that exist: leave out {key.replace('_', '-')}")


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
    options = {
        f"crawl.{key}={value if isinstance(value, str) else json.dumps(value)}": f"--{key.replace('_', '-')} {value}"
        for key, value in given.items()
        if value not in (None, [])
    }
    section = create_model("CrawlOptions", __base__=Section, crawl=(CrawlConfig, CrawlConfig()))
    with named_by_options(options):
        config: CrawlConfig = parse(section, "", "the command line", [*options, *settings]).crawl  # type: ignore[attr-defined]
    return config


def _summary(result: CrawlResult, place: str) -> str:
    size = f"{result.pages:,} pages, {result.bytes / 1e6:,.1f} MB, {len(result.warcs)} archives"
    lines = [f"{size} in {place} ({result.seconds:,.1f} s)"]
    if result.ended != "done":
        lines.append(f"Ended by {result.ended}, with {result.queued:,} URLs in the queue.")
    counted = (("Left out", result.left_out), ("Errors", result.errors), ("Links not followed", result.not_followed))
    for name, counts in counted:
        if counts:
            lines.append(f"{name}: {_listed(counts)}")
    if result.left_out or result.errors:
        lines.append(f"Each URL left out or failed is in {place}/left-out.tsv, with its reason.")
    return "\n".join(lines)


def _summary_of_files(done: Fetched, place: str) -> str:
    captures = f"{done.captures:,} captures in " if done.captures else ""
    lines = [f"{captures}{done.files:,} files, {done.bytes / 1e6:,.1f} MB in {place} ({done.fetched:,} new)"]
    for name, counts in (("Left out", done.left_out), ("Errors", done.errors)):
        if counts:
            lines.append(f"{name}: {_listed(counts)}")
    return "\n".join(lines)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {number:,}" for reason, number in counts.items())
