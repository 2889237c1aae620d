"""The CDXJ index of a crawl: one sorted line a page, redirect or error, as pywb and other replay tools read it."""

from __future__ import annotations

import json

from llmdata import urls
from llmdata.crawl.frontier import Frontier
from llmdata.crawl.records import payload_digest
from llmdata.storage.place import Place


def surt(url: str) -> str:
    """Sort-friendly form: `http://www.example.org/A?b` → `org,example)/a?b`. Ports other than the default are kept."""
    parsed = urls.parse(urls.canonical(url))
    if parsed is None:
        return url
    host = parsed.host.removeprefix("www.")
    numeric = host.startswith("[") or host.replace(".", "").isdigit()
    labels = host if numeric else ",".join(reversed(host.split(".")))
    port = f":{parsed.port}" if parsed.port else ""
    query = "" if not parsed.query else "?" + "&".join(sorted(parsed.query.split("&")))
    return f"{labels}{port}){parsed.path}{query}".lower()


def write(frontier: Frontier, place: Place) -> None:
    """Write the index of all that the archives hold."""
    with place.writer() as stream:
        for key, date, url, mime, status, sha1, length, offset, name, revisit in frontier.archived():
            fields = {
                "url": url,
                "mime": "warc/revisit" if revisit else mime,
                "status": str(status),
                "digest": payload_digest(sha1),
                "length": str(length),
                "offset": str(offset),
                "filename": name,
            }
            timestamp = "".join(letter for letter in date if letter.isdigit())
            stream.write(f"{key} {timestamp} {json.dumps(fields, ensure_ascii=False)}\n".encode("utf-8", "replace"))
