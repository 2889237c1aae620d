"""E-mail and IP addresses in a text, as FineWeb finds them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address

_LOCAL = "A-Za-z0-9!#$%&'*+/=?^_`{|}~-"
_LOCAL_AND_DOT = ".!#$%&'*+/=?^_`{|}~-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LOCAL_PART = re.compile(rf"\b[{_LOCAL}]+(?:\.[{_LOCAL}]+)*@")
_OCTET = "(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)"
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+{_LABEL}|\[{_OCTET}(?:\.{_OCTET}){{3}}\]")
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_IPV4_APART = re.compile(rf"(?<![\w.]){_IPV4.pattern}(?![\w]|\.\w)")
_COULD_BE_IPV4 = re.compile(r"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")


def emails(text: str) -> Iterator[tuple[int, int]]:
    """Spans of e-mail addresses. In time linear in the text: from each `@`, first left, then right."""
    free = 0
    at = text.find("@")
    while at >= 0:
        local = text[free:at]
        start = free + len(local.rstrip(_LOCAL_AND_DOT))
        if (dots := text.rfind("..", start, at)) >= 0:
            start = dots + 2
        following = at + 1
        if start < at and text[at - 1] != ".":
            left, right = _LOCAL_PART.search(text, start, at + 1), _DOMAIN.match(text, at + 1)
            if left and right:
                yield left.start(), right.end()
                following = right.end()
        free = following
        at = text.find("@", free)


def ipv4_addresses(text: str, apart: bool, public_only: bool) -> Iterator[tuple[int, int]]:
    """Spans of IPv4 addresses; `apart`: only where one stands by itself, and not in `v1.2.3.456`."""
    if _COULD_BE_IPV4.search(text):
        for match in (_IPV4_APART if apart else _IPV4).finditer(text):
            if is_address(match[0], public_only):
                yield match.span()


def is_address(text: str, public_only: bool) -> bool:
    """Whether `text` is an IP address of either kind, and a public one where only these are wanted."""
    try:
        address = ip_address(text)
    except ValueError:  # a number with a leading zero
        return False
    return address.is_global or not public_only
