"""When a host may be asked again, and whether a failure is worth another try."""

from __future__ import annotations

import random

from llmdata.crawl.config import CrawlConfig
from llmdata.crawl.fetch import Answer

TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_NO_USE_IN_RETRYING = frozenset({"private_address", "invalid_url", "tls", "page_timeout"})


def delay(config: CrawlConfig, latency: float | None, *, local: bool) -> float:
    """Seconds between two requests to a host that takes `latency` seconds to answer."""
    if config.delay is not None:
        return config.delay
    return 0.0 if local else min(max(1.0, 2 * (latency or 0.0)), 30.0)


def pause(config: CrawlConfig, failures: int) -> float:
    """Seconds to leave a host alone after so many failures in a row: exponential backoff with jitter."""
    longest = min(config.max_backoff, config.backoff * 2 ** min(failures, 30))
    return float(longest * random.uniform(0.5, 1.0))


def is_trouble(answer: Answer) -> bool:
    """Whether the host, rather than the page, seems to be the reason that there is no page."""
    if answer.kind != "error":
        return False
    return answer.status in TRY_AGAIN or (answer.status in (0, 200) and answer.reason not in _NO_USE_IN_RETRYING)


def is_worth_retrying(config: CrawlConfig, answer: Answer) -> bool:
    if not is_trouble(answer) or answer.job.tries >= config.retries:
        return False
    return (answer.retry_after or 0) <= config.max_backoff
