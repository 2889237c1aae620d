"""Hard input: what a page or a text that nobody should have written costs, in `clean` with each extractor and filter.

    python -m benchmarks.hard_input pages [--only NAME …] [--extractors resiliparse …]
    python -m benchmarks.hard_input filters [--only NAME …]

`pages`: each page in a WARC file of its own, through one `llmdata clean` with all stages: CPU seconds of the command
and its worker together (an empty page shows what the start takes), peak memory (PSS), and what became of the page. A
page that is lost, or a command that fails, ends the program. `filters`: CPU seconds of each stage on texts of one,
two and four times a length, and how much the last takes beside the first: 4 is linear.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.clean_memory import cost_of

from llmdata.clean.extract import EXTRACTORS
from llmdata.clean.language import bundled_model
from llmdata.document import Document
from llmdata.pipeline.chain import FILTERS, SHUFFLES, make_filter, make_shuffle
from llmdata.pipeline.clean_config import CleanConfig

STAGES = "extract,language,gopher_repetition,gopher_quality,c4,fineweb,refinedweb,bad_words,exact_dedup,pii"
WORDS = """the of and to in is that it was for on are with as his they be at one have this from or had by hot word
but what some we can out other were all there when up use your how said an each she which do their time
if will way about many then them write would like so these her long make thing see him two has look more
day could go come did number sound no most people my over know water than call first who may down side
been now find any new work part take get place made""".split()
SCRIPTS = {
    "Chinese": "今天早上我们去了一个大公园孩子们在旧喷泉旁边玩耍大人们在看报纸",
    "Thai": "วันนี้อากาศดีมากเขาไปโรงเรียนทุกวัน",
}


def prose(words: int, paragraphs: int) -> Iterator[str]:
    """Paragraphs of sentences of words by chance."""
    rng = random.Random(1)
    for _ in range(paragraphs):
        chosen = rng.choices(WORDS, k=words // paragraphs)
        yield " ".join(f"{word}." if at % 12 == 11 else word for at, word in enumerate(chosen)) + "."


def unspaced(script: str, characters: int) -> str:
    return "".join(random.Random(1).choices(SCRIPTS[script], k=characters))


def html(*paragraphs: str) -> bytes:
    body = "".join(f"<p>{paragraph}</p>\n" for paragraph in paragraphs)
    return f"<html><head><title>t</title></head><body><article>{body}</article></body></html>".encode()


ALL = ["--set", "clean.extract.max_bytes=1GB", "--set", "clean.extract.max_tags=100M"]
PAGES: dict[str, tuple[Callable[[], bytes], list[str]]] = {
    "empty body": (lambda: b"", []),
    "400 MB of paragraphs": (lambda: html(*prose(1_000_000, 10_000)) * 85, []),
    "400 MB of paragraphs, all bounds raised": (lambda: html(*prose(1_000_000, 10_000)) * 85, ALL),
    "one line of 50 MB": (lambda: html("word " * 10_000_000), []),
    "one line of 50 MB, bounds raised": (lambda: html("word " * 10_000_000), ALL),
    "one line of 19 MB": (lambda: html("word " * 3_800_000), []),
    "100,000 nested tags": (lambda: b"<div>" * 100_000 + b"deep", []),
    "100,000 nested tags of ten kinds": (lambda: b"<b><i><u><a><em><span><div><ul><q><s>" * 10_000 + b"deep", []),
    "1,900 nested tags, 50 times": (lambda: (b"<div>" * 1_900 + b"deep" + b"</div>" * 1_900) * 50, []),
    "190,000 cells of a table": (lambda: b"<table>" + (b"<tr>" + b"<td>a cell" * 9) * 19_000, []),
    "invalid UTF-8, 2 MB": (lambda: b"<p>" + random.Random(1).randbytes(2_000_000).replace(b"<", b" "), []),
    "lone surrogates and NUL": (lambda: b"<p>" + b"a word &#xD800; \xed\xa0\x80 \0 &#0; and " * 50_000, []),
    "1,000,000 Chinese characters": (lambda: html(unspaced("Chinese", 1_000_000)), []),
    "1,000,000 Thai characters": (lambda: html(unspaced("Thai", 1_000_000)), []),
    "1,000,000 words": (lambda: html(*prose(1_000_000, 10_000)), []),
    "1,000,000 words, one paragraph": (lambda: html(*prose(1_000_000, 1)), []),
}

TEXTS: dict[str, Callable[[int], str]] = {
    "words, many lines": lambda times: "\n".join(prose(125_000 * times, 1_250 * times)),
    "words, one line": lambda times: "".join(prose(125_000 * times, 1)),
    "one word": lambda times: "x" * 500_000 * times,
    "Chinese": lambda times: unspaced("Chinese", 125_000 * times),
    "Thai": lambda times: unspaced("Thai", 125_000 * times),
    "one line again and again": lambda times: "A line that stands here again and again.\n" * 12_500 * times,
    "digits and signs": lambda times: "".join(random.Random(1).choices("0123456789 .-+()@[]{}:/", k=250_000 * times)),
    "addresses": lambda times: "a.b-c@d.e +1 202-555-0143 [8.8.8.8]: {2001:db8::1}\n" * 5_000 * times,
    "newlines": lambda times: "\n" * 250_000 * times,
}


def write_warc(path: Path, page: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    head = (
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://example.org/\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        "WARC-Record-ID: <urn:uuid:00000000-0000-4000-8000-000000000000>\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(answer) + len(page)}\r\n\r\n"
    )
    with gzip.open(path, "wb", compresslevel=1) as file:
        for part in (head.encode(), answer, page, b"\r\n\r\n"):
            file.write(part)


def outcome(printed: str) -> str:
    """`kept`, or stage and reason; exits if a page is neither."""
    funnel = json.loads(printed)["funnel"]
    stages = funnel["stages"]
    ends = [f"{row['stage']}: {reason}" for row in stages for reason, count in row["rejected"].items() if count]
    ends += ["kept"] * stages[-1]["kept"]
    if funnel["in"] != 1 or len(ends) != 1:
        sys.exit(f"a page is lost or doubled: {json.dumps(funnel)}")
    return ends[0]


def pages(only: list[str], extractors: list[str]) -> None:
    print("| page | extractor | CPU, s | memory, MB | outcome |\n|---|---|---|---|---|")
    for name, (make, settings) in PAGES.items():
        if only and not any(word in name for word in only):
            continue
        with tempfile.TemporaryDirectory() as work:
            write_warc(Path(work, "page.warc.gz"), make())
            for extractor in extractors:
                out = Path(work, extractor)
                command = [sys.executable, "-m", "llmdata", "clean", f"{work}/page.warc.gz", "--out", str(out)]
                command += ["--stages", STAGES, "--workers", "1", "--json", *settings]
                for setting in ("bad_words.lists=[en]", "language.languages=null", "language.threshold=0"):
                    command += ["--set", f"clean.{setting}"]
                cost = cost_of([*command, "--set", f"clean.extract.extractor={extractor}"])
                end = outcome(cost.printed)
                print(f"| {name} | {extractor} | {cost.cpu:.1f} | {cost.pss:,.0f} | {end} |", flush=True)


def judges() -> Iterator[tuple[str, Callable[[Document], object]]]:
    """Every stage that looks at texts, as a function of a document; of shuffles what takes a document's keys."""
    model = {"model": str(bundled_model()), "label": "en"}
    config = CleanConfig.model_validate({"bad_words": {"lists": ["en"]}, "quality": model})
    for name in FILTERS:
        if name not in ("url", "extract", "decontaminate"):
            yield name, make_filter(name, config)
    for name in SHUFFLES:
        if name not in ("url_dedup", "quality_best"):
            shuffle = make_shuffle(name, config)
            yield f"{name}, keys", lambda doc, shuffle=shuffle: shuffle.keys([doc])  # type: ignore[misc]


def filters(only: list[str]) -> None:
    print(f"| stage | {' | '.join(TEXTS)} |\n|---|{'---|' * len(TEXTS)}")
    texts = {name: [make(times) for times in (1, 2, 4)] for name, make in TEXTS.items()}
    for stage, judge in judges():
        if only and stage not in only:
            continue
        judge(Document(id="1", text="the model and the lists are read"))
        cells = []
        for sizes in texts.values():
            seconds = []
            for text in sizes:
                began = time.process_time()
                judge(Document(id="1", text=text, language="en"))
                seconds.append(time.process_time() - began)
            ratio = f" ({seconds[2] / seconds[0]:.1f} ×)" if seconds[2] > 0.02 else ""
            cells.append(f"{seconds[2]:.2f}{ratio}")
        print(f"| {stage} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["pages", "filters"])
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--extractors", nargs="+", default=list(EXTRACTORS))
    args = parser.parse_args()
    if args.what == "pages":
        pages(args.only, args.extractors)
    else:
        filters(args.only)


if __name__ == "__main__":
    main()
