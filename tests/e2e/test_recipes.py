"""The recipes of papers on a small crawl: pages in, the funnel of the paper out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmdata.clean.language import bundled_model
from llmdata.engine.session import Session
from llmdata.pipeline.clean import run_clean
from llmdata.pipeline.recipe import load_recipe
from llmdata.storage.place import Place
from tests.e2e.corpus import write_warc


def funnel_of(name: str, folder: Path, *settings: str) -> dict[str, dict[str, Any]]:
    """What became of twenty pages, stage by stage: three are too short, two have their neighbour's text."""
    config = load_recipe(name, list(settings)).clean
    assert config is not None
    source = write_warc(folder / "pages.warc.gz", range(20))
    result = run_clean(Place.of(folder / "out"), config.model_copy(update={"input": [str(source)]}), Session(workers=1))
    stages = result.funnel["stages"]
    assert [stage["stage"] for stage in stages] == ["read", *config.stages]
    return {stage["stage"]: stage for stage in stages}


def test_dclm_keeps_the_best_tenth_by_its_classifier(tmp_path: Path) -> None:
    # A model of languages is a classifier too, whose good texts are the most English ones.
    model = [f"clean.quality.model={bundled_model()}", "clean.quality.label=en"]
    funnel = funnel_of("dclm", tmp_path, *model)
    judged = funnel["quality_best"]["in"]
    assert judged == funnel["minhash"]["kept"] == funnel["quality"]["kept"]
    assert 0 < funnel["quality_best"]["kept"] <= judged / 10 + 1


@pytest.mark.parametrize("name", ["gopher", "refinedweb", "dclm"])
def test_short_pages_go_by_gopher_s_rules_and_near_copies_by_minhash(name: str, tmp_path: Path) -> None:
    model = [f"clean.quality.model={bundled_model()}", "clean.quality.label=en"] if name == "dclm" else []
    funnel = funnel_of(name, tmp_path, "clean.extract.extractor=resiliparse", *model)
    assert funnel["language"]["kept"] - funnel["minhash"]["in"] == 3
    assert funnel["minhash"]["rejected"] == {"duplicate": 2}
