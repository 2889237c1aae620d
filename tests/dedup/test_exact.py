"""Exact duplicates by address and by text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmdata.dedup.config import ExactDedupConfig, UrlDedupConfig
from llmdata.dedup.exact import ExactDedup, UrlDedup
from llmdata.document import Document

from .helpers import dropped, resolved


@pytest.mark.parametrize(
    ("left", "right", "switches"),
    [
        ("http://Example.com:80/a/../b#top", "http://example.com/b", {}),
        ("http://example.com/", "https://example.com/", {"ignore_scheme": True}),
        ("https://www.example.com/", "https://example.com/", {"ignore_www": True}),
        ("https://example.com/?utm_source=x&id=1&fbclid=9", "https://example.com/?id=1", {"ignore_tracking": True}),
        ("https://example.com/?gclid=9", "https://example.com/", {"ignore_tracking": True}),
    ],
)
def test_addresses_that_are_the_same(tmp_path: Path, left: str, right: str, switches: dict[str, Any]) -> None:
    docs = [Document(id="a", url=left), Document(id="b", url=right)]
    shuffle = UrlDedup(UrlDedupConfig(keep="first", **switches))
    assert dropped(resolved(shuffle, [docs], tmp_path / "with")) == {"b": "a"}
    if switches:
        assert not resolved(UrlDedup(UrlDedupConfig()), [docs], tmp_path / "without")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("https://example.com/?id=1", "https://example.com/?id=2"),
        ("https://example.com/?utm=1", "https://example.com/"),
        ("https://example.com/a", "https://example.com/A"),
        ("", ""),
        (" ", ""),
    ],
)
def test_addresses_that_are_not(tmp_path: Path, left: str, right: str) -> None:
    docs = [Document(id="a", url=left), Document(id="b", url=right)]
    config = UrlDedupConfig(ignore_scheme=True, ignore_www=True, ignore_tracking=True)
    assert not resolved(UrlDedup(config), [docs], tmp_path)


@pytest.mark.parametrize(
    ("left", "right", "switches", "same"),
    [
        ("a  b\n", "a b", {}, True),
        ("a  b\n", "a b", {"white_space": False}, False),
        ("A b", "a b", {}, False),
        ("A b", "a b", {"lower_case": True}, True),
        ("cafe\u0301", "café", {}, True),
        ("a.b", "a b", {}, False),
        ("", "", {}, False),
        ("\x00", "\x00", {}, True),
        ("\ud800", "\ud800", {}, True),
        ("word " * 1_000_000, "word " * 1_000_000, {}, True),
    ],
)
def test_texts(tmp_path: Path, left: str, right: str, switches: dict[str, Any], same: bool) -> None:
    docs = [Document(id="a", text=left), Document(id="b", text=right)]
    found = dropped(resolved(ExactDedup(ExactDedupConfig(keep="first", **switches)), [docs], tmp_path))
    assert found == ({"b": "a"} if same else {})
