"""Entry point of the crawler: checks before, the loop, and what there is afterwards."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmdata import urls
from llmdata.crawl import index
from llmdata.crawl.address import is_loopback_name
from llmdata.crawl.archive import OPEN
from llmdata.crawl.config import CrawlConfig
from llmdata.crawl.frontier import Frontier
from llmdata.crawl.loop import Loop
from llmdata.crawl.ship import local_folder, shipping
from llmdata.crawl.site import serve
from llmdata.engine.session import Session
from llmdata.errors import ChangedError, ConfigError, InputError, StoppedEarly
from llmdata.storage import manifest
from llmdata.storage.lock import PRIVATE, locked
from llmdata.storage.place import Place

LEFT_OUT_LIST = "left-out.tsv"
"""URLs that were met and not captured: url, outcome (left_out or error), reason, and the page that links there."""
_LIMITS = ("seeds", "max_pages", "max_bytes", "max_time")
_MANNERS = (
    "contact", "user_agent", "delay", "max_crawl_delay", "connections", "max_connections", "timeout", "page_timeout",
    "retries", "backoff", "max_backoff", "use_proxies", "allow_private", "warc_size",
)  # fmt: skip
"""Settings that may differ when a crawl goes on; the others decide which pages it has."""


@dataclass(frozen=True, slots=True)
class CrawlResult:
    """What a crawl has. `ended` is `done`, or the limit that ended it (`max_pages`…), or `stopped`.

    `errors` and `left_out` count URLs by kind and reason; `not_followed` counts links, each page's anew. `fresh` is
    false if the crawl was finished before, and nothing was done.
    """

    ended: str
    pages: int
    bytes: int
    revisits: int
    redirects: int
    queued: int
    hosts: int
    errors: dict[str, int]
    left_out: dict[str, int]
    not_followed: dict[str, int]
    seconds: float
    warcs: list[str]
    fresh: bool = True


def crawl(config: CrawlConfig, out: Place, session: Session, *, rerun: bool = False) -> CrawlResult:
    """Crawl into the folder `out`: `*.warc.gz`, `index.cdxj`, `left-out.tsv`, `crawl.json`, `frontier.sqlite`.

    On an object store it has all but the last, which stays in the cache folder (see `crawl.ship`).

    A crawl that was stopped or killed goes on where it was, and one that is finished is left alone; `rerun` removes
    what is there and begins anew. The caller locks the folder. Raises ConfigError, ChangedError if the folder holds
    another crawl, InputError if no page could be had, StoppedEarly and Interrupted.
    """
    if out.fs is None:
        return _crawl(config, out, session, rerun)
    _check_contact(config)
    if rerun:
        for path in out.children("*.warc.gz"):
            path.remove()
    here = local_folder(out)
    manifest.save_stamp(out, "crawl", {"finished": False})
    with locked(here, f"llmdata crawl --out {out}"), shipping(here, out):
        result = _crawl(config, here, session, rerun)
    manifest.save_stamp(out, "crawl", {"finished": result.ended != "stopped"})
    return result


def _crawl(config: CrawlConfig, out: Place, session: Session, rerun: bool) -> CrawlResult:
    folder = out.local()
    _check_contact(config)
    manifest.check_stage(out, "crawl")
    folder.mkdir(parents=True, exist_ok=True)
    if rerun:
        _remove(out)
    try:
        frontier = Frontier(folder / "frontier.sqlite")
        try:
            _check_unchanged(frontier, config, folder)
            if frontier.recall("finished") == _facts(config, _LIMITS):
                return CrawlResult(**frontier.recall("result") | {"fresh": False})
            frontier.remember("finished", None)
            manifest.save_stamp(out, "crawl", {"finished": False})
            site = nullcontext("") if config.site is None else serve(config.site, folder / PRIVATE / "site", session)
            with site as base:
                ended = Loop(config, folder, session, frontier, _seeds(config, base)).run()
            result = _finish(frontier, config, folder, ended)
        finally:
            frontier.close()
    except (OSError, sqlite3.OperationalError) as error:
        if not _is_disk_full(error):
            raise
        free = shutil.disk_usage(folder).free
        raise StoppedEarly(
            f"{folder}: the disk is full ({free / 1e6:.0f} MB free). Make room and run the same command again: "
            "all captured pages are kept."
        ) from None
    if ended == "stopped":
        session.stop.check()
    facts = {"MB": round(result.bytes / 1e6, 1), "errors": sum(result.errors.values())}
    session.progress.finish("crawl", **facts)
    return result


def _finish(frontier: Frontier, config: CrawlConfig, folder: Path, ended: str) -> CrawlResult:
    """Write the index and the summary; the last act is to remember that the crawl is finished, if it is."""
    counted: dict[str, Any] = {**frontier.totals(), **frontier.counts()}
    warcs = [name for _, name, _, _ in frontier.archives()]
    result = CrawlResult(ended=ended, **counted, seconds=frontier.recall("seconds") or 0.0, warcs=warcs)
    index.write(frontier, Place.of(folder) / "index.cdxj")
    _write_left_out(frontier, Place.of(folder) / LEFT_OUT_LIST)
    (Place.of(folder) / "crawl.json").write_json(asdict(result))
    failed = frontier.unreachable() if ended == "done" and not result.pages else []
    if failed:
        frontier.queue_unreachable()
        frontier.commit()
        raise InputError(_nothing(failed, folder))
    if ended != "stopped":
        frontier.remember("result", asdict(result))
        frontier.remember("finished", _facts(config, _LIMITS))
        frontier.commit()
        manifest.save_stamp(Place.of(folder), "crawl", {"finished": True})
    return result


def _nothing(failed: list[tuple[str, str]], folder: Path) -> str:
    named = ", ".join(f"{url} ({reason})" for url, reason in failed[:5])
    more = f" and {len(failed) - 5:,} more, see {folder / LEFT_OUT_LIST}" if len(failed) > 5 else ""
    return f"no page could be had: {named}{more}. Check the addresses; the same command tries them again."


def _write_left_out(frontier: Frontier, place: Place) -> None:
    """List what was not captured. Tab-separated, and no JSON lines: a crawl's folder is input for `clean`."""
    with place.writer() as stream:
        stream.write(b"url\toutcome\treason\tfound_on\n")
        for row in frontier.not_captured():
            stream.write(("\t".join(row) + "\n").encode("utf-8", "replace"))


