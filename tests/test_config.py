"""Recipes: what is wrong is said with file, line, key and what is allowed; what is right round-trips."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from llmdata.config import Count, Duration, Section, Size, dump, load, parse
from llmdata.errors import ConfigError


class Language(Section):
    threshold: float = Field(0.65, ge=0, le=1)
    languages: list[str] | None = None


class Clean(Section):
    keep: Literal["all", "final"] = "all"
    size: Size = 64_000_000
    language: Language = Language()


class Recipe(Section):
    name: str = ""
    tokens: Count = 0
    patience: Duration = 0.0
    clean: Clean | None = None
    seeds: list[str] = []


GOOD = """\
name: test
tokens: 1.5B
patience: 2h
clean:
  size: 64MB
  language:
    threshold: 0.5
    languages: [en, de]
"""


def test_a_recipe_is_read() -> None:
    recipe = parse(Recipe, GOOD, "r.yaml")
    assert (recipe.tokens, recipe.patience) == (1_500_000_000, 7200)
    assert recipe.clean is not None
    assert recipe.clean.size == 64_000_000
    assert recipe.clean.language.languages == ["en", "de"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("clean:\n  langage: {}", r"r.yaml:2: clean.langage: there is no such key \(did you mean language\?\)"),
        ("\nzzz: 1", r"r.yaml:2: zzz: there is no such key; allowed: name, tokens"),
        ("clean:\n  language:\n    threshold: 7", r"r.yaml:3: clean.language.threshold: .*or equal to 1, not 7"),
        ("clean:\n  language:\n    threshold: much", r"r.yaml:3: clean.language.threshold: .*number.*'much'"),
        ("clean:\n  keep: some", r"r.yaml:2: clean.keep: .*'all' or 'final', not 'some'"),
        ("clean:\n  size: big", r"r.yaml:2: clean.size: 'big' is not a size; write for example 64MB"),
        ("seeds:\n  - a\n  - [b]", r"r.yaml:3: seeds.1: .*string"),
        ("name: a\nname: b", r"r.yaml:2:1: key 'name' is given twice \(first on line 1\)"),
        ("name: [", r"r.yaml:1:8: "),
        ("- a", r"r.yaml: a recipe is a mapping"),
        ("clean: 3", r"r.yaml:1: clean: .*"),
        ("name: \x00", r"r.yaml: not valid YAML"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(Recipe, source, "r.yaml")


def test_all_errors_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Recipe, "zzz: 1\nclean:\n  keep: some", "r.yaml")
    assert "zzz" in str(caught.value)
    assert "clean.keep" in str(caught.value)


def test_overrides() -> None:
    recipe = parse(Recipe, GOOD, "r.yaml", ["clean.language.threshold=0.7", "name=other", "clean.size=1GiB"])
    assert recipe.clean is not None
    assert (recipe.name, recipe.clean.size, recipe.clean.language.threshold) == ("other", 1 << 30, 0.7)


def test_an_override_may_open_a_section() -> None:
    recipe = parse(Recipe, "", "r.yaml", ["clean.language.languages=[fr]"])
    assert recipe.clean is not None
    assert recipe.clean.language.languages == ["fr"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("clean.language.threshold=7", r"--set clean.language.threshold=7: clean.language.threshold: "),
        ("clean.nothing=1", r"--set clean.nothing=1: clean.nothing: there is no such key"),
        ("name", r"--set name: write --set KEY=VALUE"),
        ("=3", r"--set =3: write --set KEY=VALUE"),
        ("name.first=x", r"--set name.first=x: name is a single value"),
    ],
)
def test_a_wrong_override_is_named_as_the_user_wrote_it(option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(Recipe, GOOD, "r.yaml", [option])


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such recipe file"):
        load(Recipe, tmp_path / "none.yaml")


@given(
    st.builds(
        Recipe,
        name=st.text(alphabet=st.characters(blacklist_categories=["Cs", "Cc"])),
        tokens=st.integers(0, 10**15),
        seeds=st.lists(st.text(alphabet=st.characters(blacklist_categories=["Cs", "Cc"])), max_size=3),
        clean=st.none() | st.builds(Clean, language=st.builds(Language, threshold=st.floats(0, 1))),
    )
)
def test_dump_is_read_back_to_the_same(recipe: Recipe) -> None:
    assert parse(Recipe, dump(recipe), "dumped") == recipe


@given(st.text())
def test_any_text_is_a_recipe_or_a_clear_error(source: str) -> None:
    try:
        parse(Recipe, source, "r.yaml")
    except ConfigError as error:
        assert str(error).startswith("r.yaml")
