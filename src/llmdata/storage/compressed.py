"""Compressed files read member by member: bounded memory, known offsets, and a way back after damage.

Archives of web pages are chains of gzip members (or LZ4 or Zstandard frames), one a record, so that a reader may
start in the middle. FastWARC reads such chains 1.4 times as fast, but takes a truncated record for a whole one, skips
records with LF line ends without a word, and loses its place after damage; reading is 3 % of the time a page takes.
"""

from __future__ import annotations

import io
import zlib
from typing import IO, Protocol

CHUNK = 1 << 18
OUTPUT = 1 << 20
"""At most so many bytes are decompressed in one step (Zstandard: 32 MB, from 1 KB of input)."""

_MAGIC = {"gzip": b"\x1f\x8b\x08", "zstd": b"\x28\xb5\x2f\xfd", "lz4": b"\x04\x22\x4d\x18"}

STORED = {"gzip": 1 << 16, "zstd": 1 << 17, "lz4": 1 << 22}
"""The longest run of input that a codec may store as it is. A chain of sound members longer than this cannot be
part of a compressed file captured inside the archive."""


class Damage(Exception):
    """The bytes from `offset` on cannot be read: "truncated" or "bad_record"."""

    def __init__(self, offset: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.offset, self.reason, self.detail = offset, reason, detail


class _Decoder(Protocol):
    eof: bool
    hungry: bool  # wants more input before it can go on

    def step(self, data: memoryview) -> tuple[bytes, int]:
        """Decompress from `data`; returns output and how many bytes of `data` were used."""


class _Gzip:
    hungry = True

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(31)
        self.eof = False

    def step(self, data: memoryview) -> tuple[bytes, int]:
        output = self._inflate.decompress(data, OUTPUT)
        self.eof = self._inflate.eof
        left = self._inflate.unused_data if self.eof else self._inflate.unconsumed_tail
        return output, len(data) - len(left)


class _Zstd:
    hungry = True

    def __init__(self) -> None:
        import zstandard

        self._inflate = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        self.eof = False

    def step(self, data: memoryview) -> tuple[bytes, int]:
        piece = data[:1024]
        output = self._inflate.decompress(piece)
        self.eof = self._inflate.eof
        return output, len(piece) - len(self._inflate.unused_data)


class _Lz4:
    def __init__(self) -> None:
        import lz4.frame

        self._inflate = lz4.frame.LZ4FrameDecompressor()
        self.eof, self.hungry = False, True

    def step(self, data: memoryview) -> tuple[bytes, int]:
        # The decompressor keeps input that it has not used yet, and gives back at its end what was not its own.
        used = len(data) if self.hungry else 0
        output = self._inflate.decompress(data[:used], max_length=OUTPUT)
        self.eof, self.hungry = self._inflate.eof, self._inflate.needs_input
        return output, used - (len(self._inflate.unused_data or b"") if self.eof else 0)


_DECODERS: dict[str, type[_Gzip | _Zstd | _Lz4]] = {"gzip": _Gzip, "zstd": _Zstd, "lz4": _Lz4}


def codec_of(head: bytes) -> str:
    """The codec that the first bytes of a file show: gzip, zstd, lz4, or "" for none."""
    return next((codec for codec, magic in _MAGIC.items() if head.startswith(magic)), "")


def beginning(data: bytes, count: int) -> bytes:
    """The first `count` bytes that `data`, the beginning of a file, decompresses to, as far as they can be read."""
    reader = Reader(io.BytesIO(data), codec_of(data))
    found = b""
    try:
        while len(found) < count and reader.next_member():
            while len(found) < count and (more := reader.take(min(1024, count - len(found)))):
                found += more
    except Damage:
        pass
    return found


class Reader:
    """The decompressed bytes of a file from the member at `start` on. Call `next_member` before reading.

    `member` is where the present member begins in the file; `position` counts the bytes taken of what it holds.
    Every method that reads may raise Damage; then `recover` finds the next sound member.
    """

    def __init__(self, raw: IO[bytes], codec: str, start: int = 0) -> None:
        self._raw, self.codec = raw, codec
        self._restart(start)

    def _restart(self, offset: int) -> None:
        self._raw.seek(offset)
        self.position = 0
        self._input, self._input_at, self._used = memoryview(b""), offset, 0
        self._decoder: _Decoder | None = None
        self._buffer, self._at = b"", 0
        self.member = offset
        self._opened = False

    @property
    def offset(self) -> int:
        """How far the file has been read, in its own bytes (exact at a member's end, and anywhere in a plain file)."""
        return self._input_at + self._used - (0 if self.codec else len(self._buffer) - self._at)

    def next_member(self) -> bool:
        """Go to the next member; False at the end of the file. Padding with zeros is passed over."""
        if not self.codec:
            first, self._opened = not self._opened, True
            return first and bool(self.peek(1))
        while True:
            if self._used == len(self._input) and not self._fill():
                return False
            rest = self._input[self._used :].tobytes()
            padding = len(rest) - len(rest.lstrip(b"\0")) if self._opened else 0
            self._used += padding
            if padding < len(rest):
                break
        self.member = self._input_at + self._used
        magic = _MAGIC[self.codec]
        if len(self._input) - self._used < len(magic):
            self._fill()
        head = self._input[self._used : self._used + len(magic)].tobytes()
        if head != magic:
            short = magic.startswith(head)
            raise Damage(self.member, "truncated" if short else "bad_record", f"no {self.codec} member here")
        self._decoder, self._opened, self.position = _DECODERS[self.codec](), True, 0
        return True

    def peek(self, count: int) -> bytes:
        """The next `count` bytes of the present member, fewer only at its end, without moving on."""
        while len(self._buffer) - self._at < count and (more := self._more()):
            self._buffer, self._at = self._buffer[self._at :] + more, 0
        return self._buffer[self._at : self._at + count]

    def take(self, count: int) -> bytes:
        """The next `count` bytes of the present member, fewer only at its end."""
        parts = [self._buffer[self._at : self._at + count]]
        self._at += len(parts[0])
        left = count - len(parts[0])
        while left > 0 and (more := self._more()):
            parts.append(more[:left])
            self._buffer, self._at = more, len(parts[-1])
            left -= len(parts[-1])
        self.position += count - left
        return b"".join(parts)

    def skip(self, count: int) -> int:
        """Pass over up to `count` bytes of the present member; returns how many there were."""
        done = min(len(self._buffer) - self._at, count)
        self._at += done
        if not self.codec and done < count:
            here, end = self.offset, self._raw.seek(0, 2)
            position, member = self.position + done, self.member
            jump = min(count - done, max(0, end - here))
            self.rewind(here + jump)
            self.position, self.member = position + jump, member
            return done + jump
        while done < count and (more := self._more()):
            self._buffer, self._at = more, min(count - done, len(more))
            done += self._at
        self.position += done
        return done

    def rewind(self, offset: int) -> None:
        """Go to `offset` of a file that is not compressed."""
        self._restart(offset)
        self._opened = True

    def recover(self, end: int) -> bool:
        """After Damage: go to the first member before `end` that follows the present one and holds a WARC record."""
        found = find_member(self._raw, self.codec, self.member + 1, end, chain=False)
        self._restart(end if found is None else found)
        return found is not None

    def _fill(self) -> bool:
        rest = self._input[self._used :].tobytes()
        more = self._raw.read(CHUNK)
        self._input_at += self._used
        self._input, self._used = memoryview(rest + more), 0
        return bool(more)

    def _more(self) -> bytes:
        """Decompressed bytes that come next in the present member; empty at its end."""
        if not self.codec:
            data = self._raw.read(CHUNK)
            self._input_at += len(data)
            return data
        if self._decoder is None:
            return b""
        while not self._decoder.eof:
            last = self._decoder.hungry and self._used == len(self._input) and not self._fill()
            try:
                output, used = self._decoder.step(self._input[self._used :])
            except Exception as error:  # zlib.error, zstandard.ZstdError, RuntimeError (lz4), MemoryError
                raise Damage(self.member, "bad_record", f"{self.codec} data error: {error}") from None
            self._used += used
            if output:
                return output
            if last and not self._decoder.eof:
                raise Damage(self.member, "truncated", f"the file ends inside a {self.codec} member")
        return b""


def find_member(raw: IO[bytes], codec: str, start: int, end: int, *, chain: bool) -> int | None:
    """Offset of the first member in [start, end) that holds a WARC record.

    With `chain`, it must be followed by sound members up to the end of the file or for more than STORED bytes,
    which tells the archive's own members from those of a `.warc.gz` captured inside it.
    """
    magic = _MAGIC[codec]
    at, window = start, b""
    while at < end:
        raw.seek(at)
        window = raw.read(CHUNK + len(magic) - 1)
        found = window.find(magic)
        while found >= 0 and at + found < end:
            if _is_sound(raw, codec, at + found, chain):
                return at + found
            found = window.find(magic, found + 1)
        if len(window) < CHUNK:
            return None
        at += CHUNK
    return None


def _is_sound(raw: IO[bytes], codec: str, offset: int, chain: bool) -> bool:
    reader = Reader(raw, codec, offset)
    try:
        reader.next_member()
        if reader.peek(5).upper() != b"WARC/":
            return False
        while chain and reader.offset - offset <= STORED[codec]:
            while reader.skip(OUTPUT):
                pass
            if not reader.next_member():
                break
    except Damage:
        return False
    return True
