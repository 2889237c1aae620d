"""Fixtures of the training tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmdata.storage.place import Place
from tests.train.corpus import SENTENCES, write_tokens


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny matrices gain nothing from threads, and a forked child may use none of its parent's."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = Place.of(tmp_path_factory.mktemp("tokens"))
    write_tokens(folder, SENTENCES * 8)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Place:
    return Place.of(tmp_path / "model")
