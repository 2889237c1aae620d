"""The recipes that come with llmdata: each loads, survives the way to a worker, and takes another extractor."""

from __future__ import annotations

import pytest

from llmdata.pipeline.chain import stage_state
from llmdata.pipeline.recipe import CleanConfig, load_recipe
from llmdata.resources import resource

RECIPES = sorted(path.stem for path in resource("pipelines").glob("*.yaml"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_reaches_a_worker_as_it_is(name: str) -> None:
    config = load_recipe(name).clean
    assert config is not None
    assert CleanConfig.model_validate_json(config.model_dump_json()) == config
    for stage in config.stages:
        if stage != "quality":  # whose model a user has to train first
            assert stage_state(stage, config)["stage"] == stage


@pytest.mark.parametrize("name", ["c4", "refinedweb", "gopher", "fineweb"])
@pytest.mark.parametrize("extractor", ["trafilatura", "resiliparse", "plain"])
def test_any_extractor_can_be_chosen_on_the_command_line(name: str, extractor: str) -> None:
    config = load_recipe(name, [f"clean.extract.extractor={extractor}"]).clean
    assert config is not None
    assert CleanConfig.model_validate_json(config.model_dump_json()).extract.extractor == extractor


def test_the_papers_numbers() -> None:
    c4, refinedweb, gopher, fineweb = (load_recipe(name).clean for name in ("c4", "refinedweb", "gopher", "fineweb"))
    assert c4
    assert refinedweb
    assert gopher
    assert fineweb
    assert (c4.c4.min_sentences, c4.c4.min_words_per_line, c4.c4.max_characters) == (3, 5, 190_000)
    assert c4.url_dedup.ignore_scheme
    assert c4.url_dedup.ignore_www
    assert c4.url_dedup.ignore_tracking
    assert (fineweb.c4.min_sentences, fineweb.c4.min_words_per_line, fineweb.c4.max_characters) == (5, 3, None)
    assert (refinedweb.minhash.bands, refinedweb.minhash.rows, refinedweb.minhash.n_grams) == (20, 450, 5)
    assert refinedweb.stages.index("gopher_repetition") < refinedweb.stages.index("refinedweb")
    assert gopher.stages.index("gopher_quality") < gopher.stages.index("gopher_repetition")
