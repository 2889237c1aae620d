"""A small corpus in several scripts, and where OpenAI's vocabularies lie if the shared data is there."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path

from llmdata.document import Document, document_schema, to_batch
from llmdata.storage.parquet import write_table
from llmdata.storage.place import Place
from llmdata.storage.ranks import dump_ranks

SHARED_BPE = Path(os.environ.get("LLMDATA_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "bpe"

PHRASES = (
    "The quick brown fox jumps over the lazy dog",
    "it's what they'd've WANTED, isn't it?",
    "Der Fluß führt im Frühjahr größere Mengen Wasser",
    "Les élèves français étaient là, n'est-ce pas ?",
    "Съешь же ещё этих мягких французских булок",
    "日本語の文章もここにあります。改行も。",
    "한국어 문장도 있습니다",
    "هذا نص باللغة العربية",
    "यह हिन्दी का एक वाक्य है",
    "Ελληνικό κείμενο με τόνους",
    "def f(x):\n\treturn {x: [1, 22, 333, 4444]}  # 12345",
    "😀😃 👨‍👩‍👧 family   and    spaces \u00a0\u3000 end",
)


def texts(count: int, seed: int = 0) -> list[str]:
    """Texts of a few lines each, all different."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        lines = [" ".join(rng.choices(PHRASES, k=rng.randint(1, 4))) for _ in range(rng.randint(1, 8))]
        made.append(f"Document {number}.\n" + rng.choice(["\n", "\n\n", " "]).join(lines))
    return made


def documents(count: int, seed: int = 0) -> list[Document]:
    return [
        Document(text=text, id=f"doc-{number:04}", url=f"https://example.com/{number}")
        for number, text in enumerate(texts(count, seed))
    ]


def write_corpus(folder: Path, docs: list[Document], parts: int = 3) -> Place:
    """The documents as Parquet files in `folder`."""
    size = -(-len(docs) // parts)
    for number in range(parts):
        batch = to_batch(docs[number * size : (number + 1) * size])
        write_table(Place(f"{folder}/part-{number:05}.parquet"), [batch], document_schema())
    return Place(str(folder))


def shared_vocabularies(cache: Path) -> bool:
    """Put OpenAI's files into tiktoken's cache folder `cache`; False where the shared data is absent."""
    for name in ("r50k_base", "cl100k_base", "o200k_base"):
        file = SHARED_BPE / f"{name}.tiktoken"
        if not file.exists():
            return False
        address = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
        shutil.copyfile(file, cache / hashlib.sha1(address.encode()).hexdigest())
    return True


def pairs_vocabulary(file: Path, size: int = 256 + 65536) -> Place:
    """A `.tiktoken` file of `size` ranks: all bytes, and pairs of bytes, those of small values last."""
    pairs = [bytes([left, right]) for left in range(256) for right in range(256)]
    ordered = [*(bytes([byte]) for byte in range(256)), *pairs[::-1]]
    file.write_bytes(dump_ranks({token: rank for rank, token in enumerate(ordered[:size])}))
    return Place(str(file))
