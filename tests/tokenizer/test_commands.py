"""The commands, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmdata.cli.app import app
from llmdata.storage.encoding import load_encoding
from llmdata.storage.place import Place
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
    assert [record["encoding"] for record in shown] == names
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


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (["tokenizer", "train", "x", "-o", "DIR", "--vocab-size", "many"], "--vocab-size many"),
        (["tokenizer", "train", "x", "-o", "DIR", "--kind", "syllable"], "--kind syllable"),
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
