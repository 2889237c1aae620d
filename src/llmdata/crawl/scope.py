"""Which URLs a crawl follows."""

from __future__ import annotations

import re
import time
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
# /2031/05/, /2031-05-17, ?year=2031&month=5. Four digits alone may be anything, and so may 9000-1.
_MONTH = re.compile(
    r"(?<=[/=_-])([12][0-9]{3})(?:-(?:0[1-9]|1[0-2])|/(?:0?[1-9]|1[0-2]))(?![0-9])|[?&]year=([0-9]{4})\b"
)
_CALENDAR = re.compile(r"calendar|events?\b|kalender|agenda", re.IGNORECASE)


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

    def has_host(self, url: urls.Url) -> bool:
        """Whether `url` is on a host that the crawl may visit, whatever its path."""
        match self._kind:
            case "any":
                return True
            case "domain":
                return urls.registered_domain(url.host) in self._domains
        return _same_host(url) in self._hosts

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
        if _is_far_off(text):
            return "calendar"
        dot = url.path.rfind(".")
        if dot > url.path.rfind("/") and url.path[dot + 1 :].lower() in _MEDIA:
            return "media"
        return None


def _is_far_off(text: str) -> bool:
    """Whether a URL names a month to come, or one long past in a calendar: they go on for ever in both directions."""
    months = _MONTH.findall(text)
    if not months:
        return False
    earliest = 1990 if _CALENDAR.search(text) else 0
    return any(not earliest <= int(path or query) <= time.gmtime().tm_year + 1 for path, query in months)


def _same_host(url: urls.Url) -> str:
    """http and https, with and without `www.`, are one website for the scope; another port is another."""
    return url.authority.removeprefix("www.")
