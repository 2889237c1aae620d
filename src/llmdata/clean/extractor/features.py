"""What the model asks about each block: numbers that mean the same on every site and in every language.

`describe` makes them for all blocks of a page at once, from the lists that the walk left; `context` adds what a first
opinion of the blocks around says. Arithmetic is on whole arrays, so that a page of 300 blocks costs some 1.5 ms.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

from llmdata import native
from llmdata.clean.extractor.lexicon import Lexicon
from llmdata.clean.extractor.page import BIT, Page

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]
    Feature = Any
    """One value for each block, or one for all of them."""

LEVELS = 6
"""How many containers around a block are looked at, each larger than the one before."""
_KINDS = ("other", "lower", "upper", "digit", "space", "stop", "comma", "mark", "symbol", "dense")
_OTHER, _LOWER, _UPPER, _DIGIT, _SPACE, _STOP, _COMMA, _MARK, _SYMBOL, _DENSE = range(len(_KINDS))
_LINKED_TYPE = re.compile(r'"@type"\s*:\s*(?:\[\s*)?"(\w+)"')
_TYPES = {
    "article": "Article NewsArticle BlogPosting TechArticle Report ScholarlyArticle HowTo Recipe".split(),
    "product": "Product ProductGroup Offer AggregateOffer".split(),
    "list": "ItemList CollectionPage OfferCatalog SearchResultsPage".split(),
    "forum": "DiscussionForumPosting QAPage Comment Question".split(),
    "organization": "Organization LocalBusiness Service WebSite SoftwareApplication".split(),
}


@cache
def _character_kinds() -> Array:
    """For each code point of the basic plane, which of `_KINDS` it is."""
    import numpy as np

    table = np.full(0x10000, _OTHER, np.uint8)
    by_category = {
        "Ll": _LOWER, "Lo": _LOWER, "Lm": _LOWER, "Lu": _UPPER, "Lt": _UPPER, "Nd": _DIGIT, "No": _DIGIT,
        "Zs": _SPACE, "Cc": _SPACE, "Po": _MARK, "Pd": _MARK, "Ps": _MARK, "Pe": _MARK,
        "Sm": _SYMBOL, "Sc": _SYMBOL, "So": _SYMBOL,
    }  # fmt: skip
    for point in range(0x10000):
        table[point] = by_category.get(unicodedata.category(chr(point)), _OTHER)
    for kind, characters in ((_STOP, ".!?。！？।॥؟۔…։"), (_COMMA, ",;:،、，；：")):
        table[[ord(character) for character in characters]] = kind
    # Scripts that put no blanks between words.
    for first, last in ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF)):
        table[first : last + 1] = _DENSE
    return table


def count_characters(texts: list[str]) -> Array:
    """How many characters of each kind each text has: (texts, kinds) of float64."""
    import numpy as np

    kinds, step = _character_kinds(), len(_KINDS)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    out = np.zeros((len(texts), step))
    if native_count := native.function("count_characters", "bytes int int64[] int uint8[] int float64[]"):
        encoded = "".join(texts).encode("utf-8", "surrogatepass")
        native_count(encoded, len(encoded), lengths, len(texts), kinds, step, out)
        return out
    ends = np.cumsum(lengths)
    first = 0
    while first < len(texts):  # in portions, so that a page of 20 MB takes no ten times as much
        last = max(first + 1, int(np.searchsorted(ends, ends[first] - lengths[first] + _PORTION, "right")))
        text = texts[first] if last == first + 1 else "".join(texts[first:last])
        owner = np.repeat(np.arange(last - first) * step, np.minimum(lengths[first:last], _PORTION))
        for start in range(0, len(text), _PORTION):
            points = np.frombuffer(text[start : start + _PORTION].encode("utf-32-le", "surrogatepass"), np.uint32)
            keys = kinds[np.minimum(points, 0xFFFF)] + owner[: len(points)]
            out[first:last] += np.bincount(keys, minlength=(last - first) * step).reshape(-1, step)
        first = last
    return out


_PORTION = 1 << 18


REPEATED = 20
"""The shortest text, in characters, that is told once only."""
LONG = 160
"""Texts of so many characters speak for themselves, and are not judged by their words."""


def beginnings(texts: Iterable[str]) -> str:
    """By what blocks are known: their first 80 characters in lower case, parted by U+0000."""
    return "\0".join([text.lstrip()[:80] for text in texts]).lower()


class Described:
    """A page's blocks as arrays, and what several features share."""

    def __init__(self, page: Page) -> None:
        import numpy as np

        self.page = page
        self.n = len(page.texts)
        self.counts = count_characters(page.texts)
        self.chars = self.counts.sum(axis=1)
        # A character of Chinese counts as half a word.
        self.words = self.counts[:, _SPACE] + 1 + self.counts[:, _DENSE] / 2
        seen = Counter(page.texts)
        self.repeats = np.array([seen[text] for text in page.texts], np.float64)
        self.beginnings = beginnings(page.texts)
        self.told = np.where(self.chars >= REPEATED, self.words / self.repeats, self.words)
        """Words of each block, where a text that repeats counts once in all."""
        self.links = np.minimum(page.link_chars, self.chars)
        self.stops = self.counts[:, _STOP]
        levels = self._levels()
        self.bounds = page.starts[levels], page.ends[levels]
        """Where the container around each block begins and ends, (levels, blocks) each."""
        self.container_path = page.container_paths[page.containers]
        self.path = page.paths
        summed = {"chars": self.chars, "links": self.links, "stops": self.stops, "words": self.words}
        self.sums = {name: np.concatenate(([0.0], np.cumsum(values))) for name, values in summed.items()}

    def _levels(self) -> Array:
        """The containers around each block, innermost first; one that holds no more blocks than the last is skipped."""
        import numpy as np

        page = self.page
        up = _larger(page.container_parents, page.starts, page.ends)
        found = [page.containers]
        for _ in range(LEVELS - 1):
            found.append(up[found[-1]])
        return np.array(found)

    def within(self, name: str) -> Array:
        """Sum of a quantity over each block's containers: (levels, blocks)."""
        start, end = self.bounds
        total = self.sums[name]
        return total[end] - total[start]


