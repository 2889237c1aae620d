"""An estimate says what a run then takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Llmdata


def test_a_sample_tells_of_the_whole(llmdata: Llmdata, recipe: Path, undisturbed: Path, tmp_path: Path) -> None:
    done = llmdata("estimate", recipe, "--share", "40%", "--least", "1KB", "--json")
    found = json.loads(done.stdout.splitlines()[-1])
    assert 0.3 < found["share"] < 0.6
    funnel = json.loads((undisturbed / "clean/funnel.json").read_text())
    assert found["documents"] == pytest.approx(funnel["in"], rel=0.15)
    assert found["kept"] == pytest.approx(funnel["kept"], rel=0.25)
    index = json.loads((undisturbed / "tokens/index.json").read_text())
    tokens = sum(split["tokens"] for split in index["splits"].values())
    assert found["tokens"] == pytest.approx(tokens, rel=0.25)
    assert found["seconds"] > 0
    assert found["cpu_seconds"] > 0
    assert found["memory"] > 100_000_000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demo",), "a crawl cannot be known before it is made: name archives with --input"),
        (("fineweb", "-i", "missing.warc.gz"), "there is no such file"),
        (("fineweb", "-i", "x", "--share", "2"), "--share 2: give more than 0"),
        (("fineweb", "-i", "x", "--share", "much"), "--share much"),
    ],
)
def test_what_cannot_be_estimated_is_named(llmdata: Llmdata, arguments: tuple[str, ...], message: str) -> None:
    done = llmdata("estimate", *arguments, check=None)
    assert done.returncode in (1, 2)
    assert message in done.stderr
