"""A document is followed from its page to its tokens, and a token back to its page; the report shows it all."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from llmdata.audit.folders import look_at
from llmdata.audit.report import write_report
from llmdata.audit.trace import trace_document, trace_token
from llmdata.storage.place import Place
from tests.audit.folders import clean_folder, document, run_folder


def test_a_kept_document_is_followed_by_its_url(tmp_path: Path) -> None:
    steps = trace_document(look_at(run_folder(tmp_path).path), "http://example.org/2")
    assert [step["step"] for step in steps] == ["page", "01-minhash", "final", "tokens"]
    page, _, final, tokens = steps
    assert page["file"] == "crawl/a.warc.gz"
    assert (page["status"], page["record"]) == (200, page["digest"])
    assert final["id"] == "doc-02"
    assert (tokens["shard"], tokens["first_token"]) == ("train-00000.bin", 0)
    assert tokens["text"].startswith("<|endoftext|>Text number 2.")


def test_a_rejected_document_ends_where_it_was_rejected(tmp_path: Path) -> None:
    steps = trace_document(look_at(run_folder(tmp_path).path), "doc-09")
    assert [step["step"] for step in steps] == ["page", "01-minhash", "rejected"]
    assert (steps[-1]["by"], steps[-1]["reason"], steps[-1]["detail"]) == ("minhash", "duplicate", "of doc-08")


def test_every_token_leads_back_to_its_document(tmp_path: Path) -> None:
    source = look_at(run_folder(tmp_path).path)
    length = 1 + len(document(2).text)
    for position, identifier in ((0, "doc-02"), (length - 1, "doc-02"), (length, "doc-03"), (6 * length - 1, "doc-08")):
        steps = trace_token(source, f"train-00000.bin:{position}")
        assert steps[1]["id"] == identifier
        assert [step["step"] for step in steps] == ["token", "document", "final", "01-minhash", "page"]
    assert trace_token(source, "train-00000.bin:1")[0]["reads"] == "T"


def test_an_archive_that_is_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    (run / "crawl/a.warc.gz").remove()
    assert "no longer there" in trace_document(look_at(run.path), "doc-02")[0]["record"]


class _Balance(HTMLParser):
    """Fails on an end tag that fits no start tag."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_tells_of_every_stage_and_needs_nothing_beside_it(tmp_path: Path) -> None:
    place = write_report(run_folder(tmp_path))
    page = place.read_bytes().decode()
    parser = _Balance()
    parser.feed(page)
    assert parser.open == []
    for heading in ("What ran", "What the chain kept", "Languages", "Tokens", "Training", "What the model writes"):
        assert f"<h2>{heading}</h2>" in page
    assert "<h2>Where a token came from</h2>" in page
    assert "Small &amp; &lt;short&gt;" in page
    assert "&lt;b&gt;x" in page
    assert "\x1b" not in page
    assert "validation 3.25" in page
    assert "1.23M" in page
    assert not re.search(r"<(script|link|img)|src=|@import|url\(", page)


def test_the_report_of_a_run_that_has_only_crawled_and_cleaned(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("clean: {}\n")
    clean_folder(tmp_path / "clean")
    page = write_report(Place.of(tmp_path)).read_bytes().decode()
    assert "What the chain kept" in page
    assert "Training" not in page
    assert "Where a token" not in page
