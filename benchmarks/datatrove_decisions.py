"""What datatrove's filters say of each text. Runs in datatrove's environment, for clean_vs_datatrove.py.

python benchmarks/datatrove_decisions.py TEXTS.jsonl DECISIONS.jsonl CACHE
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(texts: str, out: str, cache: str) -> None:
    """For each line of `texts` (`text`) one line: filter → True or the reason; C4's and PII's text."""
    os.environ["HF_ASSETS_CACHE"] = str(Path(cache).resolve())
    os.environ["HF_HUB_OFFLINE"] = "1"
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
        LanguageFilter,
    )
    from datatrove.pipeline.formatters import PIIFormatter
    from datatrove.utils.text import split_into_parts

    filters = {
        "language": LanguageFilter(languages=["en"]),
        "gopher_repetition": GopherRepetitionFilter(),
        "gopher_quality": GopherQualityFilter(),
        "c4": C4QualityFilter(filter_no_terminal_punct=False),
        "fineweb": FineWebQualityFilter(),
    }
    with open(texts, encoding="utf-8") as rows, open(out, "w", encoding="utf-8") as decisions:
        for number, row in enumerate(rows):
            text = json.loads(row)["text"]
            split_into_parts.cache_clear()
            found: dict[str, object] = {}
            for name, judge in filters.items():
                doc = Document(text=text, id=str(number))
                outcome = judge.filter(doc)
                found[name] = True if outcome is True else outcome[1] if isinstance(outcome, tuple) else name
                if name == "c4" and outcome is True:
                    found["c4_text"] = doc.text
            found["pii_text"] = PIIFormatter().format(text)  # a new one: its turn runs on from document to document
            decisions.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
