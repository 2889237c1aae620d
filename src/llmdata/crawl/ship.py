"""A crawl whose folder is on an object store: made on the local disk, its finished archives shipped as they come.

The frontier is a database that changes with every page, which no object store can hold; it stays on this machine, in
the cache folder, and so a crawl goes on where it was begun.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from llmdata.errors import InputError, LlmdataError
from llmdata.resources import cache_folder
from llmdata.storage.place import Place

log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two looks for archives that are finished."""
BESIDE = ("index.cdxj", "left-out.tsv", "crawl.json")
"""What a crawl writes at its end, in the order in which it is shipped."""


def local_folder(out: Place) -> Place:
    """Where the crawl of `out` is made; raises InputError if `out` holds one that was made on another machine."""
    here = Place.of(cache_folder("crawls") / hashlib.sha256(str(out).encode()).hexdigest()[:16])
    if not (here / "frontier.sqlite").exists() and out.children("*.warc.gz"):
        raise InputError(
            f"{out}: holds archives of a crawl whose state is not on this machine (it would be in {here}). Go on where "
            "it was begun, choose another folder, or start anew with --rerun."
        )
    return here


@contextmanager
def shipping(here: Place, out: Place) -> Iterator[None]:
    """Ship archives from `here` to `out` as long as the block runs, and what is left when it ends, however it ends."""
    over = threading.Event()

    def keep() -> None:
        while not over.wait(EVERY):
            try:
                _ship(here, out, [place.name for place in here.children("*.warc.gz")])
            except LlmdataError as error:  # tried again, and at the end for good
                log.warning("%s", error)

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _ship(here, out, [place.name for place in here.children("*.warc.gz")])
        _ship(here, out, [name for name in BESIDE if (here / name).exists()])


def _ship(here: Place, out: Place, names: list[str]) -> None:
    for name in names:
        there = out / name
        # What was shipped does not change but for what is written at the end, which is small.
        if name not in BESIDE and there.exists() and there.size() == (here / name).size():
            continue
        with there.writer() as stream, (here / name).open() as source:
            shutil.copyfileobj(source, stream, 8 << 20)
