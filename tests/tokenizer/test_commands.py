"""The commands, as a user types them."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmdata.cli.app import app
from llmdata.storage.encoding import load_encoding
from llmdata.storage.place import Place
from llmdata.tokenizer.view import visible
from tests.tokenizer.corpus import documents

runner = CliRunner()


def test_train_tokenize_and_decode(corpus: Place, tmp_path: Path) -> None:
    tokenizer, tokens = str(tmp_path / "tokenizer"), str(tmp_path / "tokens")
    made = runner.invoke(app, ["tokenizer", "train", corpus.path, "-o", tokenizer, "--vocab-size", "600"])
    assert made.exit_code == 0, made.output
    assert "600 tokens" in made.output
    order = ["tokenize", corpus.path, "--tokenizer", tokenizer, "-o", tokens, "--val", "none", "-w", "1"]
    packed = runner.invoke(app, order)
    assert packed.exit_code == 0, packed.output
    assert "300 documents" in packed.output
    again = runner.invoke(app, [*order, "--json"])
    assert json.loads(again.stdout)["fresh"] is False
    changed = runner.invoke(app, [*order, "--shuffle-seed", "1"])
    assert changed.exit_code == 2
    assert "--rerun" in changed.output
    shard = f"{tokens}/train-00000.bin"
    decoded = runner.invoke(app, ["tokenizer", "decode", shard, "--count", "20", "--json"])
    passage = json.loads(decoded.stdout)
    assert passage["text"].startswith("<|endoftext|>" + documents(300)[0].text[:10])
    assert len(passage["ids"]) == 20
    plain = runner.invoke(app, ["tokenizer", "decode", shard, "--from", "1", "--count", "19"])
    assert plain.stdout.rstrip("\n") == passage["text"].removeprefix("<|endoftext|>").rstrip("\n")
    beyond = runner.invoke(app, ["tokenizer", "decode", shard, "--from", "999999999"])
    assert beyond.exit_code == 2


def test_view_shows_every_byte(tokenizers: dict[str, Place]) -> None:
    text = "Grüße 世\n\0 <|endoftext|>"
    names = [tokenizers["bpe"].path, tokenizers["gpt2"].path]
    order = ["tokenizer", "view", text, "-e", names[0], "-e", names[1]]
    shown = [json.loads(line) for line in runner.invoke(app, [*order, "--json"]).stdout.splitlines()]
    assert [record["name"] for record in shown] == names
    for record, name in zip(shown, names, strict=True):
        assert b"".join(bytes.fromhex(token["bytes"]) for token in record["tokens"]) == text.encode()
        assert [token["id"] for token in record["tokens"]] == load_encoding(name).encode(text)
        assert all(token["text"].isprintable() for token in record["tokens"])
    plain = runner.invoke(app, order).stdout
    assert "\\n" in plain
    assert "\\x00" in plain
    assert "·" in plain
    for token in shown[0]["tokens"]:
        assert str(token["id"]) in plain


def test_view_puts_encodings_side_by_side_and_writes_a_page(tokenizers: dict[str, Place], tmp_path: Path) -> None:
    text = "<b>&amp;</b> 世\n\x1b[31m\0 <|endoftext|>"
    names = [tokenizers[name].path for name in ("bpe", "gpt2", "char")]
    file = tmp_path / "page.html"
    order = ["tokenizer", "view", text, *(part for name in names for part in ("-e", name)), "--html", str(file)]
    shown = runner.invoke(app, order)
    assert shown.exit_code == 0, shown.output
    heading = next(line for line in shown.stdout.splitlines() if "tokens, " in line)
    assert heading.count("bytes each") == len(names)
    assert "\x1b" not in shown.stdout
    page = file.read_text()
    assert "\x1b" not in page
    assert "\0" not in page
    assert not re.findall(r"(?:src|href|url)\s*[=(]", page)
    assert "prefers-color-scheme: dark" in page
    cards = page.split('<section class="card">')[1:]
    for card, name in zip(cards, names, strict=True):
        encoding = load_encoding(name)
        found = re.findall(r'title="(\d+): ([0-9a-f ]*)"><b>(.*?)</b><small>(\d+)</small>', card)
        assert [int(token) for _, _, _, token in found] == encoding.encode(text)
        for token, data, spelled, _ in found:
            assert bytes.fromhex(data) == encoding.token_bytes(int(token))
            plain = html.unescape(re.sub("</?i>", "", spelled))
            assert plain == visible(bytes.fromhex(data))


def test_view_of_nothing_and_of_what_a_terminal_must_not_obey(tokenizers: dict[str, Place]) -> None:
    name = tokenizers["bpe"].path
    empty = runner.invoke(app, ["tokenizer", "view", "", "-e", name])
    assert empty.exit_code == 0
    assert "0 tokens, of 900" in empty.stdout
    # No markup of rich's, no control characters, no lone byte.
    assert visible("[bold]\x07\x9b\u202e".encode() + b"\xff") == r"[bold]\x07\x9b\u202e\xff"


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (["tokenizer", "train", "x", "-o", "DIR", "--vocab-size", "many"], "--vocab-size many"),
        (["tokenizer", "train", "x", "-o", "DIR", "--vocab-size", "200"], "llmdata: vocab_size 200: a bpe vocabulary"),
        (["tokenizer", "train", "x", "-o", "DIR", "--kind", "syllable"], "--kind syllable"),
        (
            ["tokenizer", "train", "x", "-o", "DIR", *["--special-token", "a"] * 2],
            "llmdata: --special-token a a: every",
        ),
        (["tokenizer", "train", "x", "-o", "DIR", "--set", "tokenizer.vocab=5"], "vocab_size"),
        (["tokenize", "x", "-o", "DIR", "--tokenizer", "gpt2", "--val", "hash:7"], "--val hash:7"),
        (["tokenize", "x", "-o", "DIR", "--tokenizer", "gpt2", "--format", "bin"], "--format bin"),
    ],
)
def test_wrong_options_are_named_and_nothing_is_made(tmp_path: Path, order: list[str], message: str) -> None:
    out = str(tmp_path / "out")
    result = runner.invoke(app, [out if part == "DIR" else part for part in order])
    assert result.exit_code == 2
    assert message in result.output
    assert not Path(out).exists()
