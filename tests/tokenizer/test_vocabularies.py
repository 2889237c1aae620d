"""Encodings by name: where their files come from, and what is said when they are not there or not whole."""

from __future__ import annotations

import base64
import hashlib
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken.load import load_tiktoken_bpe
from tiktoken.model import MODEL_TO_ENCODING
from typer.testing import CliRunner

from llmdata.cli.app import app
from llmdata.errors import InputError
from llmdata.storage.encoding import load_encoding
from llmdata.storage.encoding_kinds import BpeEncoding
from llmdata.storage.encoding_names import FILES, KNOWN, NAMES, canonical_name
from llmdata.storage.ranks import dump_ranks, parse_gpt2, parse_ranks
from llmdata.tokenizer.files import _by_rank, _merge, merges_of
from tests.tokenizer.corpus import PHRASES, SHARED_BPE, texts

runner = CliRunner()


def put_p50k(cache: Path) -> None:
    """p50k_base is r50k_base and runs of 2 to 25 blanks: made from it, and known by its published digest."""
    data = (SHARED_BPE / "r50k_base.tiktoken").read_bytes()
    data += b"".join(base64.b64encode(b" " * run) + b" %d\n" % (50255 + run) for run in range(2, 26))
    assert hashlib.sha256(data).hexdigest() == FILES["p50k_base"].sha256
    Path(FILES["p50k_base"].cached).write_bytes(data)


@pytest.mark.usefixtures("openai")
@pytest.mark.parametrize("name", ["gpt2", *KNOWN])
def test_every_name_is_tiktokens_encoding(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put_p50k(tmp_path / "cache")
    for part in ("vocab.bpe", "encoder.json"):
        shutil.copyfile(SHARED_BPE / part, FILES[part].cached)
    ours, theirs = load_encoding(name), tiktoken.get_encoding(name)
    assert (ours.n_vocab, ours.eot) == (theirs.n_vocab, theirs.eot_token)
    assert ours.special_tokens == theirs._special_tokens
    for text in [*PHRASES, "          indented\n                              more", *texts(5)]:
        expected = theirs.encode_ordinary(text)
        ids, _ = ours.encode_batch([text.encode()])
        assert ours.encode(text) == ids.tolist() == expected


def test_every_model_that_tiktoken_knows_has_an_encoding() -> None:
    for model, encoding in MODEL_TO_ENCODING.items():
        assert canonical_name(model) in {encoding, "r50k_base" if encoding == "gpt2" else encoding}
    assert canonical_name("gpt-4o-2024-05-13") == "o200k_base"
    assert canonical_name("gpt-oss-20b") == "o200k_harmony"
    assert canonical_name("gpt6-base") is None
    assert len(NAMES) == len(KNOWN) + 1


@pytest.mark.usefixtures("openai")
def test_gpt2_from_the_files_that_were_published_first(tmp_path: Path) -> None:
    by_ranks = load_encoding("gpt2")
    Path(FILES["r50k_base"].cached).unlink()
    with pytest.raises(InputError, match="r50k_base"):
        load_encoding("gpt2")
    for part in ("vocab.bpe", "encoder.json"):  # as tiktoken keeps them for its own gpt2
        shutil.copyfile(SHARED_BPE / part, FILES[part].cached)
    assert load_encoding("gpt2").digest == by_ranks.digest
    folder = tmp_path / "gpt2"
    folder.mkdir()
    for part in ("vocab.bpe", "encoder.json"):
        shutil.copyfile(SHARED_BPE / part, folder / part)
    assert load_encoding(str(folder)).digest == by_ranks.digest
    Path(FILES["vocab.bpe"].cached).write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"vocab\.bpe has 1ce16647"):
        load_encoding("gpt2")


def test_gpt2_files_that_disagree_are_refused() -> None:
    for files in ((b"#version\nh e\n", b"{}"), (b"#version\nhe\n", b"{}"), (b"\xff", b"{}"), (b"", b"[")):
        with pytest.raises(InputError, match=r"vocab\.bpe"):
            parse_gpt2(*files)


@pytest.mark.usefixtures("openai")
def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = Path(FILES["cl100k_base"].cached)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"223921b7.*download"):
        load_encoding("cl100k_base")


class Mirror(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A server that has a wrong p50k_base and, where the shared data is there, the right r50k_base."""
    folder = tmp_path / "mirror" / "encodings"
    folder.mkdir(parents=True)
    (folder / "p50k_base.tiktoken").write_bytes(b"not this")
    if (SHARED_BPE / "r50k_base.tiktoken").exists():
        shutil.copyfile(SHARED_BPE / "r50k_base.tiktoken", folder / "r50k_base.tiktoken")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *given: Mirror(*given, directory=str(folder.parent))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_download(tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (SHARED_BPE / "r50k_base.tiktoken").exists():
        pytest.skip("OpenAI's vocabularies are not at hand")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))
    order = ["tokenizer", "download", "gpt2", "--from", f"{mirror}/"]
    first = runner.invoke(app, order)
    assert first.exit_code == 0, first.output
    assert "downloaded" in first.output
    assert load_tiktoken_bpe(FILES["r50k_base"].address) == load_encoding("gpt2").ranks  # type: ignore[attr-defined]
    assert "was there" in runner.invoke(app, order).output
    Path(FILES["r50k_base"].cached).write_bytes(b"damaged")
    assert "downloaded" in runner.invoke(app, order).output


@pytest.mark.parametrize(
    ("name", "message"),
    [("p50k_base", "94b5ca7d"), ("cl100k_base", "404"), ("gpt6", "gpt2, r50k_base"), ("../x", "gpt2, r50k_base")],
)
def test_what_cannot_be_had_leaves_nothing(
    tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))
    failed = runner.invoke(app, ["tokenizer", "download", name, "--from", mirror])
    assert failed.exit_code in (1, 2)
    assert message in failed.output
    assert not list((tmp_path / "cache").glob("*"))


BYTES = {bytes([byte]): byte for byte in range(256)}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("ab ", min_size=2, max_size=5).map(str.encode), max_size=30, unique=True))
def test_vocabularies_that_gigatoken_refuses_are_left_to_tiktoken(tokens: list[bytes]) -> None:
    # Some of these tokens are no merge of two others: gigatoken panics on such a vocabulary.
    ranks = BYTES | {token: 256 + number for number, token in enumerate(tokens)}
    encoding = BpeEncoding(ranks, "gpt2", {"<|endoftext|>": len(ranks)})
    for text in ("abab ab  ba", "bbbaaab   a"):
        ids, _ = encoding.encode_batch([text.encode()])
        assert ids.tolist() == encoding.tiktoken.encode_ordinary(text)
    expected = [_merge(ranks, token, rank) for token, rank in sorted(ranks.items(), key=_by_rank) if len(token) > 1]
    assert merges_of(ranks) == [tuple(pair) for pair in expected if len(pair) == 2]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("YWI= 256\nYWI= 257\n", "x:258: this token comes twice"),
        ("YWI= 255\n", "same rank"),
        ("YWI= -1\n", "no id"),
        ("YWI= 99999999999\n", "no id"),
        ("YWI 256\n", "not a line"),
        ("YWI= x\n", "not a line"),
        ("\n", "not a line"),
    ],
)
def test_damaged_files_of_ranks(lines: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_ranks(dump_ranks(BYTES) + lines.encode(), "x")
