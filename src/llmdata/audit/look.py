"""What a path holds, in figures and in a readable sample."""

from __future__ import annotations

from typing import Any

from llmdata.audit.folders import Source, look_at, stages_of
from llmdata.audit.funnel import read_funnel
from llmdata.audit.status import stage_status
from llmdata.audit.tables import Tables, parquet_facts, parquet_rows, warc_text
from llmdata.audit.training import last_metrics
from llmdata.errors import InputError
from llmdata.storage.place import Place
from llmdata.storage.token_index import INDEX, TOKENIZER, load_index
from llmdata.storage.token_shards import HEADER_BYTES, read_header

SNIPPET = 200
"""Characters of an example's text."""


def describe(source: Source) -> dict[str, Any]:
    """Figures and schema of `source`, by name; for a run, those of its stages under `stages`."""
    facts: dict[str, Any] = {"path": str(source.place), "kind": source.kind}
    match source.kind:
        case "run":
            facts["stages"] = {kind: _describe_stage(folder) for kind, folder in stages_of(source.place)}
        case "experiment":
            base = f"{source.place.path.rstrip('/')}/"
            folders = stages_of(source.place)
            facts["stages"] = {folder.path.removeprefix(base): _describe_stage(folder) for _, folder in folders}
        case "shard":
            facts |= _shard_facts(source.files)
        case "tokens":
            facts |= _token_facts(source.place)
        case "tokenizer" | "model":
            facts["state"] = stage_status(source.kind, source.place).state
            facts |= _folder_facts(source.place)
        case "crawl" | "warc":
            facts |= _warc_facts(source)
        case "clean":
            funnel = read_funnel(source.place)
            facts["state"] = stage_status("clean", source.place).state
            facts |= parquet_facts(source.files)
            facts["rejected"] = sum(parquet_rows(file) for file in source.rejected)
            if funnel is not None:
                facts |= {"read": funnel["in"], "kept": funnel["kept"]}
        case "parquet":
            facts |= parquet_facts(source.files)
        case "jsonl":
            facts["files"] = len(source.files)
            facts["rows"] = Tables(source).records("SELECT count(*) AS rows FROM docs")[0]["rows"]
            facts["bytes"] = sum(file.size() for file in source.files)
    if source.files and source.kind in ("parquet", "jsonl", "clean", "warc", "crawl", "tokens"):
        facts["columns"] = dict(Tables(source).columns())
    return facts


