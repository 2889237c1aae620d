"""A small clean folder of two passes, and a run around it, as the pipeline leaves them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from llmdata.audit.funnel import write_funnel
from llmdata.document import (
    Document,
    Rejection,
    document_schema,
    rejection_schema,
    rejections_to_batch,
    to_batch,
)
from llmdata.storage.manifest import Manifest, find, output_of, save_stamp
from llmdata.storage.parquet import write_table
from llmdata.storage.place import Place
from llmdata.storage.token_index import DocumentsFile, Shard, Split, TokenIndex
from llmdata.storage.token_shards import header

CHAIN = ("read", "extract", "language", "minhash", "pii")


def document(number: int, **changes: Any) -> Document:
    fields = {
        "id": f"doc-{number:02}",
        "url": f"http://example.org/{number}",
        "text": f"Text number {number}. " * 5,
        "language": "en",
    }
    return Document(**(fields | changes))


def write_documents(folder: Place, path: str, documents: Sequence[Document]) -> None:
    write_table(folder / path, [to_batch(documents)], document_schema())


def write_rejections(folder: Place, path: str, rejections: Sequence[Rejection]) -> None:
    write_table(folder / path, [rejections_to_batch(rejections)], rejection_schema())


def counts(*stages: tuple[str, int, dict[str, int]]) -> dict[str, Any]:
    return {
        stage: {"in": entered, "kept": entered - sum(rejected.values()), "changed": 0, "rejected": rejected}
        for stage, entered, rejected in stages
    }


def clean_folder(path: Path) -> Place:
    """Ten documents in two tasks: three rejected in the first pass, one in the second, six in `final`."""
    folder = Place.of(path)
    halves = [range(5), range(5, 10)]
    for number, half in enumerate(halves):
        docs = [document(item) for item in half]
        rejected = [Rejection(docs[0], "extract", "empty", "0 characters")]
        if number == 0:
            rejected.append(Rejection(docs[1], "language", "below_threshold", "fr 0.31"))
        kept = docs[len(rejected) :]
        part, turned_away = f"01-minhash/part-{number:05}.parquet", f"rejected/part-01-{number:05}.parquet"
        write_documents(folder, part, kept)
        write_rejections(folder, turned_away, rejected)
        Manifest(
            task=f"pass-01-{number:05}",
            fingerprint="a",
            outputs=[output_of(folder, part, len(kept)), output_of(folder, turned_away, len(rejected))],
            counts=counts(
                ("read", 5, {}),
                ("extract", 5, {"empty": 1}),
                ("language", 4, {"below_threshold": 1} if number == 0 else {}),
            ),
            cost={"seconds": 2.0},
        ).save(folder)
    kept = [document(item) for item in (2, 3, 4, 6, 7, 8)]
    write_documents(folder, "final/part-00000.parquet", kept)
    write_rejections(
        folder, "rejected/part-02-00000.parquet", [Rejection(document(9), "minhash", "duplicate", "of doc-08")]
    )
    Manifest(
        task="pass-02-00000",
        fingerprint="b",
        outputs=[
            output_of(folder, "final/part-00000.parquet", 6),
            output_of(folder, "rejected/part-02-00000.parquet", 1),
        ],
        counts=counts(("read", 7, {}), ("minhash", 7, {"duplicate": 1}), ("pii", 6, {})),
        cost={"seconds": 1.0},
    ).save(folder)
    write_funnel(folder, CHAIN)
    state = {"writing": {"rejected": "full", "keep": "passes"}}
    save_stamp(folder, "clean", {"state": state, "finished": True, "tasks": 3, "pruned": []})
    return folder


def archive(path: Path, url: str, html: bytes) -> tuple[int, int, str]:
    """A WARC file of one response; returns where the record lies, its length and its id."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=True)
        writer.write_record(writer.create_warcinfo_record(path.name, {"software": "test"}))
        offset = stream.tell()
        headers = StatusAndHeaders("200 OK", [("Content-Type", "text/html; charset=utf-8")], protocol="HTTP/1.1")
        record = writer.create_warc_record(url, "response", payload=io.BytesIO(html), http_headers=headers)
        writer.write_record(record)
        return offset, stream.tell() - offset, record.rec_headers.get_header("WARC-Record-ID").strip("<>")


