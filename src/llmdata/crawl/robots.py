"""robots.txt: what RFC 9309 says, by Protego, and the consent lines beside it that Protego does not know."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from protego import Protego

MAX_BYTES = 500 * 1024
"""RFC 9309, section 2.5: at least so much has to be read; what comes after is ignored."""

_KNOWN = {"user-agent", "allow", "disallow", "crawl-delay", "sitemap"}
_MISSPELT = {"useragent": "user-agent", "user agent": "user-agent", "dissallow": "disallow", "disalow": "disallow"}
_MISSPELT |= {"dissalow": "disallow", "disallaw": "disallow", "diasllow": "disallow", "site-map": "sitemap"}
_SIGNALS = {"content-signal", "content-usage"}
_WITHHELD = re.compile(r"\b(?:ai-train\s*=\s*no?|train-ai\s*=\s*no?)\b", re.IGNORECASE)
_GRANTED = re.compile(r"\b(?:ai-train\s*=\s*y(?:es)?|train-ai\s*=\s*y(?:es)?)\b", re.IGNORECASE)


def withholds_training(value: str) -> bool:
    """Whether a Content-Usage or Content-Signal value says that the content is not for training models."""
    return _WITHHELD.search(value) is not None


class Robots:
    """The rules of one robots.txt for `agents`, of which each has to be allowed; the first is our own."""

    def __init__(self, text: str, agents: Sequence[str]) -> None:
        self._agents = agents
        lines, self._signals = _sift(text, agents[0].lower())
        self._protego = Protego.parse("\n".join(lines))

    def allows(self, url: str) -> bool:
        return all(self._protego.can_fetch(url, agent) for agent in self._agents)

    def withholds(self, url: str) -> bool:
        """Whether a Content-Signal or Content-Usage line keeps `url` from training; the longest path decides."""
        if not self._signals:
            return False
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        fitting = [(len(prefix), withheld) for prefix, withheld in self._signals if path.startswith(prefix)]
        return max(fitting)[1] if fitting else False

    @property
    def sitemaps(self) -> list[str]:
        """Addresses of the sitemaps that the file names, as it writes them."""
        return list(self._protego.sitemaps)

    @property
    def crawl_delay(self) -> float:
        """Seconds between two requests that the rules ask for; 0 if they do not."""
        return max((float(self._protego.crawl_delay(agent) or 0) for agent in self._agents), default=0.0)


def _sift(text: str, agent: str) -> tuple[list[str], list[tuple[str, bool]]]:
    """Lines for Protego, and the (path, withheld) of the signal lines in the group for `agent`.

    Protego splits a group at a line that it does not know and takes a whole `User-agent` value for the name; the RFC
    ignores such lines, and the name ends where the product token does.
    """
    kept: list[str] = []
    signals: dict[str, list[tuple[str, bool]]] = {}
    group: set[str] = {"*"}
    naming = False
    for line in text.lstrip("\ufeff").splitlines():
        line = line.partition("#")[0].strip()
        key, colon, value = line.partition(":")
        if not colon:  # Google's parser forgives a forgotten colon
            key, _, value = line.partition(" ") if len(line.split()) == 2 else (line, "", "")
        key, value = key.strip().lower(), value.strip()
        key = _MISSPELT.get(key, key)
        if key == "user-agent":
            token = re.match(r"[A-Za-z_-]+|\*", value)
            name = token[0].lower() if token else ""
            group = group | {name} if naming else {name}
            naming = True
            kept.append(f"user-agent: {token[0] if token else '_'}")
            continue
        if key in _SIGNALS:
            path, _, rest = value.partition(" ") if value.startswith("/") else ("/", "", value)
            if withholds_training(rest) or _GRANTED.search(rest):
                for name in group:
                    signals.setdefault(name, []).append((path, withholds_training(rest)))
        elif key in _KNOWN:
            kept.append(f"{key}: {value}")
        if key in _SIGNALS or (key in _KNOWN and key != "sitemap"):
            naming = False
    return kept, signals.get(agent, signals.get("*", []))
