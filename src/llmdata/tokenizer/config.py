"""Settings of `llmdata tokenizer train` and `llmdata tokenize`. Imports no tokenizer: recipes are read with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from llmdata.config import Count, Section, Size

Layout = Literal["auto", "c4", "pile", "refinedweb", "fineweb", "text"]


class TokenizerConfig(Section):
    """A tokenizer trained on the cleaned corpus, or with `name` or `path` one that exists already."""

    kind: Literal["bpe", "word", "char"] = "bpe"
    """Byte-level byte pair encoding; words or characters exist to compare with."""
    vocab_size: Count = Field(32_768, ge=2)
    """Tokens in all, special ones included; fewer if the corpus has no more to merge."""
    pattern: str | None = None
    """How text is cut into words before pairs merge: gpt2, cl100k, o200k, or a regular expression that fits all text.
    None: cl100k."""
    special_tokens: list[str] = Field(["<|endoftext|>"], min_length=1)
    """Tokens that no text contains. The first is put before every document."""
    sample: Size = Field(10_000_000_000, ge=1)
    """Bytes of text to train on at most, taken evenly over the corpus; bounds the memory."""
    name: str | None = None
    """An encoding to use instead of training one: gpt2, r50k_base, p50k_base, cl100k_base, o200k_base, or a model's."""
    path: str | None = None
    """A tokenizer to use instead of training one: a folder, a tokenizer.json, or a .tiktoken file (with `pattern`)."""
    layout: Layout = "auto"
    """What the columns of the input are; `auto` looks at their names."""
    text_column: str | None = None
    """Column of the text, for input of no known layout."""

    @field_validator("special_tokens")
    @classmethod
    def _each_once(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names) or not all(names):
            raise ValueError("every special token needs a name, each once")
        return names

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name and self.path:
            raise ValueError("give either name or path, not both")
        least = 256 + len(self.special_tokens) if self.kind == "bpe" else 2 + len(self.special_tokens)
        if self.vocab_size < least:
            raise ValueError(
                f"vocab_size {self.vocab_size}: a {self.kind} vocabulary with these special tokens has at least {least}"
            )
        return self


@dataclass(frozen=True, slots=True)
class Validation:
    """Which documents are for validation: a `share` by hash or at the tail, those of `source`, or none."""

    by: Literal["hash", "tail", "input", "none"]
    share: float = 0.0
    source: str = ""


class TokenizeConfig(Section):
    """Token shards of the cleaned corpus."""

    format: Literal["llmc", "nanogpt", "megatron", "parquet"] = "llmc"
    """llm.c's and modded-nanogpt's shards, end-of-text before each document; nanoGPT's one file a split, it after;
    Megatron-LM's .bin and .idx, it after; or Parquet, a row of token ids for each document, it before."""
    val: str = "hash:0.005"
    """Validation: `hash:SHARE` (a text is always on the same side), `tail:SHARE` (the end of the corpus, for one long
    text), `none`, or the address of other documents."""
    shard_tokens: Count = Field(100_000_000, ge=1_000, le=2_000_000_000)
    """Tokens in a shard at most; no document is cut, so one that is longer has a shard of its own."""
    token_counts: bool = False
    """Also copy the input, which has to be Parquet, into `counted/` with the column `token_count` filled in: tokens of
    the text, without end-of-text."""
    shuffle_seed: int | None = None
    """Order of the documents: shuffled by this seed, or as in the input."""
    layout: Layout = "auto"
    """What the columns of the input are; `auto` looks at their names."""
    text_column: str | None = None
    """Column of the text, for input of no known layout."""
    pattern: str | None = None
    """How a `.tiktoken` file that is not OpenAI's cuts text: gpt2, cl100k, o200k, or a regular expression."""
    task_bytes: Size = Field(64_000_000, ge=10_000)
    """Size of one task: input files are cut into pieces of about this many bytes."""

    @field_validator("val")
    @classmethod
    def _known_split(cls, value: str) -> str:
        _parse_validation(value)
        return value

    @property
    def validation(self) -> Validation:
        """`val`, taken apart."""
        return _parse_validation(self.val)


def _parse_validation(value: str) -> Validation:
    if value == "none":
        return Validation("none")
    by, colon, number = value.partition(":")
    if colon and by in ("hash", "tail"):
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if not 0 < share < 1:
            raise ValueError(f"write {by}:SHARE with a share between 0 and 1, for example {by}:0.01")
        return Validation("hash" if by == "hash" else "tail", share)
    if not value:
        raise ValueError("write hash:SHARE, tail:SHARE, none, or the address of documents")
    return Validation("input", source=value)
