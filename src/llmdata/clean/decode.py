"""From the bytes of a page to its text, as browsers do it (WHATWG Encoding and HTML, section 13.2.3), and a bit better.

Order: byte order mark, UTF-8 where the bytes are UTF-8, HTTP header, declaration in the page, detection. A declaration
that the bytes contradict is dropped: servers call everything ISO-8859-1, and templates say UTF-8 above old text.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_DECLARED = re.compile(rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_XML = re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]{2,40})", re.IGNORECASE)
_PRESCAN = 4096  # browsers look at 1,024 bytes; real pages have scripts before the declaration

# What WHATWG reads under a label is a superset of what Python reads under the same name.
_SUPERSETS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "cp950": "big5hkscs",
    "iso2022_jp": "iso2022_jp_ext",  # half-width katakana
    "iso8859-8-i": "iso8859-8",
    "utf-16": "utf-16-le",
}
# Not on WHATWG's list, or not on resiliparse's, and yet met in old pages; any other codec of Python's is refused.
_EXTRA = frozenset(
    "cp437 cp720 cp737 cp775 cp850 cp852 cp855 cp857 cp858 cp860 cp861 cp862 cp863 cp865 cp869 cp1125 "
    "mac-croatian mac-cyrillic mac-greek mac-iceland mac-latin2 mac-romanian mac-turkish koi8-t kz1048 ptcp154 "
    "cp932 cp949 cp950 big5hkscs johab euc_jis_2004 hz iso2022_jp_1 iso2022_jp_2 iso2022_jp_ext iso2022_kr".split()
)
# Names under which neither WHATWG nor Python knows these, without `x-` in front.
_ALIASES = {
    "hz-gb-2312": "hz",
    "mac-ce": "mac-latin2",
    "mac-centraleurroman": "mac-latin2",
    "mac-icelandic": "mac-iceland",
    "mac-ukrainian": "mac-cyrillic",
}
# Seven-bit encodings look like ASCII.
_SEVEN_BIT = frozenset({"iso2022_jp_1", "iso2022_jp_2", "iso2022_jp_ext", "iso2022_kr", "hz"})


@lru_cache(maxsize=1024)
def encoding_of(label: str) -> str | None:
    """Python's codec for a charset label as the web writes it (`latin1` is windows-1252); None if there is none."""
    from resiliparse.parse.encoding import map_encoding_to_html5

    label = label.strip().strip("\"'").lower()
    bare = re.sub(r"^win-", "windows-", label.removeprefix("x-"))
    bare = re.sub(r"^(dos|ibm)-", "cp", bare)
    name = map_encoding_to_html5(label, fallback_utf8=False) or map_encoding_to_html5(bare, fallback_utf8=False)
    try:
        codec = codecs.lookup(name or _ALIASES.get(bare, bare))
    except (LookupError, ValueError):
        return None
    if codec.name not in _EXTRA and map_encoding_to_html5(codec.name, fallback_utf8=False) is None:
        return None
    return _SUPERSETS.get(codec.name, codec.name)


def decode(content: bytes, charset: str | None = None) -> str:
    """The text of a page; `charset` is what its HTTP header says. Never fails: what nothing fits becomes U+FFFD.

    U+0000 is left out.
    """
    for bom, encoding in _BOMS:
        if content.startswith(bom):
            return _clean(content[len(bom) :].decode(encoding, "replace"))
    declared = [name for name in (encoding_of(charset) if charset else None, declared_in(content)) if name]
    if b"\x1b$B" in content:
        declared.append("iso2022_jp_ext")
    if content.isascii():
        if not any(name in _SEVEN_BIT or name.startswith("utf-16") for name in declared):
            return _clean(content.decode("ascii"))
        declared.sort(key=lambda name: name not in _SEVEN_BIT)  # in any other name these bytes are ASCII
    elif (text := _utf8(content)) is not None:
        return _clean(text)
    if guess := _utf16(content):
        declared.insert(0, guess)
    for name in declared:
        text = content.decode(name, "replace")
        if _is_plausible(text):
            return _clean(text)
    return _clean(content.decode(_detect(content), "replace"))


def declared_in(content: bytes) -> str | None:
    """The encoding that the page itself declares, in a `meta` tag or an XML declaration."""
    head = _COMMENT.sub(b"", content[:_PRESCAN])
    found = _XML.search(head) or _DECLARED.search(head)
    name = encoding_of(found[1].decode("ascii", "replace")) if found else None
    # It was read as ASCII, so it cannot be UTF-16.
    return "utf-8" if name and name.startswith("utf-16") else name


def _utf8(content: bytes) -> str | None:
    """`content` as UTF-8, if it is (but for a character cut off at its end) and holds no U+0000, as UTF-16 would.

    Text of any length in another encoding is not valid UTF-8 by chance.
    """
    try:
        text, used = codecs.utf_8_decode(content, "strict", False)
    except UnicodeDecodeError:
        return None
    if "\0" in text[:1000] and _utf16(content):
        return None
    return text if used == len(content) else text + "\ufffd"


def _utf16(content: bytes) -> str | None:
    """UTF-16 without a byte order mark, told by the zeros of its ASCII characters."""
    head = content[:2000]
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if odd > len(head) / 5 and even < odd / 8:
        return "utf-16-le"
    return "utf-16-be" if even > len(head) / 5 and odd < even / 8 else None


def _is_plausible(text: str) -> bool:
    """Whether decoding went well: an encoding that is wrong fails on more than one in ten of the other characters."""
    bad = text.count("\ufffd")
    return not bad or bad * 10 <= len(text) - len(text.encode("ascii", "ignore"))


def _detect(content: bytes) -> str:
    from resiliparse.parse.encoding import detect_encoding

    # html5_compatible would turn cp949 and mac-cyrillic, which it detects, into UTF-8.
    name = encoding_of(detect_encoding(content, html5_compatible=False) or "") or "cp1252"
    if name == "koi8-r":
        return "koi8-u"  # the same but for box drawing, where Ukrainian has its letters
    return "cp1252" if name == "utf-8" and not _is_plausible(content.decode("utf-8", "replace")) else name


def _clean(text: str) -> str:
    return text.replace("\0", "") if "\0" in text else text
