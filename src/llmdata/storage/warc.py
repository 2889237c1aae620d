"""WARC and WET archives (ISO 28500): every record that may be a document becomes a Document or a Rejection.

Nothing raises and nothing is lost without a word: what cannot be read is one rejection, with where and why, and
reading goes on at the next record.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO

from llmdata.document import Document, Payload, Rejection
from llmdata.storage.compressed import Damage, Reader
from llmdata.storage.http_body import MAX_BYTES, BodyError, decode_content, join_chunks
from llmdata.storage.source import STAGE, digest_id

HTML = frozenset({"text/html", "application/xhtml+xml"})

_NO_DOCUMENTS = frozenset({"request", "warcinfo", "metadata"})
_MAX_HEADER = 1 << 20
_VERSION = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n", re.IGNORECASE)
_RECORD = re.compile(rb"(?m)^WARC/\d+\.\d+[ \t]*\r?\n[!-9;-~]+[ \t]*:", re.IGNORECASE)
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/\d[.\d]*[ \t]+(\d{3})", re.IGNORECASE)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([^\s;\"',]+)", re.IGNORECASE)
_DUMP = re.compile(r"CC-MAIN-\d{4}-\d{2,}")
_MARKUP = re.compile(rb"<(?:!doctype\s+html|html|head|body|title|meta|p|div)\b", re.IGNORECASE)


@dataclass(slots=True)
class Record:
    """One record as it stands in the archive, or one region that cannot be read (`problem` and `detail` set).

    `length` counts the record's bytes in the file; None where records share a compressed member. `inside` is where
    in its member the record begins.
    """

    offset: int
    inside: int = 0
    length: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    problem: str = ""
    detail: str = ""

    @property
    def type(self) -> str:
        return self.headers.get("warc-type", "").lower()


def read_records(
    raw: IO[bytes], codec: str, start: int, end: int, wanted: Callable[[Record], bool] = lambda record: True
) -> Iterator[Record]:
    """Records and unreadable regions that begin in [start, end), which must be record boundaries.

    Bodies are read only of records that are `wanted`.
    """
    reader = Reader(raw, codec, start)
    while True:
        record = Record(-1)
        try:
            if not _find_start(reader):
                return
            record.offset = reader.member if codec else reader.offset
            record.inside = reader.position if codec else 0
            if record.offset >= end:
                return
            _read(reader, record, wanted)
        except Damage as damage:
            if damage.offset >= end:
                return
            record.offset = damage.offset if record.offset < 0 else record.offset
            record.problem, record.detail = damage.reason, f"{damage.detail} (offset {damage.offset})"
            yield record
            if not codec or not reader.recover(end):
                return
            continue
        yield record
        if record.problem == "unsupported":
            return


def _find_start(reader: Reader) -> bool:
    """Pass over blank lines and the ends of members; False at the end of the file."""
    while True:
        head = reader.peek(4)
        if not head:
            if not reader.next_member():
                return False
        elif blank := len(head) - len(head.lstrip(b"\r\n")):
            reader.skip(blank)
        else:
            return True


def _read(reader: Reader, record: Record, wanted: Callable[[Record], bool]) -> None:
    head = _take_header(reader)
    if head is None:
        _pass_over_garbage(reader, record)
        return
    record.headers = parse_headers(head)
    length = record.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        record.problem, record.detail = "bad_record", f"Content-Length {length[:40]!r} (offset {record.offset})"
        _resync(reader)
        return
    body_at, size = reader.offset, int(length)
    keep = wanted(record)
    if keep and size > MAX_BYTES:
        record.problem, record.detail = "too_large", f"{size} bytes (offset {record.offset})"
        keep = False
    missing = _read_body(reader, record, size, keep)
    if missing:
        record.problem = "truncated"
        record.detail = f"{missing} of {length} bytes are missing (offset {record.offset})"
        if not reader.codec:
            # The length may be wrong, and records follow: look for them right behind this one's header.
            reader.rewind(body_at)
            _resync(reader)
        return
    _skip_blank(reader)
    if not reader.codec or (record.inside == 0 and not reader.peek(1)):
        record.length = reader.offset - record.offset


def _read_body(reader: Reader, record: Record, size: int, keep: bool) -> int:
    """Read or pass over the body; returns how many bytes are missing.

    It goes on in the next member (some tools compress headers and body apart), unless a record begins there.
    """
    parts: list[bytes] = []
    missing = size
    while True:
        if keep:
            parts.append(reader.take(missing))
            missing -= len(parts[-1])
        else:
            missing -= reader.skip(missing)
        if not missing or not reader.codec or not reader.next_member() or _VERSION.match(reader.peek(40)):
            break
    record.body = b"".join(parts)
    return missing


def _take_header(reader: Reader) -> bytes | None:
    """The record's header block, or None where no record begins."""
    if not _VERSION.match(reader.peek(40)):
        return None
    for size in (1 << 12, 1 << 16, _MAX_HEADER):
        window = reader.peek(size)
        if found := _HEADER_END.search(window):
            return reader.take(found.end())
    if len(window) < _MAX_HEADER:
        raise Damage(
            reader.member if reader.codec else reader.offset, "truncated", "the file ends inside a record's header"
        )
    return None


