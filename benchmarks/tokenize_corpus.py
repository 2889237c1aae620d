"""Parquet files of real, distinct text from unpacked documentation packages, for the other benchmarks of tokenizing.

    apt-get download libreoffice-help-de … && for deb in *.deb; do dpkg -x $deb unpacked/${deb%%_*}; done
    python benchmarks/tokenize_corpus.py unpacked corpus --bytes 1GB

HTML loses its tags, other text is taken as it is; a text that occurs twice is taken once. The packages take turns, so
that every part of the corpus holds them all. `language` is what the path says (…/help/de/…), or empty.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import zip_longest
from pathlib import Path

from llmdata.config import parse_size
from llmdata.document import Document, document_schema, to_batch
from llmdata.storage.parquet import write_table
from llmdata.storage.place import Place

LANGUAGE = re.compile(r"(?:/help/|-doc-|manpages-|reference-|/html/|/C/)([a-z]{2})(?:[-_]\w{2})?/")
SOURCE = {".txt", ".md", ".rst", ".c", ".h", ".py", ".S", ".dts", ".dtsi", ".yaml", ".json"}
PART = 100_000_000


def text_of(path: Path) -> str:
    """The text of a file, without tags if it is HTML; empty if it is none."""
    try:
        data = path.read_bytes()
    except OSError:
        return ""
    if path.suffix in SOURCE:
        return data.decode("utf-8", "replace")
    import lxml.html

    try:
        root = lxml.html.document_fromstring(data, parser=lxml.html.HTMLParser(encoding="utf-8"))
    except (ValueError, lxml.etree.ParserError):
        return ""
    for element in root.xpath("//script|//style"):
        element.drop_tree()
    return re.sub(r"[ \t]*\n\s*\n\s*", "\n\n", root.text_content()).strip()


def files_of(package: Path) -> Iterator[Path]:
    for path in sorted(package.rglob("*")):
        if path.suffix in SOURCE | {".html", ".htm"} and path.is_file() and not path.is_symlink():
            yield path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bytes", default="1GB")
    options = parser.parse_args()
    limit = int(parse_size(options.bytes))
    packages = [list(files_of(package)) for package in sorted(options.folder.iterdir())]
    paths = [path for turn in zip_longest(*packages) for path in turn if path is not None]
    seen: set[bytes] = set()
    held: list[Document] = []
    size = whole = part = 0

    def write() -> None:
        batches = (to_batch(held[at : at + 1000]) for at in range(0, len(held), 1000))
        write_table(Place(str(options.out / f"part-{part:05}.parquet")), batches, document_schema())
        print(f"part {part}: {len(held):,} documents, {whole / 1e6:,.0f} MB in all", file=sys.stderr)

    with ProcessPoolExecutor(2) as pool:
        for start in range(0, len(paths), 10_000):
            block = paths[start : start + 10_000]
            for path, text in zip(block, pool.map(text_of, block, chunksize=100), strict=True):
                data = text.encode("utf-8", "replace")
                digest = hashlib.blake2b(data, digest_size=16).digest()
                if len(data) < 200 or digest in seen:
                    continue
                seen.add(digest)
                name = str(path.relative_to(options.folder))
                found = LANGUAGE.search(f"/{name}")
                held.append(Document(text, id=digest.hex(), url=f"file:///{name}", language=found[1] if found else ""))
                size, whole = size + len(data), whole + len(data)
                if size >= PART or whole >= limit:
                    write()
                    held, size, part = [], 0, part + 1
                if whole >= limit:
                    return
    if held:
        write()


if __name__ == "__main__":
    main()
