"""`llmdata schema`: the JSON Schema of recipes."""

from __future__ import annotations

from llmdata.cli.common import ends_well


def schema() -> None:
    """Print the JSON Schema of a recipe.

    Editors complete and check the keys of a recipe with it.

    \b
    Example:
      llmdata schema > recipe.schema.json
      # then, as the first line of a recipe:
      # yaml-language-server: $schema=recipe.schema.json
    """
    with ends_well():
        from llmdata.pipeline.recipe import schema_text

        print(schema_text(), end="")
