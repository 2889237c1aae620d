"""Tokenizers: training them, and turning a corpus into token shards."""

from llmdata.tokenizer.config import TokenizeConfig, TokenizerConfig

__all__ = ["TokenizeConfig", "TokenizerConfig"]
