"""A small folder of tokens: characters of a few sentences that a tiny model can learn."""

from __future__ import annotations

import numpy as np

from llmdata.storage import token_shards
from llmdata.storage.encoding import Encoding
from llmdata.storage.encoding_kinds import CharEncoding
from llmdata.storage.manifest import sha256_of
from llmdata.storage.place import Place
from llmdata.storage.token_index import Shard, Split, TokenIndex
from llmdata.tokenizer.files import save_encoding
from llmdata.train import TrainConfig

ANIMALS = ("cat", "dog", "hen", "cow", "pig", "owl")
SENTENCES = [f"the {a} sees the {b} and the {b} sees the {a} again." for a in ANIMALS for b in ANIMALS]


def write_shard(folder: Place, name: str, tokens: list[int]) -> Shard:
    dtype = token_shards.dtype_for(100)
    path = folder / name
    path.write_bytes(token_shards.header(dtype, len(tokens)) + np.array(tokens, dtype=dtype).tobytes())
    return Shard(name, len(tokens), sha256_of(path), path.size())


def write_tokens(folder: Place, documents: list[str]) -> TokenIndex:
    """A tokens folder with two training shards and a validation shard, as `llmdata tokenize` writes it."""
    characters = sorted(set("".join(documents)))
    special = {"<|endoftext|>": len(characters), "<|unk|>": len(characters) + 1}
    encoding: Encoding = CharEncoding(characters, special)
    save_encoding(encoding, folder / "tokenizer", {})
    parts = {"train": documents[: len(documents) * 9 // 10], "val": documents[len(documents) * 9 // 10 :]}
    splits = {}
    for split, texts in parts.items():
        ids = [token for text in texts for token in (encoding.eot, *encoding.encode(text))]
        cut = len(ids) // 3 if split == "train" else len(ids)
        shards = [
            write_shard(folder, f"{split}-{i:05d}.bin", part) for i, part in enumerate((ids[:cut], ids[cut:])) if part
        ]
        splits[split] = Split(len(ids), len(texts), sum(len(text.encode()) for text in texts), shards)
    index = TokenIndex(encoding.digest, encoding.n_vocab, encoding.eot, "uint16", "llmc", splits)
    index.save(folder)
    return index


def tiny(**changes: object) -> TrainConfig:
    """Settings of a run of a second: 40 steps of a model of two layers."""
    settings: dict[str, object] = {
        "model": {"layers": 2, "heads": 2, "width": 32, "context": 32},
        "data": {"batch_tokens": 256},
        "loop": {"steps": 40},
        "optim": {"lr": 0.01},
        "eval_every": 10,
        "eval_tokens": 512,
        "sample_every": 20,
        "sample_tokens": 12,
        "checkpoint_every": 10,
        "threads": 1,
    }
    for key, value in changes.items():
        before = settings.get(key)
        settings[key] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return TrainConfig.model_validate(settings)
