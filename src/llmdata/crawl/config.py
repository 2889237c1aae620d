"""Settings of a crawl."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from llmdata import urls
from llmdata.config import Count, Duration, Section, Size
from llmdata.crawl.site import SiteConfig


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None
    return text


Consent = Literal["noindex", "noarchive", "nofollow", "noai", "tdm", "signals"]
Pattern = Annotated[str, AfterValidator(_pattern)]


class CrawlConfig(Section):
    """What to crawl, how politely, and what to leave out."""

    seeds: list[str] = Field(default_factory=list)
    """Addresses to start from; one that begins with `/` is a path on `site`. A sitemap or feed gives its links."""
    site: SiteConfig | None = None
    """A website to serve on this machine and crawl; without seeds the crawl starts at its `/`."""

    scope: Literal["host", "domain", "prefix", "any"] = "host"
    """How far links are followed: the seeds' hosts, their registered domains, below their folders, or anywhere."""
    include: list[Pattern] = Field(default_factory=list)
    """Regular expressions; if there are any, a URL other than a seed has to match one."""
    exclude: list[Pattern] = Field(default_factory=list)
    """Regular expressions; a URL that matches one is left out."""

    max_pages: Count | None = Field(default=100_000, ge=1)
    """Pages to capture at most; null is no limit."""
    max_host_pages: Count | None = Field(default=None, ge=1)
    """Pages to capture from one host (scheme, name and port) at most."""
    max_query_variants: Count | None = Field(default=1000, ge=1)
    """URLs to take that differ in their query alone: sorting, sessions and calendars make endless ones."""
    max_depth: int | None = Field(default=None, ge=0)
    """Links to follow from a seed at most."""
    max_bytes: Size | None = Field(default=None, ge=1)
    """Bytes of pages, as sent, after which the crawl ends."""
    max_time: Duration | None = Field(default=None, gt=0)
    """Seconds of crawling, over all resumptions, after which the crawl is done with what it has."""
    max_page_bytes: Size = Field(default=10_000_000, ge=1)
    """A page longer than this, as sent or decoded, is cut (as sent) or left out (a decompression bomb)."""
    max_url_length: int = Field(default=2000, ge=10)
    """Longer URLs are left out."""
    content_types: list[str] = Field(default_factory=lambda: ["text/html", "application/xhtml+xml", "text/plain"])
    """What to capture; other types are left out before their body is read."""

    contact: str | None = Field(default=None, pattern=r"^[!-~]+$")
    """Address or page where you can be reached, sent with each request; required beyond this machine."""
    user_agent: str = Field(default="llmdata", pattern=r"^[A-Za-z_-]+$")
    """Product name: what robots.txt knows the crawler by. Version and contact are added to it."""
    delay: Duration | None = Field(default=None, ge=0)
    """Seconds between two requests to a host, at least. null: 1 s, or twice the host's latency; 0 on this machine."""
    max_crawl_delay: Duration = Field(default=300, gt=0)
    """A host whose robots.txt asks for a longer Crawl-delay is left out."""
    connections: int | None = Field(default=None, ge=1, le=16)
    """Connections to one host at a time. null: 1; 4 on this machine."""
    max_connections: int = Field(default=32, ge=1, le=1000)
    """Connections to all hosts at a time."""
    timeout: Duration = Field(default=20, gt=0)
    """Seconds to wait for a connection, or for the next bytes of an answer."""
    page_timeout: Duration = Field(default=60, gt=0)
    """Seconds for a whole answer, however steadily it drips."""
    retries: int = Field(default=3, ge=0)
    """Times to try a page again after a network error, 408, 429 or 5xx."""
    backoff: Duration = Field(default=2, gt=0)
    """Seconds to leave a host alone after its first failure; doubled each time, up to `max_backoff`."""
    max_backoff: Duration = Field(default=300, gt=0)
    """Seconds to leave a failing host alone at most; a longer Retry-After ends what is tried of the page."""

    robots: bool = True
    """Obey robots.txt (RFC 9309)."""
    honour: list[Consent] = Field(default_factory=lambda: list(get_args(Consent)))
    """Signals to obey, in headers, meta tags, robots.txt and `/.well-known/tdmrep.json`: pages marked `noindex`,
    `noarchive` or `noai` are left out, links marked `nofollow` (alone or by their page) are not followed, nor is
    anything kept that reserves text and data mining (`tdm`) or withholds itself from training (`signals`:
    Content-Usage train-ai=n, Content-Signal ai-train=no)."""
    honour_agents: list[str] = Field(default_factory=list)
    """Other crawlers whose robots.txt rules to obey as well, e.g. CCBot and GPTBot."""

    sitemaps: bool = False
    """Fetch the sitemaps that a seed's robots.txt names, too."""

    use_proxies: bool = False
    """Go through the proxies that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name. The proxy resolves names, so that private
    addresses behind it are not kept from the crawl."""
    allow_private: bool = False
    """Connect to names that resolve to private, loopback and other inner addresses."""
    warc_size: Size = Field(default=1_000_000_000, ge=1000)
    """Bytes after which the next archive is begun."""

    @model_validator(mode="after")
    def _seeds_are_addresses(self) -> CrawlConfig:
        for seed in self.seeds:
            if seed.startswith("/") and not seed.startswith("//"):
                if self.site is None:
                    raise ValueError(f"the seed {seed} is a path, and there is no `site` that it could be on")
            elif urls.parse(seed) is None:
                raise ValueError(f"the seed {seed!r} is not an http or https address")
        return self
