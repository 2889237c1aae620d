"""Stage `pii` with all its kinds beside Presidio's stock recognisers: precision, recall and documents a second.

    python benchmarks/pii_vs_presidio.py --texts presidio_synth_dev.json [--web TEXTS.jsonl]

The texts carry spans (Presidio research's generator). A span is found if a result of its kind overlaps it. Presidio
runs as its analyzer does out of the box, but over a blank spaCy pipeline. Rates are of CPU time, each in a process of
its own, after one round over all texts; what ours remembers of digits is forgotten before the round that counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from llmdata.clean import phone

KINDS = {
    "EMAIL_ADDRESS": "email",
    "IP_ADDRESS": "ip",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "credit_card",
    "IBAN_CODE": "iban",
    "US_SSN": "us_ssn",
    "CRYPTO": "crypto",
}
Span = tuple[int, int, str]


def ours() -> Callable[[str], set[Span]]:
    from llmdata.clean.pii import Kind, Pii, PiiConfig

    stage = Pii(PiiConfig(kinds=list(get_args(Kind)), public_addresses_only=False, addresses_apart=True))
    return lambda text: {(start, end, "ip" if kind.startswith("ip") else kind) for start, end, kind in stage.find(text)}


def presidio() -> Callable[[str], set[Span]]:
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    class Blank(SpacyNlpEngine):
        def __init__(self) -> None:
            super().__init__()
            self.nlp = {"en": spacy.blank("en")}

        def is_loaded(self) -> bool:
            return True

        def load(self) -> None:
            pass

    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    engine = AnalyzerEngine(registry=registry, nlp_engine=Blank(), supported_languages=["en"])

    def find(text: str) -> set[Span]:
        return {
            (found.start, found.end, KINDS[found.entity_type])
            for found in engine.analyze(text, "en")
            if found.entity_type in KINDS
        }

    return find


def rate(find: Callable[[str], Any], texts: list[str]) -> float:
    for text in texts:
        find(text)
    phone._could_be_of.cache_clear()
    began = time.process_time()
    for text in texts:
        find(text)
    return len(texts) / (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--web", type=Path, nargs="*", default=[], help="Parquet files with a column text")
    parser.add_argument("--only", choices=["llmdata", "presidio"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        measure(args.only, args.texts, args.web)
        return
    for name in ("llmdata", "presidio"):
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only", name], check=True)


def measure(name: str, path: Path, web: list[Path]) -> None:
    import pyarrow.parquet as pq

    find = ours() if name == "llmdata" else presidio()
    rows = json.loads(path.read_text())
    right, wrong, missed = Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        got = find(row["full_text"])
        gold = {
            (span["start_position"], span["end_position"], KINDS[span["entity_type"]])
            for span in row["spans"]
            if span["entity_type"] in KINDS
        }
        for kind in set(KINDS.values()):
            wanted, have = [s for s in gold if s[2] == kind], [s for s in got if s[2] == kind]
            right[kind] += sum(_hit(span, have) for span in wanted)
            missed[kind] += sum(not _hit(span, have) for span in wanted)
            wrong[kind] += sum(not _hit(span, wanted) for span in have)
    line = f"{name}: {rate(find, [row['full_text'] for row in rows]):,.0f} documents a CPU second"
    if web:
        pages = [text for file in web for text in pq.read_table(file, columns=["text"])["text"].to_pylist()[::10]]
        line += f", {rate(find, pages):,.0f} of {len(pages)} web pages"
    print(line)
    for kind in sorted(set(KINDS.values())):
        if right[kind] + missed[kind]:
            recall = right[kind] / (right[kind] + missed[kind])
            precision = right[kind] / max(1, right[kind] + wrong[kind])
            print(f"  {kind:12} {right[kind] + missed[kind]:4}  precision {precision:.3f}  recall {recall:.3f}")


def _hit(span: Span, others: list[Span]) -> bool:
    return any(span[0] < other[1] and other[0] < span[1] for other in others)


if __name__ == "__main__":
    main()
