"""Bodies as servers sent them, and as tools stored them."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from llmdata.storage.http_body import BodyError, decode_content, join_chunks

PAGE = b"<html><body>" + b"text " * 200 + b"</body></html>"


def bare_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


@pytest.mark.parametrize(
    ("body", "encodings"),
    [
        (PAGE, ""),
        (PAGE, "identity"),
        (gzip.compress(PAGE), "gzip"),
        (gzip.compress(PAGE), "X-GZip"),
        (gzip.compress(PAGE[:50]) + gzip.compress(PAGE[50:]), "gzip"),
        (gzip.compress(PAGE) + b"trailing junk", "gzip"),
        (zlib.compress(PAGE), "deflate"),
        (bare_deflate(PAGE), "deflate"),
        (brotli.compress(PAGE), "br"),
        (zstandard.compress(PAGE), "zstd"),
        (gzip.compress(brotli.compress(PAGE)), "br, gzip"),
        (PAGE, "gzip"),  # decoded before it was stored
        (PAGE, "br"),
        (PAGE, "deflate"),
        (PAGE, "zstd"),
        (PAGE, "UTF-8"),
        (PAGE, "made-up"),
    ],
)
def test_content_codings_are_undone(body: bytes, encodings: str) -> None:
    assert decode_content(body, encodings) == PAGE


@pytest.mark.parametrize(
    ("body", "encodings", "reason"),
    [
        (b"\x1f\x8b\x08\x00\x00junk\x01\x02\x03", "gzip", "bad_encoding"),
        (b"\x01\x02\x03", "made-up", "bad_encoding"),
        (PAGE, "gzip, gzip, gzip, gzip, gzip, gzip", "bad_encoding"),
        (gzip.compress(PAGE)[:-12], "gzip", "truncated"),
        (brotli.compress(PAGE)[:-4], "br", "truncated"),
        (zstandard.compress(PAGE)[:-4], "zstd", "truncated"),
        (gzip.compress(bytes(10_000)), "gzip", "too_large"),
        (zlib.compress(bytes(10_000)), "deflate", "too_large"),
        (bare_deflate(bytes(10_000)), "deflate", "too_large"),
        (brotli.compress(bytes(10_000)), "br", "too_large"),
        (zstandard.compress(bytes(10_000)), "zstd", "too_large"),
        (gzip.compress(gzip.compress(bytes(10_000))), "gzip, gzip", "too_large"),
    ],
)
def test_what_nobody_could_read_is_refused(body: bytes, encodings: str, reason: str) -> None:
    with pytest.raises(BodyError) as refused:
        decode_content(body, encodings, limit=2_000)
    assert refused.value.reason == reason


def test_a_body_cut_on_purpose_is_kept_as_far_as_it_goes() -> None:
    kept = decode_content(gzip.compress(PAGE)[:-12], "gzip", partial=True)
    assert kept
    assert PAGE.startswith(kept)


@pytest.mark.parametrize(
    ("body", "joined"),
    [
        (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
        (b"5;name=value\r\nhello\r\n0\r\nTrailer: x\r\n\r\n", b"hello"),
        (b"5\nhello\n0\n\n", b"hello"),
        (b"5\r\nhello\r\n", b"hello"),  # no last chunk
        (b"ff\r\nhello", b"hello"),  # cut inside a chunk
        (b"<html>never chunked", b"<html>never chunked"),
        (b"5\r\nhello\r\nzz\r\nworld", b"hellozz\r\nworld"),  # a size that is none
        (b"", b""),
        (b"fffffffffffffff\r\nx", b"x"),
    ],
)
def test_chunks_are_joined(body: bytes, joined: bytes) -> None:
    assert join_chunks(body) == joined


@given(st.lists(st.binary(min_size=1, max_size=50)))
def test_chunking_round_trips(parts: list[bytes]) -> None:
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    assert join_chunks(body) == b"".join(parts)


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "br", "zstd", "gzip, br", "x"]))
def test_no_body_raises_anything_else(body: bytes, encodings: str) -> None:
    try:
        decode_content(body, encodings, limit=10_000)
    except BodyError as refused:
        assert refused.reason in {"bad_encoding", "truncated", "too_large"}
    join_chunks(body)
