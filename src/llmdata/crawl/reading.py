"""What is done with a fetched page away from the threads that fetch: links, consent, records.

It runs in processes of its own, because Python threads that parse would take turns with those that fetch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from llmdata import urls
from llmdata.crawl import consent, links, records
from llmdata.crawl.config import CrawlConfig
from llmdata.crawl.fetch import MAX_SITEMAP_BYTES, Answer
from llmdata.crawl.scope import Scope


@dataclass(frozen=True, slots=True)
class Link:
    """A URL for the frontier: as found, the digest of its canonical form, and the host it is on."""

    url: str
    key: bytes
    host: str
    family: bytes | None = None
    """Digest of the URL without its query, if it has one."""

    @classmethod
    def to(cls, url: urls.Url) -> Link:
        text = str(url)
        family = _digest(f"{url.scheme}://{url.authority}{url.path}") if url.query else None
        return cls(text, _digest(urls.canonical(text)), f"{url.scheme}://{url.authority}", family)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


@dataclass(slots=True)
class Reading:
    """`reason` says why the page is not kept, if it is not; `records` are its request and metadata records."""

    links: list[Link] = field(default_factory=list)
    sitemaps: list[Link] = field(default_factory=list)
    not_followed: Counter[str] = field(default_factory=Counter)
    signals: set[str] = field(default_factory=set)
    reason: str = ""
    record_id: str = ""
    response: bytes = b""
    records: bytes = b""


class Reader:
    """Reads pages by the rules of one crawl."""

    def __init__(self, config: CrawlConfig, seeds: Iterable[str]) -> None:
        self._config = config
        self._scope = Scope(config, seeds)

    def follow(self, found: list[urls.Url], depth: int, reading: Reading) -> None:
        """Put into `reading` the links that a page at `depth` may add to the frontier, and why others may not."""
        if self._config.max_depth is not None and depth >= self._config.max_depth:
            reading.not_followed["max_depth"] += len(found)
            return
        for url in found:
            refusal = self._scope.refusal(url)
            if refusal:
                reading.not_followed[refusal] += 1
            else:
                reading.links.append(Link.to(url))

    def sitemaps(self, found: Iterable[urls.Url]) -> list[Link]:
        """Those sitemaps that lie on a host of the crawl."""
        return [Link.to(url) for url in found if self._scope.has_host(url)]

    def redirect(self, answer: Answer) -> Reading:
        """Where a redirect leads, which is as deep as where it comes from."""
        reading = Reading()
        target = urls.parse(answer.location)
        refusal = "no_location" if target is None else self._scope.refusal(target)
        if target is None or refusal:
            reading.reason = f"redirect_{refusal}"
        else:
            reading.links.append(Link.to(target._replace(fragment=None, userinfo="")))
        return reading

    def read(self, answer: Answer) -> Reading:
        """Links and records of a fetched page."""
        reading = Reading(signals=set(answer.signals))
        headers = {name.lower(): value for name, value in answer.headers}
        kind = answer.media_type
        limit = MAX_SITEMAP_BYTES if answer.is_sitemap else self._config.max_page_bytes
        try:
            page = links.unpack(answer.body, headers.get("content-encoding", ""), limit)
        except links.BombError:
            reading.reason = "decompression_bomb"
            return reading
        except ValueError:
            reading.reason = "bad_encoding"
            return reading
        if kind not in self._config.content_types and kind:
            found = links.of_sitemap(answer.job.url, page)
            reading.reason = "sitemap"
            reading.sitemaps = self.sitemaps(found.sitemaps)
        elif kind == "text/plain":
            found = links.Links()
        else:
            honours = "nofollow" in self._config.honour
            found = links.of_page(answer.job.url, page, headers.get("content-type", ""), follow_nofollow=not honours)
        reading.signals |= consent.in_meta(found.meta, self._config.user_agent.lower())
        reading.reason = reading.reason or consent.refusal(reading.signals, self._config.honour) or ""
        if found.nofollow:
            reading.not_followed["nofollow"] += found.nofollow
        if "nofollow" in reading.signals and "nofollow" in self._config.honour:
            reading.not_followed["nofollow"] += len(found.links)
        else:
            self.follow(found.links, answer.job.depth, reading)
        if not reading.reason:
            self.record(answer, reading, found.links)
        return reading

    def record(self, answer: Answer, reading: Reading, found: list[urls.Url]) -> None:
        """Make the records of a page that is kept."""
        reading.response, reading.record_id = records.response(answer)
        outlinks = (str(url) for url in found)
        about = records.metadata(answer, reading.record_id, reading.signals, outlinks)
        reading.records = records.request(answer, reading.record_id) + about