def sample(source: Source, count: int, where: str | None = None) -> list[dict[str, Any]]:
    """`count` rows of the documents: spread evenly over all files, or the first that satisfy the SQL condition `where`.

    Of token shards: the first tokens of each, as text where the tokenizer lies beside them.
    """
    if count == 0:
        return []
    if source.kind == "shard":
        return [_look_into(file) for file in source.files[:count]]
    if not source.files:
        return []
    tables = Tables(source)
    if where is not None:
        return tables.records(f"SELECT * FROM docs WHERE ({where}\n) LIMIT {count}")
    if source.kind == "jsonl":
        return tables.records(f"SELECT * FROM docs LIMIT {count}")
    if source.kind in ("warc", "crawl"):
        records = tables.records("SELECT * FROM docs WHERE type IN ('response', 'resource', 'conversion')")
        spread = [
            records[len(records) * number // min(count, len(records))] for number in range(min(count, len(records)))
        ]
        places = {str(file): file for file in source.files}
        return [row | {"text": warc_text(places[row["file"]], row["offset"], 10 * SNIPPET)} for row in spread]
    rows: list[dict[str, Any]] = []
    sizes = [parquet_rows(file) for file in source.files]
    total = sum(sizes)
    for number in range(min(count, total)):
        row = total * number // min(count, total)
        file = 0
        while row >= sizes[file]:
            row -= sizes[file]
            file += 1
        one = Source(source.place, "parquet", [source.files[file]])
        rows += Tables(one).records(f"SELECT * FROM docs LIMIT 1 OFFSET {row}")
    return rows


def rejections(source: Source) -> list[dict[str, Any]]:
    """For each stage and reason: documents, share of all that were read, and an example's url, detail and text.

    In the order of the chain, the commonest reason of a stage first. Raises InputError where nothing was rejected by
    stages because `source` is something else.
    """
    folder = source.place / "clean" if source.kind == "run" else source.place
    funnel = read_funnel(folder) if source.kind in ("run", "clean") else None
    examples: dict[tuple[str, str], dict[str, Any]] = {}
    if source.rejected or source.kind == "parquet":
        table = "rejected" if source.rejected else "docs"
        if not {"stage", "reason", "detail"} <= dict(Tables(source).columns(table)).keys():
            raise InputError(f"{source.place}: --rejected reads a run or a clean folder, these are other documents")
        # The example with the smallest id, so that the same run shows the same examples.
        found = Tables(source).records(
            f"""SELECT stage, reason, count(*) AS documents, min(id) AS id, arg_min(url, id) AS url,
                arg_min(detail, id) AS detail, left(arg_min(text, id), {SNIPPET}) AS text
                FROM {table} GROUP BY stage, reason ORDER BY stage, reason"""
        )
        examples = {(row["stage"], row["reason"]): row for row in found}
    if funnel is None:
        if not examples and source.kind not in ("run", "clean"):
            raise InputError(f"{source.place}: --rejected reads a run or a clean folder, this is {source.kind}")
        total = sum(row["documents"] for row in examples.values())
        rows = sorted(examples.values(), key=lambda row: (row["stage"], -row["documents"], row["reason"]))
        return [{**row, "share": round(row["documents"] / total, 6)} for row in rows]
    rows = []
    for stage in funnel["stages"]:
        for reason, count in sorted(stage["rejected"].items(), key=lambda item: (-item[1], item[0])):
            example = examples.get((stage["stage"], reason), {"id": None, "url": None, "detail": None, "text": None})
            share = round(count / funnel["in"], 6) if funnel["in"] else 0.0
            rows.append({**example, "stage": stage["stage"], "reason": reason, "documents": count, "share": share})
    return rows


def printable(text: str) -> str:
    """`text` without what would take over a terminal: control characters and overrides of writing direction."""
    return "".join(
        char
        if (
            char >= " "
            and not "\x7f" <= char <= "\x9f"
            and not "\u202a" <= char <= "\u202e"
            and not "\u2066" <= char <= "\u2069"
        )
        or char in "\n\t"
        else "\ufffd"
        for char in text
    )


def _describe_stage(folder: Place) -> dict[str, Any]:
    try:
        return describe(look_at(str(folder)))
    except InputError as error:
        return {"path": str(folder), "problem": str(error)}


def _shard_facts(files: list[Place]) -> dict[str, Any]:
    heads = [read_header(file) for file in files]
    return {
        "files": len(files),
        "tokens": sum(head.tokens for head in heads),
        "bytes": sum(file.size() for file in files),
        "dtype": ", ".join(sorted({head.dtype.name for head in heads})),
    }


def _token_facts(folder: Place) -> dict[str, Any]:
    if not (folder / INDEX).exists():
        return {"state": stage_status("tokens", folder).state}
    index = load_index(folder)
    splits = {
        name: {
            "tokens": split.tokens,
            "documents": split.documents,
            "shards": len(split.shards),
            "bytes_per_token": round(split.bytes / split.tokens, 3) if split.tokens else 0.0,
        }
        for name, split in index.splits.items()
    }
    return {
        "state": "done",
        "vocab_size": index.vocab_size,
        "dtype": index.dtype,
        "format": index.format,
        "tokenizer": index.tokenizer_digest,
        **splits,
    }


def _warc_facts(source: Source) -> dict[str, Any]:
    facts: dict[str, Any] = {"files": len(source.files), "bytes": sum(file.size() for file in source.files)}
    if source.files:
        rows = Tables(source).records("SELECT type, count(*) AS records FROM docs GROUP BY type ORDER BY type")
        facts["records"] = sum(row["records"] for row in rows)
        facts["types"] = {str(row["type"]): row["records"] for row in rows}
        statuses = Tables(source).records(
            "SELECT status, count(*) AS records FROM docs WHERE type = 'response' GROUP BY status ORDER BY status"
        )
        facts["status"] = {str(row["status"]): row["records"] for row in statuses}
    return facts


def _folder_facts(folder: Place) -> dict[str, Any]:
    files = list(folder.walk())
    facts: dict[str, Any] = {"files": len(files), "bytes": sum(file.size() for file in files)}
    if (folder / "stats.json").exists() and isinstance(stats := (folder / "stats.json").read_json(), dict):
        facts |= {f"tokenizer_{key}": item for key, item in stats.items() if not isinstance(item, dict | list)}
    if last := last_metrics(folder):
        facts["last"] = last
    return facts


def _look_into(shard: Place, count: int = 60) -> dict[str, Any]:
    import numpy as np

    head = read_header(shard)
    with shard.open() as stream:
        stream.seek(HEADER_BYTES)
        raw = stream.read(count * head.dtype.itemsize)
    ids = [int(token) for token in np.frombuffer(raw, head.dtype)]
    record: dict[str, Any] = {"file": shard.name, "tokens": ids}
    if (shard.parent / TOKENIZER).is_dir():
        from llmdata.storage.encoding import load_encoding

        try:
            record["text"] = load_encoding(shard.parent).decode(ids)
        except ValueError as error:
            raise InputError(f"{shard}: {error}; the shard is damaged, or the tokenizer beside it is another") from None
    return record
