"""URLs as browsers read them (the WHATWG URL Standard, for http and https), and one canonical form of each.

Crawl, clean and dedup agree on a page's address through this module. Nothing here raises on hostile input.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from tldextract import TLDExtract

DEFAULT_PORTS = {"http": "80", "https": "443"}

# What each part encodes (section 1.3 of the standard), as the ASCII characters besides controls and non-ASCII.
_ENCODE_FRAGMENT = re.compile(r"[^!#-;=?-_a-~]")
_ENCODE_QUERY = re.compile(r"[^!$-&(-;=?-~]")
_ENCODE_PATH = re.compile(r"[^!$-;=@-\]_a-z|~]")
_ENCODE_USERINFO = re.compile(r"[^!$-.0-9A-Z_a-z~]")

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")
_EDGES = "".join(map(chr, range(0x21)))
_NEWLINES = str.maketrans("", "", "\t\n\r")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DOT = {".", "%2e"}
_DOT_DOT = {"..", ".%2e", "%2e.", "%2e%2e"}
_FORBIDDEN_IN_DOMAIN = re.compile(r"[\x00-\x20#%/:<>?@\[\\\]^|\x7f]")
_IPV4_NUMBER = re.compile(r"(?:0x([0-9a-f]*)|(0[0-7]*)|([1-9][0-9]*))", re.ASCII)
_ENDS_IN_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)\.?$", re.ASCII)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class Url(NamedTuple):
    """An http(s) URL taken apart; every part is already encoded as it goes on the wire."""

    scheme: str
    userinfo: str
    host: str
    port: str
    path: str
    query: str | None
    fragment: str | None

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host

    def __str__(self) -> str:
        userinfo = f"{self.userinfo}@" if self.userinfo else ""
        query = "" if self.query is None else f"?{self.query}"
        fragment = "" if self.fragment is None else f"#{self.fragment}"
        return f"{self.scheme}://{userinfo}{self.authority}{self.path}{query}{fragment}"


def parse(href: str, base: Url | None = None) -> Url | None:
    """`href` as a browser reads it on a page at `base`; None if it is not a valid http(s) URL."""
    href = href.strip(_EDGES).translate(_NEWLINES)
    if not href.isascii():
        href = _SURROGATE.sub("\ufffd", href)
    match = _SCHEME.match(href)
    if match is None:
        return None if base is None else _relative(href, base)
    scheme = match[1].lower()
    if scheme not in DEFAULT_PORTS:
        return None
    rest = href[match.end() :]
    if base is not None and base.scheme == scheme and not rest.startswith("//"):
        return _relative(rest, base)
    return _absolute(scheme, rest.lstrip("/\\"))


def _relative(href: str, base: Url) -> Url | None:
    if href[:1] in ("/", "\\"):
        if href[1:2] in ("/", "\\"):
            return _absolute(base.scheme, href.lstrip("/\\"))
        path, query, fragment = _tail(href)
        return base._replace(path=_path(path), query=query, fragment=fragment)
    path, query, fragment = _tail(href)
    if path:
        folder = base.path[: base.path.rfind("/") + 1]
        return base._replace(path=_path(folder + path), query=query, fragment=fragment)
    return base._replace(query=base.query if query is None else query, fragment=fragment)


def _absolute(scheme: str, rest: str) -> Url | None:
    end = next((at for at, letter in enumerate(rest) if letter in "/\\?#"), len(rest))
    userinfo, _, host_port = rest[:end].rpartition("@")
    bracket = host_port.rfind("]")
    colon = host_port.find(":", bracket + 1)
    name, port = (host_port, "") if colon < 0 else (host_port[:colon], host_port[colon + 1 :])
    host = _host(name)
    if host is None or (port and not (port.isascii() and port.isdigit())):
        return None
    port = port.lstrip("0") or ("0" if port else "")
    if len(port) > 5 or (port and int(port) > 65535):
        return None
    path, query, fragment = _tail(rest[end:])
    port = "" if port == DEFAULT_PORTS[scheme] else port
    return Url(scheme, _userinfo(userinfo), host, port, _path(path), query, fragment)


def _tail(text: str) -> tuple[str, str | None, str | None]:
    """Path as found, query and fragment encoded."""
    text, hash_sign, fragment = text.partition("#")
    path, question, query = text.partition("?")
    return (
        path,
        _encode(query, _ENCODE_QUERY) if question else None,
        _encode(fragment, _ENCODE_FRAGMENT) if hash_sign else None,
    )


def _path(path: str) -> str:
    path = path.replace("\\", "/")
    if path.startswith("/"):
        path = path[1:]
    if "." in path or "%2" in path:
        kept: list[str] = []
        segments = path.split("/")
        for segment in segments:
            lowered = segment.lower()
            if lowered in _DOT_DOT:
                del kept[-1:]
            elif lowered not in _DOT:
                kept.append(segment)
        if segments[-1].lower() in _DOT | _DOT_DOT:
            kept.append("")
        path = "/".join(kept)
    return "/" + _encode(path, _ENCODE_PATH)


def _userinfo(userinfo: str) -> str:
    name, _, password = userinfo.partition(":")
    name, password = _encode(name, _ENCODE_USERINFO), _encode(password, _ENCODE_USERINFO)
    return f"{name}:{password}" if password else name


def _encode(text: str, escaped: re.Pattern[str]) -> str:
    return escaped.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), text)


@lru_cache(maxsize=16384)
def _host(name: str) -> str | None:
    """The host in its ASCII form: lower case, punycode, IPv4 dotted, IPv6 in brackets; None if it is not valid."""
    if len(name) > 4096:  # DNS allows 253; the cache must not hold a hostile page's megabytes
        return None
    if name.startswith("["):
        return _ipv6(name[1:-1]) if name.endswith("]") else None
    if "%" in name:
        name = unquote_to_bytes(name.encode()).decode("utf-8", "replace")
    ascii_name: str | None = name.lower()  # an ASCII name is taken at its word, punycode that says nothing too
    if not name.isascii():
        ascii_name = _to_ascii(name)
    if not ascii_name or _FORBIDDEN_IN_DOMAIN.search(ascii_name):
        return None
    return _ipv4(ascii_name) if _ENDS_IN_NUMBER.search(ascii_name) else ascii_name


def _to_ascii(name: str) -> str | None:
    """Unicode UTS #46, non-transitional, without the length and hyphen rules of DNS, as the URL Standard asks."""
    from unicodedata import bidirectional

    import idna

    try:
        labels = idna.uts46_remap(name, std3_rules=False, transitional=False).split(".")
        unicode_labels = [_label_to_unicode(label) for label in labels]
        bidi = any(bidirectional(letter) in {"R", "AL", "AN"} for letter in "".join(unicode_labels))
        for label in unicode_labels:
            if not label:
                continue
            idna.check_initial_combiner(label)
            for at, letter in enumerate(label):
                if letter in "\u200c\u200d" and not idna.valid_contextj(label, at):
                    return None
            if bidi:
                idna.check_bidi(label, check_ltr=True)
    except (idna.IDNAError, UnicodeError, ValueError, IndexError):
        return None
    return ".".join(
        label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in unicode_labels
    )