def _remove(out: Place) -> None:
    """Remove a crawl, so that it can begin anew; the site that it served is kept."""
    folder = out.local()
    for task in list(manifest.manifests(out)):
        manifest.forget(out, task.task)
    for pattern in ("*.warc.gz", f"*.warc.gz{OPEN}", "index.cdxj", LEFT_OUT_LIST, "frontier.sqlite*", "crawl.json"):
        for path in folder.glob(pattern):
            path.unlink()


def _is_disk_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return "disk is full" in str(error) or "disk I/O error" in str(error)


def _seeds(config: CrawlConfig, base: str) -> list[str]:
    given = config.seeds or (["/"] if config.site else [])
    joined = [urls.join(base, seed) if seed.startswith("/") else urls.join("", seed) for seed in given]
    return list(dict.fromkeys(seed for seed in joined if seed is not None))


def _check_contact(config: CrawlConfig) -> None:
    if not config.seeds and config.site is None:
        raise ConfigError("there is nothing to crawl: give seeds (addresses to start from) or a site")
    beyond = [seed for seed in config.seeds if not seed.startswith("/") and not is_loopback_name(urls.host(seed))]
    if config.contact is None and (beyond or config.scope == "any"):
        raise ConfigError(
            f"crawling {urls.host(beyond[0]) if beyond else 'with scope `any`'} needs a contact, so that its operators "
            "can reach you: --contact you@example.org, or an address of a page about your crawl"
        )


def _facts(config: CrawlConfig, keys: tuple[str, ...]) -> dict[str, Any]:
    return config.model_dump(mode="json", include=set(keys))


def _check_unchanged(frontier: Frontier, config: CrawlConfig, folder: Path) -> None:
    now = config.model_dump(mode="json", exclude={*_LIMITS, *_MANNERS})
    if now["site"]:
        del now["site"]["port"]
    before = frontier.recall("config")
    if before is None:
        frontier.remember("config", now)
        frontier.commit()
    elif before != now:
        changed = sorted(key for key in now | before if now.get(key) != before.get(key))
        raise ChangedError(
            f"{folder} holds a crawl with other settings of {', '.join(changed)}. Choose another folder, or start "
            "this one anew with --rerun."
        )
