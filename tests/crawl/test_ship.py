"""A crawl into an object store: finished archives arrive, also of a store that fails; the state stays here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("s3fs")
pytest.importorskip("moto")

from tests.crawl import archives
from tests.crawl.server import page, serving
from tests.storage.s3 import S3, s3_server


def llmdata(s3: S3, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **s3.environment(), "LLMDATA_CACHE": str(cache)}
    return subprocess.run([sys.executable, "-m", "llmdata", *arguments], capture_output=True, text=True, env=env)


def test_archives_of_a_crawl_arrive_in_the_store_and_go_on_from_here(tmp_path: Path) -> None:
    site = {"/": page("/a", "/b"), "/a": page(text="a" * 3000), "/b": page(text="b" * 3000)}
    with s3_server() as s3, serving(site) as server:
        s3.faults = 0.05
        crawl = ["crawl", server.url("/"), "--out", "s3://corpus/crawl", "--json"]
        first = llmdata(s3, tmp_path / "cache", *crawl, "--max-pages", "1")
        assert first.returncode == 0, first.stderr
        assert json.loads(first.stdout)["pages"] == 1
        done = llmdata(s3, tmp_path / "cache", *crawl)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["pages"] == 3
        assert json.loads(llmdata(s3, tmp_path / "cache", *crawl).stdout)["fresh"] is False
        s3.faults = 0
        found = {key.removeprefix("crawl/"): value for key, value in s3.objects().items()}
        assert {"index.cdxj", "left-out.tsv", "crawl.json"} < set(found)
        assert not [key for key in found if "frontier" in key]
        for name, value in found.items():
            if name.endswith(".warc.gz"):
                (tmp_path / name).write_bytes(value)
        assert archives.captured(tmp_path) == sorted(map(server.url, ("/", "/a", "/b")))

        elsewhere = llmdata(s3, tmp_path / "other", *crawl)
        assert elsewhere.returncode == 1
        assert "not on this machine" in elsewhere.stderr
        anew = llmdata(s3, tmp_path / "other", *crawl, "--rerun")
        assert json.loads(anew.stdout)["pages"] == 3, anew.stderr
