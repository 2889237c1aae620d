"""Published blocklists, downloaded into the user's cache with their licence and digest.

CACHE/blocklists/ut1/adult/domains   urls   source.json
CACHE/blocklists/ldnoobw/en/words    source.json
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from llmdata.errors import ConfigError, InputError
from llmdata.resources import cache_folder
from llmdata.storage.place import Place

if TYPE_CHECKING:
    from llmdata.engine.session import Session


@dataclass(frozen=True, slots=True)
class Source:
    """Who publishes lists: where, under which licence, and in which files of a category."""

    address: str
    licence: str
    files: Mapping[str, str]
    """Name in the cache → path under `address`, with `{category}`."""
    default: tuple[str, ...]
    archive: str | None = None
    """Path of a tar archive with all files of a category, which is asked for first."""
    required: tuple[str, ...] = ()


SOURCES = {
    "ut1": Source(
        "https://dsi.ut-capitole.fr/blacklists/download",
        "CC BY-SA 4.0, Université Toulouse Capitole",
        {"domains": "{category}/domains", "urls": "{category}/urls"},
        ("adult",),
        archive="{category}.tar.gz",
        required=("domains",),
    ),
    "ldnoobw": Source(
        "https://raw.githubusercontent.com/LDNOOBW/List-of-Dirty-Naughty-Obscene-and-Otherwise-Bad-Words/master",
        "CC BY 4.0, Shutterstock",
        {"words": "{category}"},
        ("en",),
        required=("words",),
    ),
}
"""Lists that `llmdata blocklists update` knows."""

_TIMEOUT = 60.0
_MOST_BYTES = 2_000_000_000


def update(
    name: str, categories: Sequence[str], session: Session, *, address: str | None = None
) -> list[dict[str, Any]]:
    """Download categories of the list `name`, from `address` if given; returns what `source.json` says of each.

    A list that has not changed stays as it is. Raises ConfigError for an unknown list, InputError if it cannot be had.
    """
    source = SOURCES.get(name)
    if source is None:
        raise ConfigError(f"there is no published list {name!r}; there are: {', '.join(SOURCES)}")
    records = []
    for category in categories or source.default:
        if not category.strip(".") or "/" in category or "\\" in category:
            raise ConfigError(f"--category {category}: the name of a category has no slash, as in: {source.default[0]}")
        session.stop.check()
        base = (address or source.address).rstrip("/")
        files, origin = _fetch(source, category, base)
        records.append(_store(cache_folder("blocklists") / name / category, files, origin, source.licence))
        session.progress.note(f"{name}/{category}: {records[-1]['entries']}")
    return records


def available() -> list[dict[str, Any]]:
    """What the cache holds: `source.json` of each list, with its `name`."""
    root = cache_folder("blocklists")
    return [
        {"name": path.parent.relative_to(root).as_posix(), **json.loads(path.read_text("utf-8"))}
        for path in sorted(root.glob("*/*/source.json"))
    ]


def list_file(name: str, kind: str) -> Path:
    """The file that a recipe names: a path, or a downloaded list, as `ut1/adult`."""
    path = Path(name)
    if path.is_file():
        return path
    cached = cache_folder("blocklists") / name / kind
    if name.partition("/")[0] in SOURCES:
        if cached.is_file():
            return cached
        source, _, category = name.partition("/")
        raise ConfigError(
            f"clean.url.{kind}: the list {name} is not there; get it with: "
            f"llmdata blocklists update {source} --category {category or SOURCES[source].default[0]}"
        )
    raise ConfigError(f"clean.url.{kind}: there is no file {path}; give a text file with one entry a line")


def _fetch(source: Source, category: str, base: str) -> tuple[dict[str, bytes], str]:
    if source.archive:
        origin = f"{base}/{source.archive.format(category=quote(category))}"
        content = _get(origin)
        if content is not None:
            return _unpack(content, source, category, origin), origin
    files = {}
    for name, path in source.files.items():
        found = _get(f"{base}/{path.format(category=quote(category))}")
        if found is not None:
            files[name] = found
    origin = f"{base}/{category}"
    _check(files, source, category, origin)
    return files, origin


def _unpack(content: bytes, source: Source, category: str, origin: str) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name in source.files and name not in files and member.isfile() and member.size <= _MOST_BYTES:
                    stream = archive.extractfile(member)
                    files[name] = stream.read() if stream else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"{origin}: not a whole tar archive: {error}") from None
    _check(files, source, category, origin)
    return files


def _check(files: Mapping[str, bytes], source: Source, category: str, origin: str) -> None:
    for name in source.required:
        if not files.get(name, b"").strip():
            raise InputError(f"{origin}: there is no list {name} of a category {category}; is its name right?")


def _get(address: str) -> bytes | None:
    """The body at `address`; None if there is nothing. Raises InputError if the server cannot be asked."""
    import requests

    try:
        with requests.get(address, timeout=_TIMEOUT, stream=True) as response:
            if response.status_code in (404, 410):
                return None
            response.raise_for_status()
            # Not response.content: a list that a server sends as gzip is one thing, an archive is another.
            pieces, size = [], 0
            for piece in response.iter_content(1 << 20):
                size += len(piece)
                if size > _MOST_BYTES:
                    raise InputError(f"{address}: more than {_MOST_BYTES:,} bytes")
                pieces.append(piece)
            length = response.headers.get("Content-Length")
            if length and "Content-Encoding" not in response.headers and int(length) != size:
                raise InputError(f"{address}: the download was cut off at {size:,} of {length} bytes; try again")
            return b"".join(pieces)
    except requests.RequestException as error:
        raise InputError(f"{address}: cannot be downloaded: {error}") from None


def _store(folder: Path, files: Mapping[str, bytes], origin: str, licence: str) -> dict[str, Any]:
    """Put the files down, and `source.json` last."""
    from llmdata.clean.host_lists import compiled

    record: dict[str, Any] = {
        "origin": origin,
        "licence": licence,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
        "entries": {name: content.count(b"\n") for name, content in sorted(files.items())},
    }
    folder.mkdir(parents=True, exist_ok=True)
    about = folder / "source.json"
    before = json.loads(about.read_text("utf-8")) if about.is_file() else {}
    if before.get("sha256") == record["sha256"] and all((folder / name).is_file() for name in files):
        return {**before, "changed": False}
    for name, content in files.items():
        Place(str(folder / name)).write_bytes(content)
        if name != "words":
            compiled(folder / name, name)
    record["downloaded"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    Place(str(about)).write_bytes(json.dumps(record, indent=1).encode())
    return {**record, "changed": True}