def _neighbours(name: str, values: Array, by: Sequence[int], fill: float = -1.0) -> dict[str, Array]:
    """What `values` are for the block so many places before (+) or after (-) each; `fill` beyond the page."""
    import numpy as np

    reach = max(by)
    padded = np.full(len(values) + 2 * reach, fill)
    padded[reach:-reach] = values
    return {f"{name}{step:+d}": padded[reach - step : reach - step + len(values)] for step in by}


def describe(page: Page, url: str) -> tuple[Described, dict[str, Feature]]:
    """Features of each block of `page` by name, in a fixed order; what all of them share is one number."""
    import numpy as np

    d = Described(page)
    n, counts, chars, words = d.n, d.counts, d.chars, d.words
    f: dict[str, Feature] = {}
    log_chars = np.log1p(chars)
    link_density = d.links / chars
    f["log_chars"] = log_chars
    f["words"] = words
    f["word_length"] = chars / words
    f["link_density"] = link_density
    f["links"] = page.links
    for name, kind in (
        ("upper", _UPPER),
        ("digit", _DIGIT),
        ("mark", _MARK),
        ("symbol", _SYMBOL),
        ("comma", _COMMA),
        ("stop", _STOP),
    ):
        f[name] = counts[:, kind] / chars
    f["stops"] = d.stops
    f["ends_in_stop"] = np.array([text[-1] in '.!?:;。！？।؟…"”)' for text in page.texts], np.float64)
    f["lines"] = np.array([text.count("\n") for text in page.texts], np.float64)
    f |= zip(_IN, (page.masks & np.array(list(BIT.values()))[:, None]) != 0, strict=True)
    tag_kind = np.array([_TAG_KIND.get(page.path_tags[path], 0) for path in d.container_path.tolist()], np.float64)
    f["tag"] = tag_kind
    # Where the block stands.
    order = np.arange(n, dtype=np.float64)
    before = d.sums["chars"][:-1]
    f["order"] = order
    f["order_share"] = order / n
    f["chars_before_share"] = before / d.sums["chars"][-1]
    f["depth"] = _depth(page.path_parents)[d.path]
    # The containers around it.
    total_chars = d.sums["chars"][-1]
    start, end = d.bounds
    held = end - start
    inside = d.within("chars")
    boxes = {
        "log_chars": np.log1p(inside),
        "share": inside / total_chars,
        "link_density": d.within("links") / inside,
        "blocks": held,
        "stops": d.within("stops") / d.within("words"),
        "order": (order - start) / held,
    }
    for level in range(LEVELS):
        for name, values in boxes.items():
            f[f"box{level}_{name}"] = values[level]
    # How often its kind occurs.
    size, ones = len(page.path_tags), np.ones(n)
    for name, path in (("path", d.container_path), ("leaf", d.path)):
        number = np.bincount(path, weights=ones, minlength=size)[path]
        chars_alike = np.bincount(path, weights=chars, minlength=size)[path]
        f[f"{name}_blocks"] = number
        f[f"{name}_log_chars"] = np.log1p(chars_alike)
        f[f"{name}_mean_chars"] = chars_alike / number
        f[f"{name}_share"] = chars_alike / total_chars
    f["leaf_link_density"] = np.bincount(d.path, weights=d.links, minlength=size)[d.path] / chars_alike
    f["repeats"] = d.repeats
    # Headings.
    is_heading = f["in_heading"] > 0
    last = np.maximum.accumulate(np.where(is_heading, order, -1))
    nearest = last.astype(np.int64)
    f["since_heading"] = np.where(last >= 0, order - last, 99)
    f["chars_since_heading"] = np.where(last >= 0, np.log1p(before - before[np.maximum(nearest, 0)]), -1)
    first_h1 = int(np.argmax(f["in_h1"])) if f["in_h1"].any() else -1
    f["after_h1"] = order - first_h1 if first_h1 >= 0 else -999.0
    # The page's own words about itself.
    title = Lexicon(zip(dict.fromkeys(page.title.lower().split()), count(), strict=False))
    found, sizes = title.of_texts(d.beginnings)
    known = ~np.isnan(found)
    pairs = np.repeat(np.arange(n), sizes)[known] * len(title) + found[known].astype(np.int64)
    shared = np.bincount(np.unique(pairs) // max(1, len(title)), minlength=n)
    f["title_overlap"] = shared / sizes
    f["title_cover"] = shared / max(1, len(title))
    best = int(np.argmax(f["title_overlap"] * f["title_cover"]))
    f["after_title"] = order - best
    f |= _neighbours("log_chars", log_chars, (1, -1, 2, -2))
    f |= _neighbours("tag", tag_kind, (1, -1))
    f |= _of_page(d, url, f)
    return d, f


_IN = [f"in_{name}" for name in BIT]
_TAG_KINDS = (
    "p, li, h1, h2, h3, h4 h5 h6, td, th, dd dt, pre, blockquote, button, section article main, header, footer, "
    "nav ul ol, figcaption figure caption, summary details, form fieldset"
)
_TAG_KIND = {tag: kind for kind, tags in enumerate(_TAG_KINDS.split(","), 1) for tag in tags.split()}


def _of_page(d: Described, url: str, f: dict[str, Feature]) -> dict[str, float]:
    import numpy as np

    page, chars = d.page, d.chars
    total = float(chars.sum())
    is_text = (d.stops > 0) & (chars > 80) & (f["link_density"] < 0.3)
    kinds = {kind for script in page.linked_data for kind in _LINKED_TYPE.findall(script)}
    # By hand, for urlsplit raises on what is no URL.
    address, _, query = url.partition("#")[0].partition("?")
    path = "/" + address.partition("://")[2].partition("/")[2]
    name = path.strip("/")
    out = {
        "page_log_chars": np.log1p(total),
        "page_blocks": d.n,
        "page_link_density": d.links.sum() / total,
        "page_text_share": chars[is_text].sum() / total,
        "page_text_log_chars": np.log1p(chars[is_text].sum()),
        "page_p_share": chars @ f["in_p"] / total,
        "page_li_share": chars @ f["in_li"] / total,
        "page_table_share": chars @ f["in_table"] / total,
        "page_article_share": chars @ f["in_article"] / total,
        "page_main_share": chars @ f["in_main"] / total,
        "page_noscript_share": chars @ f["in_noscript"] / total,
        "page_articles": "article" in page.path_tags
        and sum(page.path_tags[path] == "article" for path in page.container_paths[page.starts < page.ends].tolist()),
        "page_headings": f["in_heading"].sum() / d.n,
        "page_images": page.images.sum(),
        "page_code_share": chars @ f["in_pre"] / total,
        "page_digit_share": d.counts[:, _DIGIT].sum() / total,
        "page_dense_share": d.counts[:, _DENSE].sum() / total,
        "og_article": page.og_type == "article",
        "og_product": page.og_type.startswith("product"),
        "og_website": page.og_type == "website",
        "url_depth": name.count("/") + bool(name),
        "url_length": len(name),
        "url_hyphens": name.rsplit("/", 1)[-1].count("-"),
        "url_query": bool(query),
    }
    for kind, types in _TYPES.items():
        out[f"ld_{kind}"] = not kinds.isdisjoint(types)
    return out


def hints(d: Described, names: Lexicon, words: Lexicon) -> dict[str, Feature]:
    """What the words in class names, and in the text of a block, have meant on other sites.

    The two lexicons hold log-odds of "main text" by token; what they do not know counts as 0.
    """
    import numpy as np

    flat, sizes = names.of_names(d.page.path_names)
    starts = np.cumsum(sizes) - sizes
    least, most = (np.nan_to_num(of.reduceat(flat, starts)) for of in (np.fmin, np.fmax))
    low, high, total = _inherited(d.page.path_parents, least, most)
    own = least + most
    # The order of features is part of a fit: a tree is offered some of them by chance.
    f: dict[str, Feature] = {"name_own": own[d.path], "name_own_box": own[d.container_path], "name_low": low[d.path]}
    for name, of_path in (("high", high), ("total", total)):
        f[f"name_{name}"] = of_path[d.path]
        f[f"name_{name}_box"] = of_path[d.container_path]
    flat, sizes = words.of_texts(d.beginnings)
    flat[np.isnan(flat)] = 0.0
    starts = np.cumsum(sizes) - sizes
    is_short = d.chars < LONG
    f["text_mean"] = np.where(is_short, np.add.reduceat(flat, starts) / sizes, 0.0)
    f["text_least"] = np.where(is_short, np.minimum.reduceat(flat, starts), 0.0)
    f |= _neighbours("text_mean", f["text_mean"], (1, 2, -1, -2), 0.0)
    for name in ("own", "total"):
        f |= _neighbours(f"name_{name}", f[f"name_{name}"], (1, -1), 0.0)
    return f


def fill(rows: Array, columns: dict[str, Feature], names: Sequence[str]) -> None:
    """Write the features `names` into `rows`, as the trees want them: (features, blocks) of float32."""
    for row, name in zip(rows, names, strict=True):
        row[:] = columns[name]


def _inherited(parents: Array, least: Array, most: Array) -> tuple[Array, Array, Array]:
    """The least and the most of each path and those around it, 0 at the most or least, and the sum of both."""
    import numpy as np

    low, high, total = np.empty((3, len(parents) + 1))
    low[-1] = high[-1] = total[-1] = 0.0  # the parent of the first
    if native_inherit := native.function(
        "paths_inherit", "int64[] int float64[] float64[] float64[] float64[] float64[]"
    ):
        native_inherit(parents, len(parents), least, most, low, high, total)
        return low, high, total
    for path, parent in enumerate(parents.tolist()):
        low[path], high[path] = min(least[path], low[parent]), max(most[path], high[parent])
        total[path] = total[parent] + least[path] + most[path]
    return low, high, total


def _depth(parents: Array) -> Array:
    """How many paths lead to each."""
    import numpy as np

    depth = np.full(len(parents) + 1, -1, np.int64)
    if native_depth := native.function("paths_depth", "int64[] int int64[]"):
        native_depth(parents, len(parents), depth)
        return depth
    for path, parent in enumerate(parents.tolist()):
        depth[path] = depth[parent] + 1
    return depth


def _larger(parents: Array, starts: Array, ends: Array) -> Array:
    """For each container the next around it that holds more blocks; the outermost stands for itself."""
    import numpy as np

    if native_larger := native.function("containers_larger", "int64[] int64[] int64[] int int64[]"):
        out = np.empty_like(parents)
        native_larger(parents, starts, ends, len(parents), out)
        return out
    larger: list[int] = []
    begin, end = starts.tolist(), ends.tolist()
    for container, parent in enumerate(parents.tolist()):
        if parent < 0:
            larger.append(0)
        elif begin[parent] == begin[container] and end[parent] == end[container]:
            larger.append(larger[parent])
        else:
            larger.append(parent)
    return np.array(larger, np.int64)


def context(d: Described, p: Array) -> dict[str, Feature]:
    """What a first opinion `p` (probability that a block is main text) says of the blocks around each."""
    import numpy as np

    f: dict[str, Feature] = {"p": p}
    f |= _neighbours("p", p, (1, -1, 2, -2, 3, -3, 4, -4))
    mass = np.concatenate(([0.0], np.cumsum(p * d.words)))
    words = d.sums["words"]
    order = np.arange(d.n)
    for reach in (5, 15, 40):
        for name, first, last in (
            ("before", np.maximum(order - reach, 0), order),
            ("after", order + 1, np.minimum(order + 1 + reach, d.n)),
        ):
            f[f"p_{name}{reach}"] = (mass[last] - mass[first]) / np.maximum(words[last] - words[first], 1)
    own_mass = p * d.words
    start, end = d.bounds
    inside = mass[end] - mass[start]
    size = words[end] - words[start]
    of_box = inside / size
    of_others = (inside - own_mass) / np.maximum(size - d.words, 1)
    of_page = inside / max(mass[-1], 1e-9)
    for level in range(LEVELS):
        f[f"p_box{level}"] = of_box[level]
        f[f"p_box{level}_others"] = of_others[level]
        f[f"p_box{level}_share"] = of_page[level]
    paths = len(d.page.path_tags)
    for name, path in (("path", d.container_path), ("leaf", d.path)):
        f[f"p_{name}"] = (np.bincount(path, own_mass, paths) / np.maximum(np.bincount(path, d.words, paths), 1))[path]
    f["p_mass_before"] = mass[:-1] / max(mass[-1], 1e-9)
    f["p_mass"] = mass[-1]
    f["p_mean"] = mass[-1] / words[-1]
    f["p_max"] = p.max()
    ranked = np.sort(p)[::-1]
    f["p_gap"] = p - ranked[min(d.n - 1, d.n // 4)]
    return f
