"""Encodings: all text is text, gigatoken agrees with tiktoken, and what is encoded decodes to itself."""

from __future__ import annotations

import base64
import itertools
import json
import random
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdata.errors import ConfigError, InputError
from llmdata.storage.encoding import Encoding, load_encoding
from llmdata.storage.encoding_kinds import BpeEncoding, JsonEncoding
from llmdata.storage.encoding_names import PATTERNS
from llmdata.storage.place import Place
from llmdata.storage.ranks import dump_ranks, parse_ranks
from tests.tokenizer.corpus import PHRASES, texts

LOSSLESS = ("bpe", "gpt2", "o200k", "own")
HARD = (
    "<|endoftext|>",
    "before <|endoftext|><|endoftext|> after",
    "",
    " ",
    "\n \n\t\r\n  ",
    "\0\0a\0",
    "a" * 3000,
    " " * 3000,
    "😀" * 500,
    "e\u0301\u0301\u0301",
    "\ufeff\u200b\u2028\x85\x0b\x1c\x1f",
    "trailing   ",
    "trailing\n  ",
    "ǅ ʰ ः ſ 'ſ K ½ ٣ 12345678",
    "it's IT'S it’s 'LL we'Ll",
    "a\u088fa \u0c5c1 new in Unicode 17 \U0001e6c0",
)


def bulk(encoding: Encoding, text: str) -> list[int]:
    _, found, _ = batch(encoding, ["head", text, "tail"])
    return found


def batch(encoding: Encoding, texts: list[str]) -> list[list[int]]:
    """The ids of each text, as a column and as a list, which have to agree."""
    ids, offsets = encoding.encode_arrow(pa.array(texts, pa.large_string()))
    same = encoding.encode_batch([text.encode() for text in texts])
    assert np.array_equal(ids, same[0])
    assert np.array_equal(offsets, same[1])
    assert offsets[0] == 0
    assert offsets[-1] == len(ids)
    return [ids[start:end].tolist() for start, end in itertools.pairwise(offsets)]


@pytest.mark.parametrize("name", [*LOSSLESS, "word", "char"])
def test_text_that_spells_a_special_token_is_ordinary_text(tokenizers: dict[str, Place], name: str) -> None:
    encoding = load_encoding(tokenizers[name])
    for ids in (encoding.encode("a <|endoftext|> b<|endoftext|>"), bulk(encoding, "a <|endoftext|> b<|endoftext|>")):
        assert encoding.eot not in ids
        if name in LOSSLESS:
            assert encoding.decode(ids) == "a <|endoftext|> b<|endoftext|>"


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("text", HARD)
def test_one_text_and_many_agree_and_come_back(tokenizers: dict[str, Place], name: str, text: str) -> None:
    encoding = load_encoding(tokenizers[name])
    ids = encoding.encode(text)
    assert bulk(encoding, text) == ids
    assert encoding.decode(ids) == text
    assert encoding.decode_bytes(ids) == text.encode()


@pytest.mark.parametrize("name", LOSSLESS)
def test_any_text_comes_back(tokenizers: dict[str, Place], name: str) -> None:
    encoding = load_encoding(tokenizers[name])

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.sampled_from([*PHRASES, *HARD]) | st.text(max_size=30), max_size=4).map("".join))
    def check(text: str) -> None:
        ids = encoding.encode(text)
        assert encoding.decode(ids) == text
        assert bulk(encoding, text) == ids

    check()


