"""Reading ahead in a thread changes nothing but the time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from llmdata.errors import StoppedEarly
from llmdata.tokenizer.ahead import reading_ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "reading ahead"]


def test_everything_in_order() -> None:
    with reading_ahead(iter(range(1000))) as items:
        assert list(items) == list(range(1000))
    assert not threads()


@pytest.mark.parametrize("error", [ValueError("bad"), StoppedEarly("stopped"), KeyboardInterrupt()])
def test_an_error_comes_where_it_was(error: BaseException) -> None:
    def fails() -> Iterator[int]:
        yield 1
        yield 2
        raise error

    seen: list[int] = []
    with reading_ahead(fails()) as items, pytest.raises(type(error)):
        seen.extend(items)
    assert seen == [1, 2]
    assert not threads()


def test_the_thread_ends_when_nobody_reads() -> None:
    with reading_ahead(iter(range(10**9))) as items:
        assert next(items) == 0
    assert not threads()
