"""WARC 1.1 records of a capture, each a gzip member of its own."""

from __future__ import annotations

import contextlib
import re
import zlib
from base64 import b32encode
from collections.abc import Iterable
from io import BytesIO
from typing import Any

from warcio.recordbuilder import RecordBuilder
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from llmdata import __version__
from llmdata.crawl.fetch import Answer

_LEVEL = 6
"""Level 9, which warcio would use, takes 1.7 times as long for 1 % less."""


_SNIFFED = 1445
"""Bytes by which a type is told: as many as the standard has browsers look at."""
_XHTML = "application/xhtml+xml"
_HTML = re.compile(
    rb"(?:(?><!--.*?-->)\s*)*+"
    rb"<(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p)[\s>]",
    re.IGNORECASE | re.DOTALL,
)
_XML_ROOT = re.compile(
    rb"(?><\?.*?\?>|<!--.*?-->|<!doctype[^\[>]*+(?:\[.*?\]\s*+)?>|\s++)*+<([\w:.-]++)", re.IGNORECASE | re.DOTALL
)


def warcinfo(name: str, facts: dict[str, str]) -> bytes:
    """The record that opens an archive called `name`."""
    fields = {"software": f"llmdata/{__version__}", "format": "WARC File Format 1.1", **facts}
    return _member(_builder().create_warcinfo_record(name, fields))


def response(answer: Answer) -> tuple[bytes, str]:
    """The response record of a page, and its WARC-Record-ID.

    The payload is as it was sent, with chunks joined; headers that speak of the chunks are renamed as Common Crawl
    does, so that no reader looks for chunks that are not there.
    """
    record = _builder().create_warc_record(
        answer.job.url,
        "response",
        payload=BytesIO(answer.body),
        length=len(answer.body),
        http_headers=_http_headers(answer),
        warc_headers_dict=_capture_headers(answer),
    )
    return _member(record), str(record.rec_headers.get_header("WARC-Record-ID"))


def revisit(answer: Answer, record_id: str, first_url: str, first_date: str) -> bytes:
    """In place of a response whose payload the archives hold already, captured from `first_url` at `first_date`."""
    headers = {"WARC-Record-ID": record_id, **_capture_headers(answer)}
    del headers["WARC-Payload-Digest"]  # warcio adds it
    record = _builder().create_revisit_record(
        answer.job.url,
        payload_digest(answer.sha1),
        first_url,
        first_date,
        http_headers=_http_headers(answer),
        warc_headers_dict=headers,
    )
    return _member(record)


def request(answer: Answer, response_id: str) -> bytes:
    """The request record that goes with a response."""
    first, *rest = answer.request.decode().split("\r\n")
    headers = [tuple(line.split(": ", 1)) for line in rest if line]
    record = _builder().create_warc_record(
        answer.job.url,
        "request",
        http_headers=StatusAndHeaders(first, headers, is_http_request=True),
        warc_headers_dict={"WARC-Date": answer.date, "WARC-Concurrent-To": response_id},
    )
    return _member(record)


def metadata(answer: Answer, response_id: str, signals: Iterable[str], outlinks: Iterable[str]) -> bytes:
    """How the page was reached, what it said about its use, and where it leads."""
    job = answer.job
    lines = [f"fetchTimeMs: {answer.latency * 1000:.0f}", f"depth: {job.depth}"]
    lines += [f"via: {job.via}"] if job.via else ["seed: 1"]
    lines += [f"consent: {signal}" for signal in sorted(signals)]
    lines += [f"outlink: {link}" for link in outlinks]
    payload = "".join(f"{line}\r\n" for line in lines).encode("utf-8", "replace")
    record = _builder().create_warc_record(
        job.url,
        "metadata",
        payload=BytesIO(payload),
        length=len(payload),
        warc_content_type="application/warc-fields",
        warc_headers_dict={"WARC-Date": answer.date, "WARC-Concurrent-To": response_id},
    )
    return _member(record)


def payload_digest(sha1: bytes) -> str:
    """As WARC headers write it."""
    return "sha1:" + b32encode(sha1).decode()


def _capture_headers(answer: Answer) -> dict[str, str]:
    headers = {"WARC-Date": answer.date, "WARC-Payload-Digest": payload_digest(answer.sha1)}
    if answer.ip:
        headers["WARC-IP-Address"] = answer.ip
    if kind := identified(answer):
        headers["WARC-Identified-Payload-Type"] = kind
    if answer.truncated:
        headers["WARC-Truncated"] = answer.truncated
    return headers


def identified(answer: Answer) -> str:
    """The type of a payload by its first bytes, for those who doubt its Content-Type; empty if they do not tell.

    HTML by the patterns of WHATWG's MIME Sniffing, section 7.1, which leaves text/plain alone; XML by its root.
    """
    start = answer.body[:_SNIFFED]
    if start[:2] == b"\x1f\x8b":
        with contextlib.suppress(zlib.error):
            start = zlib.decompressobj(31).decompress(start, _SNIFFED)
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"%PDF-"):
        return "application/pdf"
    if start.startswith(b"<?xml"):
        root = _XML_ROOT.match(start)
        if root is None:
            return ""
        return _XHTML if root[1].lower() == b"html" else "application/xml"
    if answer.media_type == "text/plain" or _HTML.match(start) is None:
        return ""
    return _XHTML if answer.media_type == _XHTML else "text/html"


def _http_headers(answer: Answer) -> StatusAndHeaders:
    headers = []
    for name, value in answer.headers:
        lowered = name.lower()
        renamed = lowered == "transfer-encoding" or (lowered == "content-length" and value != str(len(answer.body)))
        headers.append((f"X-Crawl-{name}" if renamed else name, value.replace("\r", " ").replace("\n", " ")))
    if not any(name.lower() == "content-length" for name, _ in headers):
        headers.append(("Content-Length", str(len(answer.body))))
    return StatusAndHeaders(answer.status_line, headers, protocol="HTTP/1.1")


def _builder() -> RecordBuilder:
    return RecordBuilder(warc_version="1.1")


def _member(record: Any) -> bytes:
    plain = BytesIO()
    WARCWriter(plain, gzip=False, warc_version="1.1").write_record(record)
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return packer.compress(plain.getbuffer()) + packer.flush()
