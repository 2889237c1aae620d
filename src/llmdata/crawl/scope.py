"""Which URLs a crawl follows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property

from llmdata import urls
from llmdata.crawl.config import CrawlConfig

_MEDIA = frozenset(
    "7z apk avi bin bmp bz2 css dmg doc docx eot epub exe flv gif gz ico iso jar jpeg jpg js json m4a m4v mkv mov mp3 "
    "mp4 mpeg mpg msi odp ods odt ogg ogv otf pdf png ppt pptx psd rar rpm svg swf tar tgz tif tiff ttf wav webm webp "
    "wmv woff woff2 xls xlsx xz zip zst".split()
)
_REPEATED = re.compile(r"(/[^/]+(?:/[^/]+)?)\1\1(?=/|$)")
_MAX_SEGMENTS = 32


class Scope:
    """The rules of one crawl, made from its configuration and seeds; asked for every link, so made to be fast."""

    def __init__(self, config: CrawlConfig, seeds: Iterable[str]) -> None:
        self._kind = config.scope
        self._max_url_length = config.max_url_length
        self._include = config.include
        self._exclude = config.exclude
        parsed = [url for url in map(urls.parse, seeds) if url is not None]
        self._hosts = frozenset(_same_host(url) for url in parsed)
        self._domains = frozenset(urls.registered_domain(url.host) for url in parsed)
        self._prefixes = tuple({_same_host(url) + url.path[: url.path.rfind("/") + 1] for url in parsed})

    @cached_property
    def _patterns(self) -> tuple[list[re.Pattern[str]], list[re.Pattern[str]]]:
        return [re.compile(text) for text in self._include], [re.compile(text) for text in self._exclude]

    def refusal(self, url: urls.Url) -> str | None:
        """Why a link to `url` is not followed; None if it is."""
        match self._kind:
            case "host" if _same_host(url) not in self._hosts:
                return "scope"
            case "domain" if urls.registered_domain(url.host) not in self._domains:
                return "scope"
            case "prefix" if not (_same_host(url) + url.path).startswith(self._prefixes):
                return "scope"
        text = str(url)
        include, exclude = self._patterns
        if include and not any(pattern.search(text) for pattern in include):
            return "include"
        if any(pattern.search(text) for pattern in exclude):
            return "exclude"
        if len(text) > self._max_url_length:
            return "url_too_long"
        if url.path.count("/") > _MAX_SEGMENTS or _REPEATED.search(url.path):
            return "trap"
        dot = url.path.rfind(".")
        if dot > url.path.rfind("/") and url.path[dot + 1 :].lower() in _MEDIA:
            return "media"
        return None


def _same_host(url: urls.Url) -> str:
    """http and https, with and without `www.`, are one website for the scope; another port is another."""
    return url.authority.removeprefix("www.")
