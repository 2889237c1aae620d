"""Crawling websites into WARC archives."""

from typing import TYPE_CHECKING, Any

from llmdata.crawl.config import CrawlConfig

if TYPE_CHECKING:
    from llmdata.crawl.crawler import CrawlResult, crawl

__all__ = ["CrawlConfig", "CrawlResult", "crawl"]


def __getattr__(name: str) -> Any:
    # Recipes import the settings from here: the work and its packages are loaded when first asked for.
    if name not in ("CrawlResult", "crawl"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from llmdata.crawl import crawler

    return getattr(crawler, name)
