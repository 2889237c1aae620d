"""The frontier: what to fetch, what has been, and where each capture lies, in one SQLite file.

Memory does not grow with the number of URLs. All changes that belong to one page are made between two calls of
`commit`, by one thread, so that a crawl killed at any moment knows either all of a page or nothing.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmdata.crawl.fetch import HostRules, Job
from llmdata.crawl.reading import Link
from llmdata.errors import InputError

VERSION = 3
QUEUED, CAPTURED, FOLLOWED, LEFT_OUT, FAILED = range(5)

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE host (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,          -- scheme://name:port
    queued INTEGER NOT NULL DEFAULT 0,
    pages INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0,        -- Unix time before which it is left alone
    failures INTEGER NOT NULL DEFAULT 0,-- in a row
    latency REAL,                       -- seconds, smoothed
    robots TEXT,                        -- robots.txt; NULL until it is fetched
    reserved TEXT NOT NULL DEFAULT '',  -- tdmrep.json
    ruled_at REAL NOT NULL DEFAULT 0    -- when robots.txt was fetched, Unix time
);
CREATE INDEX host_due ON host (due) WHERE queued > 0;
CREATE TABLE url (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,           -- BLAKE2b-128 of the canonical form
    url TEXT NOT NULL,
    host INTEGER NOT NULL,
    depth INTEGER NOT NULL,
    via INTEGER,                        -- the page it was found on; NULL for a seed
    redirects INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    state INTEGER NOT NULL DEFAULT 0,
    reason TEXT
);
CREATE INDEX url_queue ON url (host, tries, depth, id) WHERE state = 0;
CREATE TABLE capture (
    url INTEGER PRIMARY KEY,
    warc INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    sha1 BLOB NOT NULL,
    date TEXT NOT NULL,
    mime TEXT NOT NULL,
    surt TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    revisit INTEGER NOT NULL
);
CREATE INDEX capture_sha1 ON capture (sha1);
CREATE TABLE answer (               -- redirects and errors in the archives
    url INTEGER PRIMARY KEY,
    warc INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    sha1 BLOB NOT NULL,
    date TEXT NOT NULL,
    mime TEXT NOT NULL,
    surt TEXT NOT NULL,
    status INTEGER NOT NULL
);
CREATE TABLE family (               -- URLs that differ in the query alone
    key BLOB PRIMARY KEY,
    urls INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE warc (id INTEGER PRIMARY KEY, name TEXT NOT NULL, length INTEGER NOT NULL, closed INTEGER NOT NULL);
CREATE TABLE not_followed (reason TEXT PRIMARY KEY, links INTEGER NOT NULL) WITHOUT ROWID;
"""


_UNREACHABLE = f"(state = {FAILED} OR state = {LEFT_OUT} AND (reason GLOB 'robots_*' OR reason = 'private_address'))"
_HOST = "id, name, pages, failures, latency, ruled_at, due"


@dataclass(slots=True)
class Host:
    """A host with something in its queue."""

    id: int
    name: str
    pages: int
    failures: int
    latency: float | None
    ruled_at: float
    due: float


