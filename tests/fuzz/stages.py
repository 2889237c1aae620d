"""atheris (libFuzzer) on the extractors and filters: whatever comes in, a stage decides and does not raise.

    python -m tests.fuzz.stages extract|filters [libFuzzer's options, as -max_total_time=60] [a corpus to keep]

It starts from the pages and texts of `seeds.py`; of a page, the first byte chooses what its header says.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import get_args

import atheris

with atheris.instrument_imports(include=["llmdata"]):
    from llmdata.clean.extract import Extract, ExtractConfig
    from llmdata.dedup.shuffle import Shuffle
    from llmdata.document import Document, Filter, Payload, Rejection
    from llmdata.pipeline.chain import FILTERS, SHUFFLES, make_filter, make_shuffle
    from llmdata.pipeline.clean_config import CleanConfig
    from tests.fuzz import seeds

    for address in ("llmdata.clean.extractor", *(FILTERS | SHUFFLES).values()):
        import_module(address.split(":")[0])


OURS = Extract(ExtractConfig(extractor="llmdata"))


def _filters() -> list[Filter]:
    """All of the package that look at a text and need no model of the user's."""
    config = CleanConfig.model_validate({"bad_words": {"lists": ["en"]}})
    others = ("quality", "extract", "decontaminate")
    return [make_filter(name, config) for name in FILTERS if name not in others]


def _shuffles() -> list[Shuffle]:
    return [make_shuffle(name, CleanConfig()) for name in SHUFFLES if name != "quality_best"]


def _judge(stage: Filter, doc: Document) -> None:
    found = stage(doc)
    kept = found.document if isinstance(found, Rejection) else found
    assert kept is doc, f"{stage.name} lost the document"
    if stage is OURS and isinstance(found, Rejection):
        assert found.reason != "parse_error", found.detail  # others' parsers may raise, ours may not


def filters() -> Callable[[bytes], None]:
    stages, shuffles = _filters(), _shuffles()

    def test(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        for stage in stages:
            _judge(stage, Document(id="1", text=text, url="http://example.com/" + text[:50]))
        for shuffle in shuffles:
            shuffle.keys([Document(id="1", text=text, url="http://example.com/" + text[:50])])

    return test


def extract() -> Callable[[bytes], None]:
    names = get_args(ExtractConfig.model_fields["extractor"].annotation)
    stages = [
        OURS,
        *(Extract(ExtractConfig.model_validate({"extractor": name})) for name in names if name != "llmdata"),
    ]

    def test(data: bytes) -> None:
        charset = seeds.LABELS[data[0] % len(seeds.LABELS)] if data else ""
        for stage in stages:
            payload = Payload(data[1:], "text/html", charset or None)
            _judge(stage, Document(id="1", url="http://example.com/", payload=payload))

    return test


if __name__ == "__main__":
    make, write = {"filters": (filters, seeds.write_texts), "extract": (extract, seeds.write_pages)}[sys.argv.pop(1)]
    folder = Path(tempfile.mkdtemp())
    write(folder)
    found = Path(tempfile.mkdtemp())  # libFuzzer writes what reaches new code into the first folder that it is given
    named = any(not option.startswith("-") for option in sys.argv[1:])
    atheris.Setup([*sys.argv, *([] if named else [str(found)]), str(folder)], make())
    atheris.Fuzz()
