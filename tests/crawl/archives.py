"""Reading back what a crawl wrote, with readers that forgive nothing."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from fastwarc.warc import ArchiveIterator as FastIterator
from warcio.archiveiterator import ArchiveIterator
from warcio.checker import Checker


def members(path: Path) -> list[tuple[int, bytes]]:
    """Offset and content of every gzip member; fails if one is cut, or if anything follows the last."""
    data, found, offset = path.read_bytes(), [], 0
    while offset < len(data):
        unpacker = zlib.decompressobj(31)
        content = unpacker.decompress(data[offset:])
        assert unpacker.eof, f"{path}: the member at {offset} is cut"
        found.append((offset, content))
        offset = len(data) - len(unpacker.unused_data)
    return found


def records(folder: Path) -> list[Any]:
    """All records of all archives, with their content as `payload`."""
    found = []
    for path in sorted(folder.glob("*.warc.gz")):
        assert all(content.startswith(b"WARC/1.1\r\n") for _, content in members(path))
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, check_digests="raise"):
                record.payload = record.content_stream().read()
                found.append(record)
    return found


def captured(folder: Path) -> list[str]:
    """URLs of all pages, sorted; twice if captured twice."""
    return sorted(url for url, status in answers(folder) if status == "200")


def answers(folder: Path) -> list[tuple[str, str]]:
    """URL and status of all that servers answered."""
    return [
        (record.rec_headers.get_header("WARC-Target-URI"), record.http_headers.get_statuscode())
        for record in records(folder)
        if record.rec_type in ("response", "revisit")
    ]


def check(folder: Path) -> None:
    """`warcio check` finds nothing, FastWARC reads the same records, and the index points at those that it names."""
    names = ("WARC-Type", "WARC-Record-ID", "WARC-Block-Digest")
    ours = [tuple(map(record.rec_headers.get_header, names)) for record in records(folder)]
    theirs = []
    for path in sorted(folder.glob("*.warc.gz")):
        with path.open("rb") as stream:
            for record in FastIterator(stream, parse_http=False):
                assert record.verify_block_digest()
                theirs.append(tuple(map(record.headers.get, names)))
    assert theirs == ours
    for path in sorted(folder.glob("*.warc.gz")):

        class Arguments:
            inputs = [str(path)]
            verbose = False

        checker = Checker(Arguments)
        checker.process_all()
        assert checker.exit_value == 0
    lines = (folder / "index.cdxj").read_text().splitlines()
    assert lines == sorted(lines, key=lambda line: line.split(" ")[:2])
    for line in lines:
        entry = json.loads(line.split(" ", 2)[2])
        data = (folder / entry["filename"]).read_bytes()[int(entry["offset"]) :][: int(entry["length"])]
        content = zlib.decompressobj(31).decompress(data)
        assert f"WARC-Target-URI: {entry['url']}\r\n".encode() in content
        assert f"HTTP/1.1 {entry['status']}".encode() in content
    assert len(lines) == len(answers(folder))
