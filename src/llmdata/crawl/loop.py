"""The loop of a crawl: hand out URLs, take in what comes of them, commit both sides of each page at once.

Threads fetch, processes read (`readers`), and this one loop owns the frontier and the archives: it alone decides,
writes and commits.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

from llmdata import urls
from llmdata.crawl import consent, index, politeness, records
from llmdata.crawl.address import AddressPolicy, is_loopback_name
from llmdata.crawl.archive import Archives
from llmdata.crawl.config import CrawlConfig
from llmdata.crawl.fetch import Answer, Fetcher, HostRules, Job
from llmdata.crawl.frontier import FAILED, FOLLOWED, LEFT_OUT, Frontier, Host
from llmdata.crawl.readers import Readers
from llmdata.crawl.reading import Link, Reader, Reading
from llmdata.crawl.robots import Robots
from llmdata.engine.session import Session

MAX_REDIRECTS = 10
MAX_REPEATS = 30
"""Pages of the same bytes whose links are followed: a server that answers all alike has endless relative links. Real
manuals have the same page once a language; with 3, a tenth of Apache's in eleven languages was never found."""
ROBOTS_AGE = 24 * 3600.0
"""RFC 9309, section 2.4: a copy of robots.txt is used for a day."""
BATCH = 64
"""Events taken in at a time at most."""
COMMIT_EVERY = 0.2
"""Seconds: a commit waits for the disk twice, and what is lost in between is merely fetched again."""
LONGEST_WAIT = 0.2
"""Seconds between two looks at the wish to stop."""
_RULES_KEPT = 512


