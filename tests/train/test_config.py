"""Settings: presets bring their own, what is given wins, and what cannot be is refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmdata.cli.train import load_config
from llmdata.config import dump, parse
from llmdata.errors import ConfigError
from llmdata.train import TrainConfig
from llmdata.train.config import PRESETS


def test_a_preset_brings_settings_that_the_recipe_may_change() -> None:
    config = load_config("gpt2-124m", None, ["train.optim.weight_decay=0.2"])
    assert (config.optim.lr, config.optim.weight_decay, config.data.batch_tokens) == (6e-4, 0.2, 2**19)
    assert load_config("gpt2-124m", 7, []).steps == 7
    assert load_config("gpt2-124m", None, ["train.loop.tokens=1M"]).steps == 2


def test_settings_read_back_the_same() -> None:
    for name in ("demo", "gpt2-124m", "llama-3-8b"):
        config = load_config(name, None, [])
        assert parse(TrainConfig, dump(config), "dumped") == config


def test_model_from_a_file_or_a_recipe(tmp_path: Path) -> None:
    alone, recipe = tmp_path / "alone.yaml", tmp_path / "recipe.yaml"
    alone.write_text("model: {layers: 3, width: 96, heads: 3}\noptim: {lr: 0.001}\n")
    recipe.write_text("name: x\nclean: {}\ntrain:\n  model: {layers: 3, width: 96, heads: 3}\n  optim: {lr: 0.001}\n")
    first, second = (load_config(str(path), 9, ["train.seed=4"]) for path in (alone, recipe))
    assert first == second
    assert (first.architecture.layers, first.steps, first.seed) == (3, 9, 4)


def test_the_shape_of_a_preset_may_be_changed() -> None:
    plain = load_config("gpt2-124m", None, [])
    changed = load_config("gpt2-124m", None, ["train.model.dropout=0.1", "train.loop.tokens=1M", "train.optim.lr=1e-3"])
    assert changed.architecture == plain.architecture.model_copy(update={"dropout": 0.1})
    assert (changed.loop.steps, changed.loop.tokens) == (None, 1_000_000)
    assert changed.optim == plain.optim.model_copy(update={"lr": 1e-3})
    assert changed.data == plain.data
    assert load_config(None, 7, ["train.model.width=256"]).steps == 7
    for preset in PRESETS:
        named, spelt = load_config(preset, None, []), load_config(preset, None, ["train.model.dropout=0"])
        assert named.model_copy(update={"model": named.shape}) == spelt


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.model=gpt2-124"], "did you mean gpt2-124m"),
        (["train.model=x"], "--set train.model=x: "),
        (["train.optim.lrr=1"], "did you mean lr"),
        (["optim.lr=1"], "start with `train.`"),
        (["train.data.batch_tokens=1000"], "multiple of the context 128, say 896"),
        (["train.model.heads=3"], "width 128 has to be a multiple of heads 3"),
        (["train.model.headz=3"], "headz"),
        (["train.model={heads: 3}"], "width 128 has to be a multiple of heads 3"),
        (["train.model={heads: 4, kv_heads: 3}"], "multiple of kv_heads"),
        (["train.loop={steps: 3, tokens: 100}"], "not both"),
        (["train.data.micro_batch=0"], "at least 1"),
        (["train.seed=2147483648"], "less than 2147483648"),
        (["train.data.seed=2147483648"], "less than 2147483648"),
        (["train.device=tpu"], "auto|cpu|cuda"),
        (["train.optim.betas=[0.9, 1.0]"], "below 1"),
    ],
)
def test_mistakes_are_named(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(None, None, settings)
    assert message in str(error.value)


def test_unknown_model_file() -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config("nowhere.yaml", None, [])