@pytest.mark.parametrize("name", ["bpe", "gpt2", "o200k"])
def test_ids_are_the_same_when_the_cache_of_words_goes(
    tokenizers: dict[str, Place], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    encoding = load_encoding(tokenizers[name])
    assert isinstance(encoding, BpeEncoding)
    columns = [pa.array(texts(5, seed), pa.large_string()) for seed in range(6)]
    before, loaded = [encoding.encode_arrow(column)[0].tolist() for column in columns], encoding.bulk
    monkeypatch.setattr("llmdata.storage.encoding_kinds.CACHE_BYTES", -(1 << 60))
    assert [encoding.encode_arrow(column)[0].tolist() for column in columns] == before
    assert encoding.bulk is not loaded


def test_lone_surrogates_are_replaced(tokenizers: dict[str, Place]) -> None:
    for place in tokenizers.values():
        encoding = load_encoding(place)
        assert "\ud800" not in encoding.decode(encoding.encode("a\ud800b"))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_gigatoken_agrees_with_tiktoken_on_every_character(pattern: str) -> None:
    # Merges across every class of neighbour, so that a character classed differently shows in the ids.
    ranks = {bytes([byte]): byte for byte in range(256)}
    for byte in range(128, 256):
        for other in b"a1! \n'AbS":
            for pair in (bytes([byte, other]), bytes([other, byte])):
                ranks.setdefault(pair, len(ranks))
    encoding = BpeEncoding(ranks, pattern, {"<|endoftext|>": len(ranks)})
    points = [point for point in (*range(0x33500), *range(0xE0000, 0xE0200)) if not 0xD800 <= point < 0xE000]
    blocks = [
        "\n".join(f"a{chr(point)}a1{chr(point)}1!{chr(point)} {chr(point)}" for point in points[at : at + 64])
        for at in range(0, len(points), 64)
    ]
    for at in range(0, len(blocks), 20):
        for block, ids in zip(blocks[at : at + 20], batch(encoding, blocks[at : at + 20]), strict=True):
            assert ids == encoding.encode(block), block


def test_random_mixtures_agree(tokenizers: dict[str, Place]) -> None:
    rng = random.Random(7)
    parts = [*HARD[4:6], *"aB1 .\n\t'", "'s", "'LL", "  ", "\r\n", "日本", "й", "😀", "...", "//", "½", "\u3000", "<|"]
    mixed = ["".join(rng.choices(parts, k=rng.randint(0, 12))) for _ in range(5000)]
    for name in LOSSLESS:
        encoding = load_encoding(tokenizers[name])
        for text, ids in zip(mixed, batch(encoding, mixed), strict=True):
            assert ids == encoding.encode(text), (name, text)


@pytest.mark.usefixtures("openai")
@pytest.mark.parametrize("name", ["r50k_base", "cl100k_base", "o200k_base"])
def test_openai_encodings_are_tiktokens_own(name: str) -> None:
    import tiktoken

    ours, theirs = load_encoding(name), tiktoken.get_encoding(name)
    assert (ours.n_vocab, ours.eot, ours.special_tokens) == (theirs.n_vocab, theirs.eot_token, theirs._special_tokens)
    for text in [*HARD, *PHRASES, *texts(50)]:
        expected = theirs.encode_ordinary(text)
        assert ours.encode(text) == expected
        assert bulk(ours, text) == expected


@pytest.mark.usefixtures("openai")
def test_names_and_files_of_one_vocabulary_are_the_same_encoding(tmp_path: Path) -> None:
    gpt2, by_file = load_encoding("gpt2"), tmp_path / "renamed.tiktoken"
    assert isinstance(gpt2, BpeEncoding)
    by_file.write_bytes(dump_ranks(gpt2.ranks))
    assert load_encoding(str(by_file)).digest == gpt2.digest == load_encoding("r50k_base").digest
    assert load_encoding("gpt-4o").n_vocab == load_encoding("o200k_base").n_vocab


def test_offline_the_error_says_what_to_fetch_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(InputError) as caught:
        load_encoding("cl100k_base")
    for part in (
        "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        str(tmp_path / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"),
        "TIKTOKEN_CACHE_DIR",
    ):
        assert part in str(caught.value)
    (tmp_path / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"download .* again"):
        load_encoding("cl100k_base")


def test_a_file_of_ranks_needs_its_pattern(tokenizers: dict[str, Place]) -> None:
    file = str(tokenizers["gpt2"] / "vocab.tiktoken")
    with pytest.raises(ConfigError, match="--pattern"):
        load_encoding(file)
    with pytest.raises(ConfigError, match="gpt4"):
        load_encoding(file, "gpt4")
    expected = load_encoding(tokenizers["gpt2"])
    for pattern in ("gpt2", PATTERNS["gpt2"]):
        assert load_encoding(file, pattern).digest == expected.digest


