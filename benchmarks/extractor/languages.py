"""Whether translations of a manual keep the shape of the English: paragraphs, code and length, page by page.

    apt-get download debian-handbook && dpkg -x debian-handbook_*.deb HANDBOOK
    python -m benchmarks.extractor.languages HANDBOOK/usr/share/doc/debian-handbook/html

`same paragraphs` is the share of pages whose number of paragraphs is within a tenth of the English page's; `length` is
the characters of all pages beside the English, for the extractor and, as what to expect, for all text of the pages.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llmdata.clean.extractor import blocks, main_text

LANGUAGES = ("fr-FR", "ru-RU", "el-GR", "ar-MA", "fa-IR", "he-IL", "hi-IN", "ja-JP", "zh-CN", "zh-TW", "ko-KR", "vi-VN")


def shape(path: Path) -> tuple[int, int, int]:
    """Paragraphs and characters of the main text, and characters of all text."""
    html = path.read_text("utf-8")
    text = main_text(html, f"https://debian-handbook.info/browse/{path.name}")
    return text.count("\n\n"), len(text), sum(map(len, blocks.parse(html).texts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("html", type=Path)
    folder = parser.parse_args().html
    english = {path.name: shape(path) for path in sorted((folder / "en-US").glob("*.html"))}
    for language in LANGUAGES:
        pages = {path.name: shape(path) for path in sorted((folder / language).glob("*.html")) if path.name in english}
        if not pages:
            continue
        same = sum(abs(found[0] - english[name][0]) <= max(1, english[name][0] / 10) for name, found in pages.items())
        total = [sum(found[k] for found in pages.values()) / sum(english[name][k] for name in pages) for k in (1, 2)]
        empty = sum(found[1] == 0 for found in pages.values())
        print(
            f"{language}: {len(pages)} pages, {empty} empty, same paragraphs {same / len(pages):.2f}, "
            f"length {total[0]:.2f} of the English, all text {total[1]:.2f}"
        )


if __name__ == "__main__":
    main()
