"""Training: the files load elsewhere and mean the same there, and the same text gives the same vocabulary."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmdata.engine.session import Session, Stop
from llmdata.errors import ChangedError, ConfigError, InputError, StoppedEarly
from llmdata.storage.encoding import load_encoding
from llmdata.storage.encoding_kinds import BpeEncoding
from llmdata.storage.manifest import manifests, sha256_of
from llmdata.storage.place import Place
from llmdata.storage.ranks import byte_alphabet
from llmdata.tokenizer import TokenizerConfig, train_tokenizer
from llmdata.tokenizer.files import merges_of
from tests.tokenizer.corpus import PHRASES, SHARED_BPE, documents, texts, write_corpus

FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.tiktoken", "stats.json")
SAMPLES = (*PHRASES, "\0 \n\n  x\t", " it's 12345 <|user|> ", *texts(20, seed=5))


def train(corpus: Place, out: Path, **settings: Any) -> Any:
    rerun = settings.pop("rerun", False)
    return train_tokenizer([corpus], Place(str(out)), TokenizerConfig(**settings), Session(), rerun=rerun)


@pytest.mark.parametrize("name", ["bpe", "gpt2", "o200k", "own"])
def test_the_files_mean_the_same_to_their_own_libraries(tokenizers: dict[str, Place], name: str) -> None:
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe
    from tokenizers import Tokenizer

    folder = tokenizers[name].path
    ours = load_encoding(Place(folder))
    config = json.loads(Path(folder, "tokenizer_config.json").read_text())["llmdata"]
    theirs = Tokenizer.from_file(f"{folder}/tokenizer.json")
    theirs.encode_special_tokens = True
    ranks = load_tiktoken_bpe(f"{folder}/vocab.tiktoken")
    openai = tiktoken.Encoding("x", pat_str=config["pattern"], mergeable_ranks=ranks, special_tokens={})
    assert theirs.get_vocab_size() == ours.n_vocab == config["n_vocab"]
    for text in SAMPLES:
        ids = ours.encode(text)
        assert theirs.encode(text, add_special_tokens=False).ids == ids
        assert openai.encode_ordinary(text) == ids
        assert theirs.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("name", ["bpe", "word", "char"])
def test_transformers_loads_it(tokenizers: dict[str, Place], name: str) -> None:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    from transformers import AutoTokenizer

    ours, theirs = load_encoding(tokenizers[name]), AutoTokenizer.from_pretrained(tokenizers[name].path)
    assert theirs.eos_token_id == theirs.bos_token_id == ours.eot
    assert len(theirs) == ours.n_vocab
    for text in PHRASES:
        assert theirs.encode(text, add_special_tokens=False) == ours.encode(text)
        assert theirs.decode(ours.encode(text)) == ours.decode(ours.encode(text))


def test_special_tokens_are_last_and_the_first_ends_text(tokenizers: dict[str, Place]) -> None:
    encoding = load_encoding(tokenizers["bpe"])
    assert encoding.n_vocab == 900
    assert encoding.special_tokens == {"<|endoftext|>": 898, "<|user|>": 899}
    assert encoding.eot == 898


def test_files_and_order_of_the_corpus_do_not_matter(corpus: Place, tmp_path: Path) -> None:
    train(corpus, tmp_path / "a", vocab_size=700)
    other = write_corpus(tmp_path / "other", documents(300)[::-1], parts=7)
    train(other, tmp_path / "b", vocab_size=700)
    train(corpus, tmp_path / "c", vocab_size=700)
    for name in ("tokenizer.json", "vocab.tiktoken"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()


def test_sample_bounds_the_text(corpus: Place, tmp_path: Path) -> None:
    whole = train(corpus, tmp_path / "whole", vocab_size=400).stats["corpus"]
    some = train(corpus, tmp_path / "some", vocab_size=400, sample="20KB").stats["corpus"]
    assert whole["documents"] == 300
    assert whole["bytes"] > 60_000
    assert 10_000 < some["bytes"] <= 20_000
    numbers = [int(line.split()[1][:-1]) for line in _sampled(corpus, "20KB")]
    assert max(numbers) > 200, "the sample is spread over the corpus"


def test_files_of_which_nothing_is_in_the_sample(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", documents(60), parts=60)
    found = train(corpus, tmp_path / "some", vocab_size=300, sample="40KB").stats["corpus"]["documents"]
    assert 0 < found < 50


def _sampled(corpus: Place, size: str) -> list[str]:
    from llmdata.storage.inputs import plan_pieces
    from llmdata.tokenizer.train import Corpus

    return list(Corpus(plan_pieces([corpus]), TokenizerConfig(sample=size), Session()).texts())


def test_stats_count_what_they_say(tokenizers: dict[str, Place]) -> None:
    stats = json.loads((tokenizers["bpe"] / "stats.json").read_bytes())
    encoding, sample = load_encoding(tokenizers["bpe"]), stats["sample"]
    everything = [text.encode() for text in texts(300)]
    ids, _ = encoding.encode_batch(everything)
    assert sample["documents"] == 300
    assert sample["bytes"] == sum(map(len, everything))
    assert sample["tokens"] == len(ids)
    assert sample["bytes_per_token"] == round(sample["bytes"] / len(ids), 4)
    assert sample["vocabulary_used"] == round(len(set(ids.tolist())) / 900, 4)


def test_a_finished_tokenizer_is_left_alone(corpus: Place, tmp_path: Path) -> None:
    first = train(corpus, tmp_path / "t", vocab_size=400)
    stamps = {name: (tmp_path / "t" / name).stat().st_mtime_ns for name in FILES}
    again = train(corpus, tmp_path / "t", vocab_size=400)
    assert (first.fresh, again.fresh) == (True, False)
    assert (again.n_vocab, again.digest, again.stats) == (first.n_vocab, first.digest, first.stats)
    assert stamps == {name: (tmp_path / "t" / name).stat().st_mtime_ns for name in FILES}


def test_changed_settings_or_inputs_need_rerun(corpus: Place, tmp_path: Path) -> None:
    train(corpus, tmp_path / "t", vocab_size=400)
    with pytest.raises(ChangedError, match=r"vocab_size was 400, is 500.*--rerun"):
        train(corpus, tmp_path / "t", vocab_size=500)
    with pytest.raises(ChangedError, match="inputs"):
        train(write_corpus(tmp_path / "other", documents(20)), tmp_path / "t", vocab_size=400)
    assert train(corpus, tmp_path / "t", vocab_size=500, rerun=True).n_vocab == 500


def test_the_manifest_describes_the_files(tokenizers: dict[str, Place]) -> None:
    (found,) = manifests(tokenizers["bpe"])
    assert {output.path for output in found.outputs} == set(FILES)
    for output in found.outputs:
        assert sha256_of(tokenizers["bpe"] / output.path) == output.sha256


def test_stopping_leaves_no_tokenizer_and_the_next_run_makes_it(corpus: Place, tmp_path: Path) -> None:
    place = Place(str(tmp_path / "t"))
    with pytest.raises(StoppedEarly):
        train_tokenizer([corpus], place, TokenizerConfig(vocab_size=400), Session(stop=Stop(deadline=0)))
    assert not (place / "tokenizer.json").exists()
    assert train(corpus, tmp_path / "t", vocab_size=400).fresh


@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_a_pattern_that_loses_text_is_refused(corpus: Place, tmp_path: Path, kind: str) -> None:
    if kind == "bpe":
        with pytest.raises(ConfigError, match="does not fit all text"):
            train(corpus, tmp_path / "t", kind=kind, vocab_size=400, pattern="[a-z]+")
    with pytest.raises(ConfigError, match="not a regular expression"):
        train(corpus, tmp_path / "t2", kind=kind, vocab_size=400, pattern="[a-z")
    with pytest.raises(ConfigError, match="gpt2, cl100k, o200k"):
        train(corpus, tmp_path / "t3", kind=kind, vocab_size=400, pattern="gpt9")


def test_a_small_corpus_gives_a_smaller_vocabulary(tmp_path: Path) -> None:
    small = write_corpus(tmp_path / "corpus", documents(2), parts=1)
    result = train(small, tmp_path / "t", vocab_size=50_000)
    assert 257 < result.n_vocab < 5_000
    assert load_encoding(Place(str(tmp_path / "t"))).n_vocab == result.n_vocab


def test_blanks_without_end(tmp_path: Path) -> None:
    docs = documents(3)
    docs[1].text = "a" + " " * 1_500_000 + "b"
    assert train(write_corpus(tmp_path / "corpus", docs, parts=1), tmp_path / "t", vocab_size=300).n_vocab == 300


def test_no_text_is_an_error(tmp_path: Path) -> None:
    empty = documents(3)
    for doc in empty:
        doc.text = ""
    with pytest.raises(InputError, match="no text"):
        train(write_corpus(tmp_path / "corpus", empty, parts=1), tmp_path / "t")


def test_other_layouts_and_unreadable_rows(tmp_path: Path) -> None:
    lines = [json.dumps({"content": text}) for text in texts(20)]
    (tmp_path / "data.jsonl").write_text("\n".join([*lines, "{broken", '{"content": 5}']) + "\n")
    result = train(Place(str(tmp_path / "data.jsonl")), tmp_path / "t", vocab_size=400, text_column="content")
    assert result.stats["corpus"]["documents"] == 20
    assert result.stats["corpus"]["unreadable"] == 2


def test_words_and_characters_by_frequency(tmp_path: Path) -> None:
    docs = documents(3)
    for doc, text in zip(docs, ("aa b b", "b ccc", "aa b"), strict=True):
        doc.text = text
    corpus = write_corpus(tmp_path / "corpus", docs, parts=1)
    train(corpus, tmp_path / "w", kind="word", vocab_size=4)
    words = load_encoding(Place(str(tmp_path / "w")))
    assert words.special_tokens == {"<|endoftext|>": 2, "<|unk|>": 3}
    assert words.encode("aa b zzz") == [1, 0, 3]
    assert words.decode([1, 0]) == "aa b"
    train(corpus, tmp_path / "c", kind="char", vocab_size=100)
    characters = load_encoding(Place(str(tmp_path / "c")))
    assert characters.encode("abc ?") == [1, 2, 3, 0, 5]
    assert characters.decode([1, 2, 3, 0, 5]) == "abc <|unk|>"


def test_an_existing_tokenizer_by_path(tokenizers: dict[str, Place], tmp_path: Path) -> None:
    result = train_tokenizer([], Place(str(tmp_path / "t")), TokenizerConfig(path=tokenizers["gpt2"].path), Session())
    assert result.digest == load_encoding(tokenizers["gpt2"]).digest == load_encoding(Place(str(tmp_path / "t"))).digest


@pytest.mark.usefixtures("openai")
def test_an_existing_tokenizer_by_name(tmp_path: Path) -> None:
    train_tokenizer([], Place(str(tmp_path / "t")), TokenizerConfig(name="gpt2"), Session())
    encoding = load_encoding(Place(str(tmp_path / "t")))
    assert isinstance(encoding, BpeEncoding)
    assert encoding.digest == load_encoding("gpt2").digest
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(tmp_path / "t" / "tokenizer.json"))
    theirs.encode_special_tokens = True
    assert theirs.token_to_id("<|endoftext|>") == 50256
    for text in SAMPLES:
        assert theirs.encode(text).ids == encoding.encode(text)
    published = SHARED_BPE / "vocab.bpe"
    letters = {byte: letter for letter, byte in byte_alphabet().items()}
    merges = [" ".join("".join(letters[byte] for byte in half) for half in pair) for pair in merges_of(encoding.ranks)]
    assert merges == published.read_text(encoding="utf-8").splitlines()[1:], "the merges that OpenAI published"


@pytest.mark.parametrize(
    "settings",
    [
        {"vocab_size": 256},
        {"vocab_size": 300, "special_tokens": [str(number) for number in range(45)]},
        {"special_tokens": []},
        {"special_tokens": ["<|a|>", "<|a|>"]},
        {"special_tokens": [""]},
        {"kind": "syllable"},
        {"name": "gpt2", "path": "x"},
        {"sample": "lots"},
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TokenizerConfig(**settings)
