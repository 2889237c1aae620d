"""A page that is written for a person to open: all in one file, nothing to load, nothing that runs."""

from __future__ import annotations

import html
from pathlib import Path

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def webpage(title: str, style: Path, body: str) -> str:
    """An HTML page of `body` (HTML) with a title (plain text) and the CSS of the file `style`."""
    return _PAGE.format(title=html.escape(title), style=style.read_text(encoding="utf-8"), body=body)
