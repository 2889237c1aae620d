"""Tokenizers: training them, and turning a corpus into token shards."""

from typing import TYPE_CHECKING, Any

from llmdata.tokenizer.config import TokenizeConfig, TokenizerConfig

if TYPE_CHECKING:
    from llmdata.tokenizer.pack import TokenizeResult, tokenize
    from llmdata.tokenizer.train import TokenizerResult, train_tokenizer

__all__ = [
    "TokenizeConfig",
    "TokenizeResult",
    "TokenizerConfig",
    "TokenizerResult",
    "tokenize",
    "train_tokenizer",
]

_HOMES = {"tokenize": "pack", "TokenizeResult": "pack", "train_tokenizer": "train", "TokenizerResult": "train"}


def __getattr__(name: str) -> Any:
    # Recipes import the settings from here: the work and its packages are loaded when first asked for.
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
