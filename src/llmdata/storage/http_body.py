"""The body of a captured HTTP response: chunks joined and content decoded, within a bound on memory.

Archives hold what servers sent, and what tools made of it: bodies that were decoded while the headers still promise
chunks or gzip, chunk sizes that lie, deflate with and without its zlib header. What a browser would show is
kept; what nobody could read is refused with a reason.
"""

from __future__ import annotations

import re
import zlib

MAX_BYTES = 64_000_000
"""No page may be longer than this after decoding; the longest real pages are some 20 MB."""

_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]{0,1000})?\r?\n")


class BodyError(Exception):
    """A body that cannot be read; `reason` is "bad_encoding", "truncated" or "too_large"."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def join_chunks(body: bytes) -> bytes:
    """A body sent with `Transfer-Encoding: chunked`, without its chunk sizes (RFC 9112, section 7.1).

    A body that does not begin with a chunk size was joined before it was stored and is returned as it is; after a
    wrong size, what follows is kept unchanged.
    """
    parts: list[bytes] = []
    at = 0
    while at < len(body):
        match = _CHUNK_SIZE.match(body, at)
        if match is None:
            parts.append(body[at:])
            break
        size = int(match[1], 16)
        if size == 0:
            break
        parts.append(body[match.end() : match.end() + size])
        at = match.end() + size
        if body.startswith(b"\r\n", at):
            at += 2
        elif body.startswith(b"\n", at):
            at += 1
    return b"".join(parts)


def decode_content(body: bytes, encodings: str, *, partial: bool = False, limit: int = MAX_BYTES) -> bytes:
    """`body` with the codings of its `Content-Encoding` header undone, last first (RFC 9110, section 8.4).

    A body that does not have the coding that its header names, and looks like text, is returned as it is. With
    `partial` (a capture cut short on purpose), a stream that ends too early is kept as far as it goes.
    Raises BodyError.
    """
    codings = [coding.strip().lower() for coding in encodings.split(",") if coding.strip()]
    if len(codings) > 5:
        raise BodyError("bad_encoding", f"{len(codings)} content codings")
    for coding in reversed(codings):
        if coding in ("identity", "none", "utf-8", "utf8", "binary", "8bit", "chunked"):
            continue
        body = _undo(coding, body, partial, limit)
    return body


def _undo(coding: str, body: bytes, partial: bool, limit: int) -> bytes:
    coding = coding.removeprefix("x-")
    if coding not in ("gzip", "deflate", "br", "zstd"):
        if _is_text(body):
            return body
        raise BodyError("bad_encoding", f"unknown content coding {coding[:40]}")
    if not body:
        return body
    try:
        output, whole = _decode(coding, body, limit)
    except Exception as error:  # zlib.error, brotli.error, zstandard.ZstdError
        if _is_text(body):
            return body
        raise BodyError("bad_encoding", f"{coding}: {error}") from None
    if len(output) > limit:
        raise BodyError("too_large", f"more than {limit} bytes after {coding}")
    if not whole and not partial:
        raise BodyError("truncated", f"the {coding} stream ends early")
    return output


def _is_text(body: bytes) -> bool:
    head = body[:512]
    return not any(byte < 9 or 13 < byte < 32 for byte in head) and not head.startswith(b"\x1f\x8b")


def _decode(coding: str, body: bytes, limit: int) -> tuple[bytes, bool]:
    """What `body` decodes to, of which at most some 32 MB over `limit` are made, and whether the stream is whole."""
    if coding == "deflate":
        # RFC 9110 means zlib's format, some servers send the bare stream; the first byte tells (RFC 1950: method 8).
        return _inflate(body, 15 if body[0] & 15 == 8 and int.from_bytes(body[:2]) % 31 == 0 else -15, limit)
    if coding == "br":
        import brotli

        decoder = brotli.Decompressor()
        return decoder.process(body, output_buffer_limit=limit + 1), decoder.is_finished()
    if coding == "zstd":
        import zstandard

        inflate = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        output = bytearray()
        # There is no bound on its output, but 1 KB makes at most 32 MB.
        for at in range(0, len(body), 1024):
            output += inflate.decompress(body[at : at + 1024])
            if inflate.eof or len(output) > limit:
                break
        return bytes(output), inflate.eof
    output = bytearray()
    while body.startswith(b"\x1f\x8b") or not output:
        member = zlib.decompressobj(31)
        output += member.decompress(body, limit + 1 - len(output))
        if not member.eof or len(output) > limit:
            return bytes(output), member.eof
        body = member.unused_data
    return bytes(output), True


def _inflate(body: bytes, window: int, limit: int) -> tuple[bytes, bool]:
    stream = zlib.decompressobj(window)
    return stream.decompress(body, limit + 1), stream.eof