def _pass_over_garbage(reader: Reader, record: Record) -> None:
    if record.offset == record.inside == 0 and reader.peek(9) == b"filedesc:":
        record.problem, record.detail = "unsupported", "ARC archive"
        return
    passed = _resync(reader)
    record.problem, record.detail = "bad_record", f"{passed} bytes that are no WARC record (offset {record.offset})"


def _resync(reader: Reader) -> int:
    """Go to the next record's version line in this member, or to its end; returns how many bytes were passed over."""
    passed = 0
    while True:
        window = reader.peek(1 << 16)
        if found := _RECORD.search(window, 1):
            return passed + reader.skip(found.start())
        if len(window) < 1 << 16:
            return passed + reader.skip(len(window))
        passed += reader.skip(len(window) - 512)


def _skip_blank(reader: Reader) -> None:
    while head := reader.peek(4):
        blank = len(head) - len(head.lstrip(b"\r\n"))
        reader.skip(blank)
        if blank < len(head):
            return


def parse_headers(block: bytes) -> dict[str, str]:
    """Header fields by lower-case name, folded lines joined, the last of several kept; other lines are passed over."""
    headers: dict[str, str] = {}
    name = ""
    for line in block.decode("utf-8", "replace").split("\n")[1:]:
        if line[:1] in (" ", "\t") and name:
            headers[name] = f"{headers[name]} {line.strip()}".strip()
        elif ":" in line:
            key, _, value = line.partition(":")
            name = key.strip().lower()
            headers[name] = value.strip()
    return headers


def read_documents(raw: IO[bytes], codec: str, start: int, end: int, path: str) -> Iterator[Document | Rejection]:
    """The document candidates among the records that begin in [start, end) of the archive called `path`."""
    dump = dump_of(raw, codec, path)
    for record in read_records(raw, codec, start, end, lambda record: record.type not in _NO_DOCUMENTS):
        if record.type not in _NO_DOCUMENTS or record.problem:
            yield _document(record, path, dump)


def dump_of(raw: IO[bytes], codec: str, path: str) -> str:
    """The crawl an archive belongs to: `CC-MAIN-2024-22` from its path, else its first record's `isPartOf`."""
    if found := _DUMP.search(path):
        return found[0]
    first = next(read_records(raw, codec, 0, 1), None)
    if first is None or first.problem or first.type != "warcinfo":
        return ""
    return parse_headers(b"\n" + first.body).get("ispartof", "")


