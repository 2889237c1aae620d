import multiprocessing

import pytest

from llmdata.crawl import readers


@pytest.fixture(autouse=True)
def quick_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers forked from a server that has loaded all they need: half a second less for each crawl.

    Crawls that tests start as a process of their own have them as users do.
    """
    multiprocessing.set_forkserver_preload(["llmdata.crawl.readers"])
    monkeypatch.setattr(readers, "START_METHOD", "forkserver")