def token_folder(folder: Place, documents: Sequence[Document]) -> None:
    """One shard of characters as tokens (end of text is 256), with its list of documents and the vocabulary."""
    ids: list[int] = []
    rows = []
    for doc in documents:
        rows.append((doc.id, doc.url, "train", "train-00000.bin", len(ids), 1 + len(doc.text)))
        ids += [256, *(ord(char) for char in doc.text)]
    dtype = np.dtype("<u2")
    (folder / "train-00000.bin").write_bytes(header(dtype, len(ids)) + np.array(ids, dtype).tobytes())
    names = ("id", "url", "split", "shard", "first_token", "length")
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    write_table(folder / "documents-00000.parquet", table.to_batches(), table.schema)
    shard = output_of(folder, "train-00000.bin", 0)
    listed = output_of(folder, "documents-00000.parquet", len(rows))
    TokenIndex(
        tokenizer_digest="d",
        vocab_size=257,
        eot=256,
        dtype="uint16",
        format="llmc",
        splits={
            "train": Split(len(ids), len(rows), len(ids), [Shard(shard.path, len(ids), shard.sha256, shard.bytes)]),
            "val": Split(),
        },
        documents=[DocumentsFile(listed.path, listed.rows, listed.sha256, listed.bytes)],
    ).save(folder)
    ranks = "".join(f"{base64.b64encode(bytes([byte])).decode()} {byte}\n" for byte in range(256))
    (folder / "tokenizer/vocab.tiktoken").write_bytes(ranks.encode())
    special = {"kind": "bpe", "pattern": r"[\s\S]", "special_tokens": {"<|endoftext|>": 256}}
    (folder / "tokenizer/tokenizer_config.json").write_json({"llmdata": special})
    (folder / "tokenizer/tokenizer.json").write_json({})


def model_folder(folder: Place, steps: int = 20) -> None:
    """Metrics, samples and the manifest of a finished training."""
    lines: list[dict[str, Any]] = [{"step": 0, "tokens": 0, "val_loss": 5.0}]
    lines += [{"step": step, "tokens": 64 * step, "loss": 5.0 - step / 10} for step in range(1, steps + 1)]
    lines[-1] |= {"val_loss": 3.25, "tokens_per_second": 1000.0}
    (folder / "metrics.jsonl").write_bytes("".join(json.dumps(line) + "\n" for line in lines).encode() + b'{"torn')
    samples = [{"step": 0, "prompt": "Once", "text": "<b>x\x1b[2J"}, {"step": steps, "prompt": "Once", "text": " upon"}]
    (folder / "samples.jsonl").write_bytes("".join(json.dumps(line) + "\n" for line in samples).encode())
    counts = {"train": {"parameters": 1_234_567, "steps": steps}}
    Manifest("train", "f", outputs=[output_of(folder, "samples.jsonl", 2)], counts=counts, cost={"seconds": 7.0}).save(
        folder
    )


def run_folder(path: Path) -> Place:
    """A finished run of all stages but the tokenizer's training."""
    run = Place.of(path)
    (run / "recipe.yaml").write_bytes(b"name: Small & <short>\ncrawl: {}\nclean: {}\ntokenize: {}\ntrain: {}\n")
    url = "http://example.org/2"
    offset, length, record = archive(path / "crawl/a.warc.gz", url, b"<p>Page two</p>")
    (run / "crawl/crawl.json").write_json({"ended": "done", "pages": 1, "warcs": ["a.warc.gz"]})
    clean = clean_folder(path / "clean")
    place = {"file_path": "crawl/a.warc.gz", "warc_offset": offset, "warc_length": length, "content_digest": record}
    kept = [document(item, **(place if item == 2 else {})) for item in (2, 3, 4, 6, 7, 8)]
    write_documents(clean, "final/part-00000.parquet", kept)
    manifest = find(clean, "pass-02-00000")
    assert manifest is not None
    manifest.outputs[0] = output_of(clean, "final/part-00000.parquet", 6)
    manifest.save(clean)
    token_folder(run / "tokens", kept)
    model_folder(run / "model")
    return run
