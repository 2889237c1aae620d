"""Stage `extract`: from a page's HTML to its main text."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from llmdata.clean.decode import decode
from llmdata.config import Count, Section, Size
from llmdata.document import Document, Rejection
from llmdata.storage.source import sound


class ExtractConfig(Section):
    """How pages become text; the defaults are FineWeb's (arXiv 2406.17557, section 3.1)."""

    extractor: Literal["llmdata", "trafilatura", "resiliparse", "plain"] = "trafilatura"
    """llmdata (our own) finds the main text best and is fast; trafilatura is FineWeb's, resiliparse DCLM's; plain takes
    all text."""
    favor_precision: bool = True
    """Prefer less text but sure to be the article's (trafilatura only)."""
    favor_recall: bool = False
    """When unsure, prefer more text (trafilatura only)."""
    fast: bool = False
    """Skip the second opinions that trafilatura asks for when it finds little text (trafilatura only)."""
    deduplicate: bool = True
    """Drop text segments that the page has shown twice already (trafilatura only)."""
    include_comments: bool = False
    """Keep readers' comments (trafilatura and resiliparse)."""
    include_tables: bool = True
    """Keep the text of tables."""
    plain_text: bool = False
    """Also take pages served as text/plain, as they are; else they are rejected."""
    max_bytes: Size = Field(default=20_000_000, gt=0)
    """Reject pages of more bytes. trafilatura itself takes no more than 20 MB."""
    max_tags: Count = Field(default=200_000, gt=0)
    """Reject pages with more tags; 200,000 take trafilatura some 10 s and 300 MB."""

    @model_validator(mode="after")
    def _no_idle_setting(self) -> ExtractConfig:
        if self.favor_precision and self.favor_recall:
            raise ValueError("favor_precision and favor_recall exclude each other; set one of them to false")
        idle = {
            "llmdata": {"favor_precision", "favor_recall", "fast", "deduplicate", "include_comments"},
            "trafilatura": set(),
            "resiliparse": {"favor_precision", "favor_recall", "fast", "deduplicate"},
            "plain": {"favor_precision", "favor_recall", "fast", "deduplicate", "include_comments"},
        }[self.extractor]
        # A recipe may spell a default out, and another extractor be named on the command line.
        defaults = type(self).model_fields
        if given := sorted(name for name in idle if getattr(self, name) != defaults[name].default):
            raise ValueError(f"the extractor {self.extractor} has no {', '.join(given)}")
        return self


def _llmdata(html: str, url: str, config: ExtractConfig) -> str:
    from llmdata.clean.extractor import main_text

    return main_text(html, url, tables=config.include_tables)


def _trafilatura(html: str, url: str, config: ExtractConfig) -> str:
    extract, cache_of = _load_trafilatura()
    text = extract(
        html,
        favor_precision=config.favor_precision,
        favor_recall=config.favor_recall,
        fast=config.fast,
        include_comments=config.include_comments,
        include_tables=config.include_tables,
        # With True, segments seen on earlier pages count too, and the result depends on the order of pages.
        deduplicate=cache_of(maxsize=4096) if config.deduplicate else False,
    )
    return text or ""


@cache
def _load_trafilatura() -> tuple[Callable[..., str | None], Callable[..., Any]]:
    from trafilatura import extract
    from trafilatura.deduplication import LRUCache

    # It logs an error for every page without text; that is what rejections are for.
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    return extract, LRUCache


def _resiliparse(html: str, url: str, config: ExtractConfig) -> str:
    return _resiliparse_text(html, config, main_content=True, comments=config.include_comments)


def _plain(html: str, url: str, config: ExtractConfig) -> str:
    return _resiliparse_text(html, config, main_content=False)


def _resiliparse_text(html: str, config: ExtractConfig, **options: bool) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    skip = None if config.include_tables else ["table"]
    text: str = extract_plain_text(html, alt_texts=False, skip_elements=skip, **options)
    return text


EXTRACTORS: dict[str, Callable[[str, str, ExtractConfig], str]] = {
    "llmdata": _llmdata,
    "trafilatura": _trafilatura,
    "resiliparse": _resiliparse,
    "plain": _plain,
}
"""An extractor makes the main text of (HTML, URL, settings), "" where there is none; it may raise."""


class Extract:
    """Turns `payload` into `text`; documents that are text already pass through."""

    name = "extract"
    version = 2

    def __init__(self, config: ExtractConfig) -> None:
        self.config = config
        self._extractor = EXTRACTORS[config.extractor]

    @staticmethod
    def files(config: ExtractConfig) -> list[Path]:
        return [Path(__file__).parent / "extractor" / "weights.npz"] if config.extractor == "llmdata" else []

    def __call__(self, doc: Document, /) -> Document | Rejection:
        page, doc.payload = doc.payload, None
        if page is None:
            return doc
        if len(page.content) > self.config.max_bytes:
            return self._reject(doc, "too_large", f"{len(page.content)} bytes > {self.config.max_bytes}")
        is_html = page.content_type != "text/plain"
        if not is_html and not self.config.plain_text:
            return self._reject(doc, "content_type", page.content_type)
        text = decode(page.content, page.charset)
        if is_html:
            tags = text.count("<")
            if tags > self.config.max_tags:
                return self._reject(doc, "too_large", f"{tags} tags > {self.config.max_tags}")
            if tags > _DEPTH_MATTERS and is_nested_deeper(text, _MAX_DEPTH):
                return self._reject(doc, "too_deep", f"tags nested deeper than {_MAX_DEPTH}")
            try:
                text = self._extractor(text, doc.url, self.config)
            except (MemoryError, ImportError):
                raise  # the engine's limit and a broken installation are not the page's error
            except Exception as error:
                return self._reject(doc, "parse_error", f"{type(error).__name__}: {error}"[:200])
        doc.text = sound(text.replace("\0", "")).strip()
        return doc if doc.text else self._reject(doc, "empty")

    def _reject(self, doc: Document, reason: str, detail: str = "") -> Rejection:
        return Rejection(doc, self.name, reason, detail)


# Parsers take time in the square of the depth: resiliparse 2 s for 10,000 nested tags and 215 s for 100,000. Browsers
# stop at 512. Fewer tags than this cannot nest deep enough to matter, and need no look.
_DEPTH_MATTERS = 8_000
_MAX_DEPTH = 2_000

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)[^<>]*")
# Tags without an end, or whose end may be left out, so that repeating them nests nothing.
_FLAT = frozenset(
    "area base br col embed hr img input link meta source track wbr param command keygen "
    "p li dt dd option optgroup tr td th thead tbody tfoot colgroup caption rt rp html head body".split()
)


def is_nested_deeper(html: str, limit: int) -> bool:
    """Whether more than `limit` tags are open at once somewhere in `html`."""
    depth = drawings = 0
    for tag in _TAG.finditer(html):
        closing, name = tag[1], tag[2].lower()
        if name in _FLAT:
            continue
        if name in ("svg", "math"):
            drawings = max(0, drawings + (-1 if closing else 1))
        elif drawings and tag[0].endswith("/"):  # `<path … />` is closed; in HTML itself `<div/>` is not
            continue
        depth = max(0, depth - 1) if closing else depth + 1
        if depth > limit:
            return True
    return False