def _label_to_unicode(label: str) -> str:
    import idna

    if not label.startswith("xn--"):
        return label
    decoded = label[4:].encode("ascii").decode("punycode")
    if not decoded or decoded.isascii() or idna.uts46_remap(decoded, std3_rules=False, transitional=False) != decoded:
        raise idna.IDNAError(f"{label} is not a valid punycode label")
    return decoded


def _ipv4(name: str) -> str | None:
    parts = name.removesuffix(".").split(".")
    numbers = []
    for part in parts:
        match = _IPV4_NUMBER.fullmatch(part)
        # 16 characters are more than any number below 2**32 needs; int() of a hostile megabyte is slow.
        if match is None or len(part.lstrip("0x")) > 16:
            return None
        base = 16 if match[1] is not None else 8 if match[2] is not None else 10
        numbers.append(int(match[1] or match[2] or match[3] or "0", base))
    if len(numbers) > 4 or any(number > 255 for number in numbers[:-1]) or numbers[-1] >= 256 ** (5 - len(numbers)):
        return None
    value = numbers[-1] + sum(number << (24 - 8 * at) for at, number in enumerate(numbers[:-1]))
    return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))


def _ipv6(text: str) -> str | None:
    from ipaddress import AddressValueError, IPv6Address

    if "%" in text or not text.isascii():
        return None
    try:
        value = int(IPv6Address(text))
    except (AddressValueError, ValueError):
        return None
    pieces = [f"{value >> shift & 0xFFFF:x}" for shift in range(112, -1, -16)]
    runs = [
        (len(match[0]), -match.start())
        for match in re.finditer("0{2,}", "".join("0" if p == "0" else "x" for p in pieces))
    ]
    if runs:
        length, start = max(runs)
        head, tail = pieces[:-start], pieces[-start + length :]
        return f"[{':'.join(head)}::{':'.join(tail)}]"
    return f"[{':'.join(pieces)}]"


def join(base: str, href: str) -> str | None:
    """The address that a link `href` on the page `base` leads to, without its fragment; None if not http(s)."""
    url = parse(href, _parsed(base))
    return None if url is None else str(url._replace(fragment=None))


@lru_cache(maxsize=64)
def _parsed(url: str) -> Url | None:
    return parse(url)


def canonical(url: str) -> str:
    """One spelling of all that fetch the same page: for the visited set, blocklists and deduplication.

    Scheme and host in lower case and punycode, default port, fragment and credentials off, dot segments resolved,
    escapes in upper case and only where they are needed (RFC 3986, section 6.2.2), the query in order, `/` for an
    empty path. What is not an http(s) URL comes back as it is, without blanks around it.
    """
    parsed = parse(url)
    if parsed is None:
        return url.strip(_EDGES)
    query = None if parsed.query is None else _normal_escapes(parsed.query)
    return str(parsed._replace(userinfo="", path=_normal_escapes(parsed.path), query=query, fragment=None))


def _normal_escapes(text: str) -> str:
    return _ESCAPE.sub(_normal_escape, text) if "%" in text else text


def _normal_escape(match: re.Match[str]) -> str:
    letter = chr(int(match[1], 16))
    return letter if letter in _UNRESERVED else match[0].upper()


def host(url: str) -> str:
    """Host of an http(s) URL in its ASCII form, without the port; empty if there is none."""
    parsed = parse(url)
    return "" if parsed is None else parsed.host


@lru_cache(maxsize=65536)
def registered_domain(host: str) -> str:
    """`a.b.example.co.uk` → `example.co.uk`, by the public suffix list in the tldextract package.

    An IP address, a public suffix or a name without one (`localhost`) comes back as it is.
    """
    name = host[:4096].rstrip(".").lower()
    if name.startswith("[") or _ENDS_IN_NUMBER.search(name):
        return name
    return str(_suffixes()(name).top_domain_under_public_suffix) or name


@cache
def _suffixes() -> TLDExtract:
    from tldextract import TLDExtract

    return TLDExtract(suffix_list_urls=(), cache_dir=None)
