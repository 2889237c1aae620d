from __future__ import annotations

from pathlib import Path

import pytest

from llmdata.engine.session import Session
from llmdata.storage.place import Place
from llmdata.tokenizer import TokenizerConfig, train_tokenizer
from tests.tokenizer.corpus import documents, shared_vocabularies, write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """300 documents in three Parquet files."""
    return write_corpus(tmp_path_factory.mktemp("corpus"), documents(300))


@pytest.fixture(scope="session")
def tokenizers(corpus: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Place]:
    """A trained tokenizer of each kind, and byte pairs of each pattern."""
    settings = {
        "bpe": TokenizerConfig(vocab_size=900, special_tokens=["<|endoftext|>", "<|user|>"]),
        "gpt2": TokenizerConfig(vocab_size=800, pattern="gpt2"),
        "o200k": TokenizerConfig(vocab_size=800, pattern="o200k"),
        "own": TokenizerConfig(vocab_size=600, pattern=r" ?\S+|\s+"),
        "word": TokenizerConfig(kind="word", vocab_size=60),
        "char": TokenizerConfig(kind="char", vocab_size=500),
    }
    folder = tmp_path_factory.mktemp("tokenizers")
    for name, config in settings.items():
        train_tokenizer([corpus], Place(str(folder / name)), config, Session())
    return {name: Place(str(folder / name)) for name in settings}


@pytest.fixture
def openai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI's vocabularies in tiktoken's cache; skips where the shared data is absent."""
    cache = tmp_path / "cache"
    cache.mkdir()
    if not shared_vocabularies(cache):
        pytest.skip("OpenAI's vocabularies are not at hand")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
