"""Encodings beside one another: what `llmdata tokenizer stats` counts, and how it is shown."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmdata.cli.app import app
from llmdata.document import Document
from llmdata.engine.session import Session
from llmdata.errors import InputError
from llmdata.storage.encoding import load_encoding
from llmdata.storage.place import Place
from llmdata.tokenizer.compare import MOST_LANGUAGES, OTHERS, UNSAID, WORD, compare, read_sample
from tests.tokenizer.corpus import texts, write_corpus

runner = CliRunner()


@pytest.fixture
def languages(tmp_path: Path) -> Place:
    """200 documents in three languages, and one that says none."""
    names = ["en", "en", "de", "ja"]
    docs = [
        Document(text=text, id=f"{number}", language=names[number % 4])
        for number, text in enumerate(texts(200, seed=3))
    ]
    return write_corpus(tmp_path / "docs", [*docs, Document(text="Größe <|endoftext|>", id="last")])


@pytest.mark.parametrize("name", ["bpe", "own", "word", "char"])
def test_every_figure_counted_by_hand(languages: Place, tokenizers: dict[str, Place], name: str) -> None:
    encoding = load_encoding(tokenizers[name])
    sample = read_sample([languages], 10**9, None, Session())
    assert {key: len(part.texts) for key, part in sample.items()} == {"en": 100, "de": 50, "ja": 50, UNSAID: 1}
    found = compare(name, encoding, sample)
    everything = [text for part in sample.values() for text in part.texts]
    ids = [encoding.encode(text) for text in everything]
    flat = [token for row in ids for token in row]
    assert found.whole.tokens == len(flat)
    assert found.whole.bytes == sum(len(text.encode()) for text in everything)
    assert found.whole.characters == sum(map(len, everything))
    assert found.whole.documents == 201
    words = [word for text in everything for word in WORD.findall(text)]
    assert found.whole.words == len(words)
    assert found.whole.split == sum(len(encoding.encode(f" {word}")) > 1 for word in words)
    assert found.used == len(set(flat))
    assert found.once == sum(flat.count(token) == 1 for token in set(flat))
    seen = {encoding.token_bytes(token) for token in set(flat)}
    assert not seen & set(found.unused)
    assert len(found.longest[0]) == max(len(encoding.token_bytes(token)) for token in range(encoding.n_vocab - 2))
    for key, usage in found.languages.items():
        assert usage.tokens == sum(len(encoding.encode(text)) for text in sample[key].texts)
        assert usage.bytes_per_token == round(usage.bytes / usage.tokens, 4)
        assert usage.characters_per_token == round(usage.characters / usage.tokens, 4)
    assert sum(usage.tokens for usage in found.languages.values()) == found.whole.tokens


def test_a_sample_is_small_and_always_the_same(languages: Place) -> None:
    whole = read_sample([languages], 10**9, None, Session())
    size = sum(len(text.encode()) for part in whole.values() for text in part.texts)
    first, second = (read_sample([languages], size // 4, None, Session()) for _ in range(2))
    assert first == second
    taken = sum(len(text.encode()) for part in first.values() for text in part.texts)
    assert size / 10 < taken < size / 2


def test_rare_languages_are_put_together(tmp_path: Path) -> None:
    docs = [Document(text="text " * (99 - number), id=f"{number}", language=f"l{number:02}") for number in range(20)]
    sample = read_sample([write_corpus(tmp_path, docs)], 10**9, None, Session())
    assert list(sample) == [*(f"l{number:02}" for number in range(MOST_LANGUAGES)), OTHERS]
    assert len(sample[OTHERS].texts) == 20 - MOST_LANGUAGES


def test_no_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no text to measure"):
        read_sample([write_corpus(tmp_path, [Document(text="", id="a")], parts=1)], 1000, None, Session())


def test_tables_records_and_a_picture(languages: Place, tokenizers: dict[str, Place], tmp_path: Path) -> None:
    names = [tokenizers["bpe"].path, tokenizers["gpt2"].path]
    plot = tmp_path / "plot.svg"
    order = ["tokenizer", "stats", languages.path, "-e", names[0], "-e", names[1]]
    shown = runner.invoke(app, [*order, "--plot", str(plot)])
    assert shown.exit_code == 0, shown.output
    records = [json.loads(line) for line in runner.invoke(app, [*order, "--json"]).stdout.splitlines()]
    records = [record for record in records if "n_vocab" in record]
    assert [record["name"] for record in records] == names
    for record in records:
        assert f"{record['whole']['tokens']:,}" in shown.stdout
        assert f"{record['whole']['bytes_per_token']:.3f}" in shown.stdout
        assert f"{record['share_used']:.1%}" in shown.stdout
    drawing = ElementTree.fromstring(plot.read_text())
    labels = [text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert {"en", "de", "ja", UNSAID} <= set(labels)
    for record in records:
        for usage in record["languages"].values():
            assert f"{usage['bytes_per_token']:.2f}" in labels
    assert len(list(drawing.iter("{http://www.w3.org/2000/svg}rect"))) == 1 + 2 + 2 * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [(["-e", "gpt-17"], "gpt-17"), (["-e", "DIR", "--sample", "much"], "--sample: 'much' is not a size")],
)
def test_wrong_options(languages: Place, tokenizers: dict[str, Place], options: list[str], message: str) -> None:
    order = [tokenizers["bpe"].path if part == "DIR" else part for part in options]
    result = runner.invoke(app, ["tokenizer", "stats", languages.path, *order])
    assert result.exit_code in (1, 2)
    assert message in result.output
