"""The recipes that come with llmdata: each loads, survives the way to a worker, and takes another extractor."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from llmdata.document import Document, Rejection
from llmdata.pipeline.chain import make_filter, stage_state
from llmdata.pipeline.clean_config import CleanConfig
from llmdata.pipeline.recipe import load_recipe
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


PROSE = "The old bridge over the river was closed to traffic, and nobody knew for how long it would be. " * 5
CHINESE = "这座横跨河流的老桥已经关闭，没有人知道要关闭多久。附近的居民只好绕路去城里上班和买东西。" * 4


def test_a_language_can_have_thresholds_of_its_own() -> None:
    zh = {"gopher_quality": {"min_mean_word_length": 1, "min_stop_words": 0}}
    config = CleanConfig.model_validate({"gopher_quality": {"max_words": 5000}, "by_language": {"zh": zh}})
    assert CleanConfig.model_validate_json(config.model_dump_json()) == config
    strict, judge = make_filter("gopher_quality", CleanConfig()), make_filter("gopher_quality", config)
    assert isinstance(strict(Document(text=CHINESE, language="zh")), Rejection)
    assert isinstance(judge(Document(text=CHINESE, language="zh")), Document)
    assert isinstance(judge(Document(text=CHINESE, language="en")), Rejection)
    assert isinstance(judge(Document(text=PROSE, language="en")), Document)
    long = judge(Document(text=CHINESE * 60, language="zh"))
    assert isinstance(long, Rejection)
    assert long.reason == "max_words"  # what is not named is as in the section
    assert stage_state("gopher_quality", config) != stage_state("gopher_quality", CleanConfig())
    assert "by_language" not in stage_state("c4", config)["config"]


@pytest.mark.parametrize(
    ("by_language", "message"),
    [
        ({"zh": {"gopher_quality": {"min_word": 1}}}, "min_word"),
        ({"zh": {"c4": {"min_sentences": -1}}}, "min_sentences"),
        ({"zh": {"extract": {"fast": True}}}, "extract"),
    ],
)
def test_wrong_settings_of_a_language_are_refused(by_language: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CleanConfig.model_validate({"by_language": by_language})