class Frontier:
    """One crawl's state. Use from one thread; changes count from `commit` on."""

    def __init__(self, path: Path) -> None:
        is_new = not path.exists()
        self._db = sqlite3.connect(path, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            # FULL: what an archive's length says must not be older than the archive, whatever happens to the machine.
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA cache_size=-32768")
            self._db.execute("BEGIN IMMEDIATE")
            if not self._one("SELECT count(*) FROM sqlite_master WHERE name = 'meta'"):
                if not is_new and path.stat().st_size > 0 and self._one("SELECT count(*) FROM sqlite_master"):
                    raise sqlite3.DatabaseError("it has other tables")
                for statement in _SCHEMA.split(";\n"):
                    self._db.execute(statement)
                self.remember("version", VERSION)
            version = self.recall("version")
        except sqlite3.OperationalError:
            self._db.close()
            raise
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise InputError(f"{path}: not the frontier of a crawl: {error}") from None
        if version != VERSION:
            self._db.close()
            raise InputError(
                f"{path}: made by another version of llmdata (format {version}, this one has {VERSION}). Go on with "
                f"that version, or remove {path.parent} and crawl anew."
            )
        self.commit()
        self._host_id = lru_cache(maxsize=4096)(self._find_host)

    def close(self) -> None:
        """Drop what is not committed, and close."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._db.close()

    def commit(self) -> None:
        """Make all changes since the last commit durable."""
        self._db.execute("COMMIT")
        self._db.execute("BEGIN IMMEDIATE")

    def recall(self, key: str) -> Any:
        """A fact about the crawl; None if it is not known."""
        value = self._one("SELECT value FROM meta WHERE key = ?", key)
        return None if value is None else json.loads(value)

    def remember(self, key: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def add(self, links: Iterable[Link], *, depth: int, via: int | None = None, redirects: int = 0) -> int:
        """Queue the links that were never seen; returns how many that are. Without `via` they are seeds."""
        by_host: dict[str, list[Link]] = {}
        for link in links:
            by_host.setdefault(link.host, []).append(link)
        added = 0
        for name, of_host in by_host.items():
            host = self._host_id(name)
            rows = [(link.key, link.url, host, depth, via, redirects) for link in of_host]
            new = self._db.executemany(
                "INSERT OR IGNORE INTO url (key, url, host, depth, via, redirects) VALUES (?, ?, ?, ?, ?, ?)", rows
            ).rowcount
            if new:
                self._db.execute("UPDATE host SET queued = queued + ? WHERE id = ?", (new, host))
                added += new
        return added

    def refused_variants(self, links: Iterable[Link], most: int) -> set[bytes]:
        """Keys of the links that are new and would be more than `most` of their family; the others are counted in."""
        refused = set()
        for link in links:
            if link.family is None or self._one("SELECT 1 FROM url WHERE key = ?", link.key):
                continue
            counted = self._db.execute(
                "INSERT INTO family VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET urls = urls + 1 WHERE urls < ?",
                (link.family, most),
            ).rowcount
            if not counted:
                refused.add(link.key)
        return refused

    def _find_host(self, name: str) -> int:
        self._db.execute("INSERT OR IGNORE INTO host (name) VALUES (?)", (name,))
        return int(self._one("SELECT id FROM host WHERE name = ?", name))

    def due_hosts(self, now: float, limit: int) -> Iterator[Host]:
        """Hosts with a queue that may be visited now, the longest waiting first."""
        rows = self._db.execute(
            f"SELECT {_HOST} FROM host WHERE queued > 0 AND due <= ? ORDER BY due LIMIT ?", (now, limit)
        ).fetchall()
        return (Host(*row) for row in rows)

    def host(self, host: int) -> Host:
        """The host of this number."""
        row = self._db.execute(f"SELECT {_HOST} FROM host WHERE id = ?", (host,)).fetchone()
        return Host(*row)

    def key(self, url: int) -> bytes:
        """Digest of the canonical form of URL number `url`."""
        return bytes(self._one("SELECT key FROM url WHERE id = ?", url))

    def hosts_waiting(self, now: float) -> int:
        """Hosts with a queue that have to be left alone for now, counted up to 10,000."""
        waiting = "SELECT 1 FROM host WHERE queued > 0 AND due > ? LIMIT 10000"
        return int(self._one(f"SELECT count(*) FROM ({waiting})", now))

    def next_due(self) -> float | None:
        """When the next host may be visited (Unix time); None if all queues are empty."""
        due: float | None = self._one("SELECT min(due) FROM host WHERE queued > 0")
        return due

    def next_job(self, host: int, in_flight: Collection[int]) -> Job | None:
        """The next URL of `host`: those not tried before first, then the shallowest, then the earliest found."""
        rows = self._db.execute(
            "SELECT id, url, host, depth, redirects, tries, via FROM url WHERE state = 0 AND host = ? "
            "ORDER BY tries, depth, id LIMIT ?",
            (host, len(in_flight) + 1),
        )
        for id_, url, host_id, depth, redirects, tries, via in rows:
            if id_ not in in_flight:
                source = "" if via is None else str(self._one("SELECT url FROM url WHERE id = ?", via))
                is_seed = via is None
                return Job(id_, url, host_id, depth, redirects, tries, is_seed, source)
        return None

    def settle(self, job: Job, state: int, reason: str = "") -> None:
        """`job` is done with, whatever came of it."""
        self._db.execute("UPDATE url SET state = ?, reason = ? WHERE id = ?", (state, reason or None, job.id))
        self._db.execute(
            "UPDATE host SET queued = queued - 1, pages = pages + ? WHERE id = ?", (state == CAPTURED, job.host)
        )

    def captured(
        self, job: Job, warc: int, offset: int, length: int, sha1: bytes, date: str, mime: str, surt: str, size: int,
        revisit: bool,
    ) -> None:  # fmt: skip
        """`job` was captured, and its record lies at `offset` of archive `warc`."""
        self.settle(job, CAPTURED)
        row = (job.id, warc, offset, length, sha1, date, mime, surt, size, revisit)
        self._db.execute("INSERT INTO capture VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def answered(
        self, job: Job, warc: int, offset: int, length: int, sha1: bytes, date: str, mime: str, surt: str, status: int
    ) -> None:
        """The answer to `job` was no page, and its record lies at `offset` of archive `warc`."""
        row = (job.id, warc, offset, length, sha1, date, mime, surt, status)
        self._db.execute("INSERT INTO answer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def earlier_capture(self, sha1: bytes) -> tuple[str, str] | None:
        """URL and date of the capture that holds this payload, if one does."""
        row: tuple[str, str] | None = self._db.execute(
            "SELECT url.url, date FROM capture JOIN url ON url.id = capture.url WHERE sha1 = ? AND revisit = 0 LIMIT 1",
            (sha1,),
        ).fetchone()
        return row

    def captures_of(self, sha1: bytes, most: int) -> int:
        """How many captures have this payload, counted up to `most`."""
        return int(self._one("SELECT count(*) FROM (SELECT 1 FROM capture WHERE sha1 = ? LIMIT ?)", sha1, most))

    def not_captured(self) -> Iterator[tuple[str, str, str, str]]:
        """URL, outcome (left_out or error), reason, and the page that links to it, of all that were not captured."""
        return self._db.execute(
            "SELECT url.url, CASE url.state WHEN ? THEN 'left_out' ELSE 'error' END, url.reason, "
            "coalesce(source.url, '') FROM url LEFT JOIN url AS source ON source.id = url.via "
            "WHERE url.state IN (?, ?) ORDER BY url.id",
            (LEFT_OUT, LEFT_OUT, FAILED),
        )

    def try_again(self, job: Job) -> None:
        """Put `job` at the end of its host's queue."""
        self._db.execute("UPDATE url SET tries = tries + 1 WHERE id = ?", (job.id,))

    def visited(self, host: int, *, due: float, failures: int, latency: float | None) -> None:
        """What a visit taught about a host, and when the next one may be."""
        self._db.execute(
            "UPDATE host SET due = max(due, ?), failures = ?, latency = ? WHERE id = ?", (due, failures, latency, host)
        )

    def set_due(self, host: int, due: float) -> None:
        self._db.execute("UPDATE host SET due = ? WHERE id = ?", (due, host))

    def ruled(self, rules: HostRules) -> None:
        """robots.txt of a host was fetched."""
        self._db.execute(
            "UPDATE host SET robots = ?, reserved = ?, ruled_at = ?, failures = 0 WHERE id = ?",
            (rules.robots, rules.reserved, time.time(), rules.host),
        )

    def rules(self, host: int) -> HostRules | None:
        """What is known of a host's rules, however old; None if they were never fetched."""
        robots, reserved = self._db.execute("SELECT robots, reserved FROM host WHERE id = ?", (host,)).fetchone()
        return None if robots is None else HostRules(host, robots, reserved)

    def give_up(self, host: int, state: int, reason: str) -> int:
        """Settle all that is queued for `host`; returns how many that are."""
        number = self._db.execute(
            "UPDATE url SET state = ?, reason = ? WHERE state = 0 AND host = ?", (state, reason, host)
        ).rowcount
        self._db.execute("UPDATE host SET queued = 0, failures = 0 WHERE id = ?", (host,))
        return number

    def unreachable(self) -> list[tuple[str, str]]:
        """URL and reason of all that could not be had, if nothing was left out for a better reason."""
        if self._one(f"SELECT 1 FROM url WHERE state = ? AND NOT {_UNREACHABLE} LIMIT 1", LEFT_OUT):
            return []
        return self._db.execute(f"SELECT url, reason FROM url WHERE {_UNREACHABLE} ORDER BY id").fetchall()

    def queue_unreachable(self) -> None:
        """Put all that could not be had into the queue, as if it had never been tried."""
        self._db.execute(f"UPDATE url SET state = 0, reason = NULL, tries = 0 WHERE {_UNREACHABLE}")
        queued = "(SELECT count(*) FROM url WHERE url.host = host.id AND state = 0)"
        self._db.execute(f"UPDATE host SET queued = {queued}, due = 0, failures = 0")
        self._db.execute("DELETE FROM answer WHERE url IN (SELECT id FROM url WHERE state = 0)")

    def not_followed(self, counts: dict[str, int]) -> None:
        """Count links that did not become URLs of the crawl, by reason."""
        self._db.executemany(
            "INSERT INTO not_followed VALUES (?, ?) ON CONFLICT (reason) DO UPDATE SET links = links + excluded.links",
            counts.items(),
        )

    def open_archive(self, name: str) -> int:
        """A new archive is begun; returns its number."""
        return int(self._db.execute("INSERT INTO warc (name, length, closed) VALUES (?, 0, 0)", (name,)).lastrowid or 0)

    def set_archive(self, warc: int, length: int, *, closed: bool = False) -> None:
        """The archive is whole up to `length`; `closed` if nothing will be added."""
        self._db.execute("UPDATE warc SET length = ?, closed = ? WHERE id = ?", (length, closed, warc))

    def archives(self) -> list[tuple[int, str, int, bool]]:
        """Number, name, length and whether closed, of every archive."""
        rows = self._db.execute("SELECT id, name, length, closed FROM warc ORDER BY id").fetchall()
        return [(warc, name, length, bool(closed)) for warc, name, length, closed in rows]

    def captures_in(self, name: str) -> int:
        """Number of captures in the archive of this name."""
        query = "SELECT count(*) FROM capture WHERE warc = (SELECT id FROM warc WHERE name = ?)"
        return int(self._one(query, name))

    def archived(self) -> Iterator[tuple[str, str, str, str, int, bytes, int, int, str, bool]]:
        """Of pages, redirects and errors, ordered as an index is: SURT, date, URL, type, status, SHA-1, length,
        offset, archive and whether a revisit."""
        return self._db.execute(
            "SELECT surt, date, url.url, mime, status, sha1, record.length, offset, name, revisit FROM ("
            "SELECT url, warc, offset, length, sha1, date, mime, surt, 200 AS status, revisit FROM capture UNION ALL "
            "SELECT url, warc, offset, length, sha1, date, mime, surt, status, 0 FROM answer) AS record "
            "JOIN url ON url.id = record.url JOIN warc ON warc.id = record.warc ORDER BY surt, date, url.id"
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """URLs by state and reason, and links not followed by reason."""
        tallies: dict[str, dict[str, int]] = {"left_out": {}, "errors": {}, "not_followed": {}}
        rows = self._db.execute(
            "SELECT state, reason, count(*) FROM url WHERE state IN (?, ?) GROUP BY 1, 2 ORDER BY 1, 2",
            (LEFT_OUT, FAILED),
        )
        for state, reason, number in rows:
            tallies["left_out" if state == LEFT_OUT else "errors"][reason] = number
        tallies["not_followed"] = dict(self._db.execute("SELECT reason, links FROM not_followed ORDER BY 1").fetchall())
        return tallies

    def totals(self) -> dict[str, int]:
        """Pages, bytes, revisits, URLs queued, redirects and hosts."""
        pages, size, revisits = self._db.execute(
            "SELECT count(*), coalesce(sum(bytes), 0), coalesce(sum(revisit), 0) FROM capture"
        ).fetchone()
        return {
            "pages": pages,
            "bytes": size,
            "revisits": revisits,
            "redirects": self._one("SELECT count(*) FROM url WHERE state = ?", FOLLOWED),
            "queued": self._one("SELECT coalesce(sum(queued), 0) FROM host"),
            "hosts": self._one("SELECT count(*) FROM host"),
        }

    def _one(self, query: str, *values: Any) -> Any:
        row = self._db.execute(query, values).fetchone()
        return None if row is None else row[0]