@pytest.mark.parametrize("blank", [" ", "\n", "\u3000"])
def test_a_million_blanks(tokenizers: dict[str, Place], blank: str) -> None:
    # The regular expressions' lookahead overflows its stack on such runs, in tiktoken and in rustbpe.
    text = "a" + blank * 1_100_000 + "b\u088f"
    for name in ("bpe", "own"):
        encoding = load_encoding(tokenizers[name])
        ids = encoding.encode(text)
        assert encoding.decode(ids) == text
        assert bulk(encoding, text) == ids


def test_a_pattern_that_overflows_is_an_error() -> None:
    ranks = {bytes([byte]): byte for byte in range(256)}
    encoding = BpeEncoding(ranks, r"(?:a(?!c)|b(?!c))+|[\s\S]", {"<|endoftext|>": 256})
    with pytest.raises(InputError, match="backtracks too far"):
        encoding.encode("ab" * 2_000_000)


@given(st.dictionaries(st.binary(min_size=2, max_size=12), st.none(), max_size=30))
def test_ranks_round_trip(extra: dict[bytes, None]) -> None:
    ranks = {bytes([byte]): byte for byte in range(256)}
    ranks |= {token: 256 + number for number, token in enumerate(extra)}
    assert parse_ranks(dump_ranks(ranks), "x") == ranks


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"not base64 !\n", "x:1"),
        (b"YQ== 0\nYQ==\n", "x:2"),
        (b"YQ== 0\n", "255 of the 256 bytes"),
        (b"\x00\xff", "x:1"),
    ],
)
def test_damaged_ranks_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_ranks(data, "x")


def foreign(folder: Path, eos: str | None) -> Path:
    """Somebody else's byte-level tokenizer.json, with a template that adds tokens and a special token of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    names = ["<s>", "<|done|>"]
    model.train_from_iterator(
        texts(40), trainers.BpeTrainer(vocab_size=500, special_tokens=names, initial_alphabet=alphabet)
    )
    model.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    folder.mkdir()
    model.save(str(folder / "tokenizer.json"))
    if eos:
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": eos}}))
    return folder


def test_a_foreign_tokenizer_json(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "model", "<|done|>")
    for source in (str(folder), str(folder / "tokenizer.json")):
        encoding = load_encoding(source)
        assert isinstance(encoding, JsonEncoding)
        assert encoding.eot == 1
        for text in [*PHRASES, "a <|done|><s> b", "\0"]:
            ids = encoding.encode(text)
            assert not {0, 1} & set(ids)
            assert encoding.decode(ids) == text
            assert bulk(encoding, text) == ids
            assert b"".join(encoding.token_bytes(token) for token in ids) == text.encode()


def test_a_tokenizer_without_end_of_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="eos_token"):
        load_encoding(str(foreign(tmp_path / "model", None)))


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00\xff", b'{"model": 1}'])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    for source in (tmp_path, tmp_path / "tokenizer.json"):
        with pytest.raises(InputError, match=re.escape(str(tmp_path / "tokenizer.json"))):
            load_encoding(str(source))


def test_unknown_names_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gpt2, r50k_base"):
        load_encoding("gpt5_base")
    with pytest.raises(InputError, match="tokenizer train"):
        load_encoding(Place(str(tmp_path)))


def test_ids_outside_the_vocabulary(tokenizers: dict[str, Place]) -> None:
    for place in tokenizers.values():
        encoding = load_encoding(place)
        assert encoding.token_bytes(encoding.eot) == b"<|endoftext|>"
        for token in (-1, encoding.n_vocab):
            with pytest.raises(ValueError, match="vocabulary"):
                encoding.token_bytes(token)


def test_word_and_character_vocabularies_mark_what_they_lack(tokenizers: dict[str, Place]) -> None:
    for kind in ("word", "char"):
        encoding = load_encoding(tokenizers[kind])
        assert encoding.kind == kind
        assert "<|unk|>" in encoding.decode(encoding.encode("ꙮ"))


def test_digests_tell_encodings_apart(tokenizers: dict[str, Place]) -> None:
    digests = {load_encoding(place).digest for place in tokenizers.values()}
    assert len(digests) == len(tokenizers)


def test_base64_of_every_byte_survives() -> None:
    ranks = {bytes([byte]): 255 - byte for byte in range(256)}
    lines = dump_ranks(ranks).splitlines()
    assert base64.b64decode(lines[0].split()[0]) == b"\xff"
    assert parse_ranks(dump_ranks(ranks), "x") == ranks