def _document(record: Record, path: str, dump: str) -> Document | Rejection:
    headers = record.headers
    doc = Document(
        id=record_id(headers.get("warc-record-id", "")) or digest_id(path, record.offset, record.inside),
        dump=dump,
        url=headers.get("warc-target-uri", "").strip("<> "),
        date=headers.get("warc-date", ""),
        file_path=path,
        warc_offset=record.offset,
        warc_length=record.length,
        content_digest=headers.get("warc-payload-digest", ""),
    )
    if record.problem:
        return Rejection(doc, STAGE, record.problem, record.detail)
    if cut := headers.get("warc-truncated"):
        doc.metadata["warc_truncated"] = cut
    try:
        return _take_page(doc, record)
    except BodyError as error:
        return Rejection(doc, STAGE, error.reason, error.detail)


def _take_page(doc: Document, record: Record) -> Document | Rejection:
    kind = record.type
    if kind == "revisit":
        return Rejection(doc, STAGE, "revisit", record.headers.get("warc-refers-to-target-uri", ""))
    if kind == "continuation" or "warc-segment-number" in record.headers:
        return Rejection(doc, STAGE, "unsupported", "segmented record")
    if kind not in ("response", "resource", "conversion"):
        return Rejection(doc, STAGE, "record_type" if kind else "bad_record", kind[:40] or "no WARC-Type")
    if re.search(r"^https?://[^/]*/robots\.txt$", doc.url, re.IGNORECASE):
        return Rejection(doc, STAGE, "robots_txt")
    declared, body = record.headers.get("content-type", ""), record.body
    if kind == "response" and not declared.lower().startswith("application/http") and not body.startswith(b"HTTP/"):
        return Rejection(doc, STAGE, "content_type", _mime(declared))
    if kind == "response":
        found = _HEADER_END.search(body)
        status = _STATUS.match(body)
        if found is None or status is None:
            return Rejection(doc, STAGE, "bad_record", f"no HTTP header (offset {record.offset})")
        if status[1] != b"200":
            return Rejection(doc, STAGE, "http_status", status[1].decode())
        http = parse_headers(body[: found.start()])
        declared, body = http.get("content-type", ""), body[found.end() :]
        if "chunked" in http.get("transfer-encoding", "").lower():
            body = join_chunks(body)
        doc.content_digest = doc.content_digest or payload_digest(body)
        mime = _judge(record, declared)
        if mime and mime not in HTML and mime != "text/plain":
            return Rejection(doc, STAGE, "content_type", mime)
        body = decode_content(body, http.get("content-encoding", ""), partial="warc_truncated" in doc.metadata)
    doc.content_digest = doc.content_digest or payload_digest(body)
    mime = _judge(record, declared) or ("text/html" if _MARKUP.search(body[:1024]) else "")
    if kind == "conversion" and mime == "text/plain":
        doc.text = body.decode("utf-8", "replace").removeprefix("\ufeff").replace("\0", "")
    elif mime in HTML or mime == "text/plain":
        charset = _CHARSET.search(declared)
        doc.payload = Payload(body, mime, charset[1] if charset else None)
    else:
        return Rejection(doc, STAGE, "content_type", mime or "unknown")
    return doc


def _judge(record: Record, declared: str) -> str:
    """The type of the payload: as the crawler identified it, else as the server declared it; "" if neither says."""
    mime = _mime(record.headers.get("warc-identified-payload-type", "")) or _mime(declared)
    return "" if mime in ("application/octet-stream", "unknown/unknown", "application/unknown", "*/*") else mime


def _mime(declared: str) -> str:
    return declared.split(";")[0].split(",")[0].strip().lower()[:100]


def record_id(value: str) -> str:
    """A WARC-Record-ID without its `<urn:uuid:…>`."""
    return value.strip("<> ").removeprefix("urn:uuid:")


def payload_digest(body: bytes) -> str:
    """SHA-1 of a payload as WARC-Payload-Digest writes it."""
    return "sha1:" + base64.b32encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()
