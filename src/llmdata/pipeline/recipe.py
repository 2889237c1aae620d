"""A recipe: one YAML file that says the whole way from seeds to a model."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import model_validator

from llmdata.config import Section, load
from llmdata.crawl.config import CrawlConfig
from llmdata.errors import ConfigError
from llmdata.pipeline.clean_config import CleanConfig
from llmdata.resources import resource
from llmdata.tokenizer.config import TokenizeConfig, TokenizerConfig
from llmdata.train.config import TrainConfig


class Recipe(Section):
    """The whole recipe. Stages whose section is absent do not run."""

    name: str = ""
    """What reports call it."""
    description: str = ""
    """A sentence or two for people."""
    crawl: CrawlConfig | None = None
    clean: CleanConfig | None = None
    tokenizer: TokenizerConfig | None = None
    tokenize: TokenizeConfig | None = None
    train: TrainConfig | None = None

    @model_validator(mode="after")
    def _has_a_source(self) -> Recipe:
        if self.clean is not None and self.crawl is None and not self.clean.input:
            return self  # `llmdata clean --recipe` brings the input; `run` asks for it
        if self.clean is not None and self.crawl is not None and self.clean.input:
            raise ValueError("give either a crawl section or clean.input, not both")
        return self


def find_recipe(name: str) -> Path:
    """The recipe file `name`: a path, or the name of one in `pipelines/` (`fineweb`)."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or "/" in name or path.is_file():
        return path
    shipped = resource("pipelines", f"{name}.yaml")
    if shipped.is_file():
        return shipped
    names = ", ".join(sorted(found.stem for found in resource("pipelines").glob("*.yaml")))
    raise ConfigError(f"there is no recipe {name!r}; give the path of a YAML file, or one of: {names}")


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check the recipe `name` (see `find_recipe`), then apply `overrides` (`clean.language.threshold=0.7`)."""
    return load(Recipe, find_recipe(name), overrides)


def json_schema() -> dict[str, Any]:
    """JSON Schema of a recipe, for editors."""
    schema = Recipe.model_json_schema()
    parts = {Recipe.__name__: schema, **schema["$defs"]}
    for section in _below(Section):
        if section.__name__ in parts:
            properties = parts[section.__name__]["properties"]
            for key, said in _docstrings(section).items():
                properties[key] = dict(sorted((properties[key] | {"description": said}).items()))
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "llmdata recipe"
    return schema


def _below(section: type[Section]) -> Iterator[type[Section]]:
    for one in section.__subclasses__():
        yield one
        yield from _below(one)


def _docstrings(section: type[Section]) -> dict[str, str]:
    """What stands below each field in the source. Pydantic would read it at every start, a fourth of its time."""
    found: dict[str, str] = {}
    for owner in reversed(section.__mro__):
        if issubclass(owner, Section):
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
            assert isinstance(tree, ast.ClassDef)
            for field, below in pairwise(tree.body):
                match field, below:
                    case ast.AnnAssign(target=ast.Name(id=key)), ast.Expr(value=ast.Constant(value=str(said))):
                        found[key] = inspect.cleandoc(said)
                    case ast.AnnAssign(target=ast.Name(id=key)), _:
                        found.pop(key, None)
    return found


def schema_text() -> str:
    """`json_schema` as it stands in `pipelines/recipe.schema.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