class Loop:
    """One run of a crawl."""

    def __init__(
        self, config: CrawlConfig, folder: Path, session: Session, frontier: Frontier, seeds: list[str]
    ) -> None:
        self._config, self._folder, self._session, self._frontier = config, folder, session, frontier
        self._archives = Archives(folder, frontier, config.warc_size, self._warcinfo)
        parsed = [url for url in map(urls.parse, seeds) if url is not None]
        frontier.add([Link.to(url) for url in parsed], depth=0)
        frontier.commit()
        loopback = {(url.host.strip("[]"), _port(url)) for url in parsed if is_loopback_name(url.host)}
        self._fetcher = Fetcher(config, AddressPolicy(config.allow_private, frozenset(loopback)))
        self._reader = Reader(config, seeds)
        self._seeds = seeds

        self._events: queue.Queue[Answer | tuple[Answer, Reading] | HostRules | BaseException] = queue.Queue()
        self._orders: queue.Queue[Job | tuple[int, str] | None] = queue.Queue()
        self._threads: list[threading.Thread] = []
        self._in_flight: defaultdict[int, set[int]] = defaultdict(set)  # URLs of a host, fetched or read just now
        self._fetching: Counter[int] = Counter()  # connections to a host
        self._ruling: set[int] = set()  # hosts whose robots.txt is being fetched
        self._rules: dict[int, tuple[Robots, list[str]]] = {}

        self._began = self._committed = time.monotonic()
        self._seconds_before = float(frontier.recall("seconds") or 0)
        totals = frontier.totals()
        self._pages, self._bytes, self._queued = totals["pages"], totals["bytes"], totals["queued"]
        self._errors = Counter(frontier.counts()["errors"])
        self._waiting = 0  # hosts that have to be left alone for now, as of the last commit

    def run(self) -> str:
        """Crawl until done, a limit is reached or the session is to stop; returns `done`, the limit, or `stopped`.

        The archives are whole afterwards.
        """
        session, progress = self._session, self._session.progress
        progress.start("crawl", None, "pages")
        if self._pages:
            progress.advance("crawl", self._pages)
        readers = Readers(session.workers, self._config, self._seeds, lambda *read: self._events.put(read))
        self._readers = readers
        try:
            while not session.stop.wanted:
                limit = self._limit()
                if limit is None:
                    self._hand_out()
                if not self._busy and (limit or self._frontier.next_due() is None):
                    break
                self._take_in()
            self._archives.close()
            self._commit()
            return "stopped" if session.stop.wanted else self._limit() or "done"
        finally:
            self._fetcher.watchdog.stop()
            for _ in self._threads:
                self._orders.put(None)
            readers.close()
            self._archives.abandon()

    @property
    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._began

    @property
    def _busy(self) -> int:
        return sum(map(len, self._in_flight.values())) + len(self._ruling)

    def _limit(self) -> str | None:
        """The limit that is reached, if one is."""
        config = self._config
        if config.max_pages is not None and self._pages >= config.max_pages:
            return "max_pages"
        if config.max_bytes is not None and self._bytes >= config.max_bytes:
            return "max_bytes"
        if config.max_time is not None and self._seconds >= config.max_time:
            return "max_time"
        return None

    # Out: which URL is next

    def _hand_out(self) -> None:
        now = time.time()
        room = self._config.max_connections + 4 * self._session.workers - self._busy
        if self._config.max_pages is not None:
            room = min(room, self._config.max_pages - self._pages - self._busy)
        free = min(room, self._config.max_connections - self._fetching.total())
        if free <= 0:
            return
        for host in self._frontier.due_hosts(now, free + len(self._in_flight) + len(self._ruling)):
            while free > 0 and (given := self._hand_out_of(host, now)):
                free -= given
            if free <= 0:
                break

    def _hand_out_of(self, host: Host, now: float) -> int:
        """Hand out the next work on `host`; returns how much that is, 0 or 1."""
        if host.id in self._ruling or host.due > now:
            return 0
        local = is_loopback_name(urls.host(host.name))
        if self._fetching[host.id] >= (self._config.connections or (4 if local else 1)):
            return 0
        if now - host.ruled_at > ROBOTS_AGE:
            self._ruling.add(host.id)
            self._order(host.id, (host.id, host.name))
            return 1
        robots, reserved = self._rules_of(host.id)
        flying = self._in_flight.get(host.id, set())
        most = self._config.max_host_pages
        too_slow = robots.crawl_delay > self._config.max_crawl_delay
        if too_slow or (most is not None and host.pages + len(flying) >= most):
            if not flying:  # else what is under way would be settled twice
                self._give_up(host.id, LEFT_OUT, "crawl_delay" if too_slow else "max_host_pages")
            return 0
        # At most a batch of refusals in a row, so that a site that refuses a million URLs leaves time to stop.
        for _ in range(BATCH):
            job = self._frontier.next_job(host.id, flying)
            if job is None:
                return 0
            if not robots.allows(job.url):
                self._settle(job, LEFT_OUT, "robots")
            elif "signals" in self._config.honour and robots.withholds(job.url):
                self._settle(job, LEFT_OUT, "signals")
            elif consent.is_reserved(job.url, reserved):
                self._settle(job, LEFT_OUT, "tdm")
            else:
                self._in_flight[host.id].add(job.id)
                self._order(host.id, job)
                delay = max(politeness.delay(self._config, host.latency, local=local), robots.crawl_delay)
                if delay:
                    host.due = now + delay
                    self._frontier.set_due(host.id, host.due)
                return 1
        return 0

    def _rules_of(self, host: int) -> tuple[Robots, list[str]]:
        rules = self._rules.pop(host, None)
        if rules is None:
            known = self._frontier.rules(host) or HostRules(host)
            agents = [self._config.user_agent, *self._config.honour_agents]
            rules = Robots(known.robots, agents), consent.reserved_paths(known.reserved)
        self._rules[host] = rules  # last: the first is the one used longest ago
        if len(self._rules) > _RULES_KEPT:
            del self._rules[next(iter(self._rules))]
        return rules

    def _order(self, host: int, order: Job | tuple[int, str]) -> None:
        self._fetching[host] += 1
        if len(self._threads) < min(self._fetching.total(), self._config.max_connections):
            thread = threading.Thread(target=self._fetch, name="fetch", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._orders.put(order)

    def _fetch(self) -> None:
        """A fetching thread."""
        while (order := self._orders.get()) is not None:
            try:
                if isinstance(order, tuple):
                    self._events.put(self._fetcher.host_rules(*order))
                    continue
                answer = self._fetcher.page(order)
                self._events.put(answer)
                if answer.kind == "page":
                    self._readers.give(answer)
            except BaseException as error:  # a defect: the loop has to hear of it, or it would wait for ever
                self._events.put(error)

    # In: what came of it

    def _take_in(self) -> None:
        """Wait for something to happen, then take in and commit all that has."""
        due = self._frontier.next_due()
        wait = LONGEST_WAIT if due is None or self._limit() else min(max(due - time.time(), 0.001), LONGEST_WAIT)
        events = []
        try:
            # While hosts are due but all their connections are busy, only an event can change anything.
            events.append(self._events.get(timeout=LONGEST_WAIT if self._busy and wait < 0.002 else wait))
            while len(events) < BATCH:
                events.append(self._events.get_nowait())
        except queue.Empty:
            if not events:
                return
        pages = self._pages
        for event in events:
            match event:
                case Answer():
                    self._answered(event)
                case HostRules():
                    self._ruled(event)
                case BaseException():
                    raise event
                case (answer, reading):
                    self._read(answer, reading)
        if self._limit() is None:
            self._hand_out()  # before the disk is waited for
        if not self._busy or time.monotonic() - self._committed > COMMIT_EVERY:
            self._commit()
        self._tell(self._pages - pages)

    def _tell(self, pages: int) -> None:
        facts: dict[str, int | float | str] = {"queue": self._queued, "hosts_waiting": self._waiting}
        facts |= {"MB": round(self._bytes / 1e6, 1), "errors": self._errors.total()}
        if self._errors:
            facts["mostly"] = ", ".join(f"{kind} {number}" for kind, number in self._errors.most_common(3))
        self._session.progress.advance("crawl", pages, **facts)

    def _commit(self) -> None:
        self._archives.sync()
        self._frontier.remember("seconds", round(self._seconds, 3))
        self._frontier.commit()
        self._committed = time.monotonic()
        self._waiting = self._frontier.hosts_waiting(time.time())

    def _answered(self, answer: Answer) -> None:
        """A fetch is over; its page, if it is one, is on the way to a reader."""
        job = answer.job
        self._hung_up(job.host)
        self._learn(answer)
        if answer.kind == "page":
            return
        self._landed(job)
        match answer.kind:
            case "redirect":
                self._redirected(answer)
            case "left_out":
                self._settle(job, LEFT_OUT, answer.reason)
            case _:
                if politeness.is_worth_retrying(self._config, answer):
                    self._frontier.try_again(job)
                else:
                    self._write_answer(answer)
                    self._settle(job, LEFT_OUT if answer.reason == "private_address" else FAILED, answer.reason)

    def _learn(self, answer: Answer) -> None:
        """Leave a host in trouble alone for a while; note how fast it answers."""
        host = self._frontier.host(answer.job.host)
        if politeness.is_trouble(answer):
            pause = max(
                politeness.pause(self._config, host.failures), min(answer.retry_after or 0, self._config.max_backoff)
            )
            self._frontier.visited(host.id, due=time.time() + pause, failures=host.failures + 1, latency=host.latency)
        else:
            latency = answer.latency if host.latency is None else 0.8 * host.latency + 0.2 * answer.latency
            self._frontier.visited(host.id, due=host.due, failures=0, latency=latency)

    def _ruled(self, rules: HostRules) -> None:
        """robots.txt of a host came, or did not."""
        self._hung_up(rules.host)
        self._ruling.discard(rules.host)
        self._rules.pop(rules.host, None)
        if not rules.error:
            self._frontier.ruled(rules)
            if self._config.sitemaps:
                named = map(urls.parse, self._rules_of(rules.host)[0].sitemaps)
                self._add_sitemaps(self._reader.sitemaps(url for url in named if url is not None), 0)
            return
        known = self._frontier.rules(rules.host)
        if known is not None:
            self._frontier.ruled(known)  # RFC 9309, section 2.3.1.4: in trouble, an expired copy is better than none
            return
        host = self._frontier.host(rules.host)
        private = rules.error == "robots_private_address"
        if private or host.failures >= self._config.retries:
            state = FAILED if rules.error in ("robots_dns", "robots_refused", "robots_tls") else LEFT_OUT
            self._give_up(rules.host, state, "private_address" if private else rules.error)
        else:
            due = time.time() + politeness.pause(self._config, host.failures)
            self._frontier.visited(rules.host, due=due, failures=host.failures + 1, latency=host.latency)

    def _redirected(self, answer: Answer) -> None:
        job = answer.job
        self._write_answer(answer)
        reading = self._reader.redirect(answer)
        if job.is_seed and reading.reason:
            self._session.progress.note(
                f"The seed {job.url} redirects to {answer.location or 'nowhere'}, which is out of scope. "
                "To crawl that, make it a seed or widen --scope."
            )
        if reading.reason:
            self._settle(job, LEFT_OUT, reading.reason)
        elif job.redirects >= MAX_REDIRECTS:
            self._settle(job, FAILED, "too_many_redirects")
        elif any(link.key == self._frontier.key(job.id) for link in reading.links):
            self._settle(job, FAILED, "redirect_to_itself")
        else:
            self._queued += self._frontier.add(reading.links, depth=job.depth, via=job.id, redirects=job.redirects + 1)
            self._settle(job, FOLLOWED)

    def _read(self, answer: Answer, reading: Reading) -> None:
        """A page is read: write it and its links, or say why not."""
        job = answer.job
        self._landed(job)
        if reading.reason == "sitemap":
            self._settle(job, FOLLOWED)
        elif reading.reason in ("decompression_bomb", "bad_encoding") or reading.reason.startswith("reader_"):
            self._settle(job, FAILED, reading.reason)
        elif reading.reason:
            self._settle(job, LEFT_OUT, reading.reason)
        else:
            self._capture(answer, reading)
        self._follow(answer, reading)

    def _follow(self, answer: Answer, reading: Reading) -> None:
        """Queue the links of a page, but for those that lead into a trap."""
        job, found, most = answer.job, reading.links, self._config.max_query_variants
        if answer.sha1 and self._frontier.captures_of(answer.sha1, MAX_REPEATS + 1) > MAX_REPEATS:
            reading.not_followed["repeated_page"] += len(found)
            found = []
        refused = self._frontier.refused_variants(found, most) if most is not None else set()
        if refused:
            reading.not_followed["query_variants"] += len(refused)
            found = [link for link in found if link.key not in refused]
        self._queued += self._frontier.add(found, depth=job.depth + 1, via=job.id)
        if job.redirects < MAX_REDIRECTS:  # an index may name itself, or another index
            self._add_sitemaps(reading.sitemaps, job.redirects + 1)
        self._frontier.not_followed(reading.not_followed)

    def _add_sitemaps(self, sitemaps: list[Link], hops: int) -> None:
        self._queued += self._frontier.add(sitemaps, depth=0, redirects=hops)

    def _capture(self, answer: Answer, reading: Reading) -> None:
        job = answer.job
        earlier = self._frontier.earlier_capture(answer.sha1) if answer.body else None
        response = reading.response
        if earlier is not None:
            response = records.revisit(answer, reading.record_id, *earlier)
        warc, offset = self._archives.append(response, reading.records)
        self._frontier.captured(
            job,
            warc=warc,
            offset=offset,
            length=len(response),
            sha1=answer.sha1,
            date=answer.date,
            mime=answer.media_type or "unk",
            surt=index.surt(job.url),
            size=len(answer.body),
            revisit=earlier is not None,
        )
        self._queued -= 1
        self._pages += 1
        self._bytes += len(answer.body)

    def _write_answer(self, answer: Answer) -> None:
        """Archive what a server said in place of a page, unless it broke off or does not want to be kept."""
        if not answer.sha1 or consent.refusal(answer.signals, self._config.honour):
            return
        response, record_id = records.response(answer)
        warc, offset = self._archives.append(response, records.request(answer, record_id))
        self._frontier.answered(
            answer.job,
            warc=warc,
            offset=offset,
            length=len(response),
            sha1=answer.sha1,
            date=answer.date,
            mime=answer.media_type or "unk",
            surt=index.surt(answer.job.url),
            status=answer.status,
        )

    def _hung_up(self, host: int) -> None:
        self._fetching[host] -= 1
        if not self._fetching[host]:
            del self._fetching[host]

    def _landed(self, job: Job) -> None:
        flying = self._in_flight[job.host]
        flying.discard(job.id)
        if not flying:
            del self._in_flight[job.host]

    def _settle(self, job: Job, state: int, reason: str = "") -> None:
        self._frontier.settle(job, state, reason)
        self._queued -= 1
        if state == FAILED:
            self._errors[reason] += 1

    def _give_up(self, host: int, state: int, reason: str) -> None:
        number = self._frontier.give_up(host, state, reason)
        self._queued -= number
        if state == FAILED:
            self._errors[reason] += number

    def _warcinfo(self, name: str) -> bytes:
        config = self._config
        facts = {
            "robots": "obey" if config.robots else "ignore",
            "http-header-user-agent": config.user_agent,
            "operator": config.contact or "",
            "description": f"seeds: {' '.join(self._seeds[:10])}; scope: {config.scope}",
        }
        return records.warcinfo(name, facts)


def _port(url: urls.Url) -> int:
    return int(url.port or urls.DEFAULT_PORTS[url.scheme])
