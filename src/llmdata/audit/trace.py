"""Lineage: one document from its page through the passes to its tokens, and one token back to its page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmdata.audit.folders import Source, find_stage, parts_of, tokens_index
from llmdata.audit.tables import Tables, warc_records
from llmdata.errors import ConfigError, InputError
from llmdata.storage.place import Place
from llmdata.storage.token_index import TOKENIZER, TokenIndex, read_tokens

SNIPPET = 200
AROUND = 12
"""Tokens shown on each side of one that is traced."""

Step = dict[str, Any]


def trace_document(source: Source, wanted: str) -> list[Step]:
    """The way of the document whose id or URL is `wanted`: its page, each pass, kept or rejected, and its tokens.

    Of several captures of a URL the one with the smallest id is followed. Raises InputError if there is none.
    """
    clean = find_stage(source, "clean")
    steps = _through_clean(clean, wanted) if clean is not None else []
    identifier = steps[-1]["id"] if steps else wanted
    tokens = _through_tokens(source, identifier, wanted)
    if not steps and not tokens:
        raise InputError(f"{source.place}: there is no document with the id or URL {wanted}")
    page = _page(source, steps[-1]) if steps else []
    return page + [_shown(step) for step in steps] + tokens


def trace_token(source: Source, position: str) -> list[Step]:
    """The way back of token N of a shard (`SHARD:N`): its document, the passes, and the page that it came from."""
    name, colon, number = position.rpartition(":")
    if not colon or not number.isdigit():
        raise ConfigError(f"--token {position}: write SHARD:N, for example train-00000.bin:12345")
    found = tokens_index(source)
    if found is None:
        raise InputError(f"{source.place}: no finished folder of tokens here")
    folder, index = found
    shard = next((shard for split in index.splits.values() for shard in split.shards if shard.path == name), None)
    if shard is None:
        names = [shard.path for split in index.splits.values() for shard in split.shards]
        more = " …" if len(names) > 3 else ""
        raise InputError(f"{folder}: there is no shard {name}; there are {', '.join(names[:3])}{more}")
    at = int(number)
    if at >= shard.tokens:
        raise InputError(f"{folder / name}: it has {shard.tokens} tokens, so none at {at}")
    rows = _documents(folder, index).records(
        "SELECT id, url, split, shard, first_token, length FROM docs "
        "WHERE shard = $1 AND first_token <= $2 AND first_token + length > $2",
        [name, at],
    )
    if not rows:
        raise InputError(f"{folder}: no document lists token {at} of {name}; run --verify")
    row = rows[0]
    start, end = max(row["first_token"], at - AROUND), min(row["first_token"] + row["length"], at + AROUND + 1)
    ids = read_tokens(index, folder, name, start, end)
    token: Step = {"step": "token", "shard": name, "position": at, "token": ids[at - start]}
    if (folder / TOKENIZER).is_dir():
        token["reads"] = _decode(folder, [ids[at - start]])
        token["text"] = _decode(folder, ids)
    document: Step = {"step": "document", "id": row["id"], "url": row["url"]}
    document |= {"first_token": row["first_token"], "tokens": row["length"]}
    clean = find_stage(source, "clean")
    steps = _through_clean(clean, row["id"]) if clean is not None else []
    page = _page(source, steps[-1]) if steps else []
    return [token, document, *(_shown(step) for step in reversed(steps)), *page]


def _through_clean(clean: Place, wanted: str) -> list[Step]:
    """Where the document stands in each pass, then in `final` or `rejected`."""
    steps: list[Step] = []
    folders = [*clean.children("[0-9][0-9]-*"), clean / "final", clean / "rejected"]
    for folder in folders:
        if not (files := parts_of(folder)):
            continue
        row = _find(clean, files, wanted)
        if row is None:
            continue
        wanted = row["id"]
        row["filename"] = row["filename"][row["filename"].rindex(f"/{folder.name}/") + 1 :]
        if folder.name == "rejected":
            step = {"step": "rejected", "by": row["stage"], "reason": row["reason"], "detail": row["detail"]}
        else:
            step = {"step": folder.name}
        steps.append({**row, **step})
    return steps


def _find(clean: Place, files: Sequence[Place], wanted: str) -> dict[str, Any] | None:
    tables = Tables(Source(clean, "parquet", list(files)), file_names=True)
    extra = ", stage, reason, detail" if "reason" in dict(tables.columns()) else ""
    rows = tables.records(
        f"""SELECT id, url, date, file_path, warc_offset, warc_length, content_digest, language, language_score,
            length(text) AS characters, left(text, {SNIPPET}) AS text, filename{extra}
            FROM docs WHERE id = $1 OR url = $1 ORDER BY id LIMIT 1""",
        [wanted],
    )
    return rows[0] if rows else None


def _shown(step: Step) -> Step:
    keys = ["step", "by", "reason", "detail", "id", "characters", "language", "language_score"]
    shown = {key: step[key] for key in keys if step.get(key) not in (None, "")}
    return {**shown, "file": step["filename"], "text": step["text"]}


def _page(source: Source, row: Step) -> list[Step]:
    """The record of an archive that the document was read from, looked up where the document says that it lies."""
    page: Step = {"step": "page", "url": row["url"], "date": row["date"], "file": row["file_path"]}
    if row["warc_offset"] is None:
        return [page]
    page |= {"offset": row["warc_offset"], "length": row["warc_length"], "digest": row["content_digest"]}
    inside = source.place / row["file_path"] if source.kind == "run" else source.place.parent / row["file_path"]
    archive = inside if inside.exists() else Place.of(row["file_path"])
    if not archive.exists():
        return [{**page, "record": "the archive is no longer there"}]
    record = next(warc_records(archive, row["warc_offset"]))
    return [{**page, "record": record["id"], "status": record["status"], "content_type": record["content_type"]}]


def _through_tokens(source: Source, identifier: str, wanted: str) -> list[Step]:
    found = tokens_index(source)
    if found is None or not found[1].documents:
        return []
    folder, index = found
    rows = _documents(folder, index).records(
        "SELECT id, url, split, shard, first_token, length FROM docs WHERE id = $1 OR id = $2 OR url = $2 "
        "ORDER BY id, split, first_token",
        [identifier, wanted],
    )
    steps = []
    for row in rows:
        if row["id"] != rows[0]["id"]:
            break
        step: Step = {
            "step": "tokens",
            "shard": row["shard"],
            "first_token": row["first_token"],
            "tokens": row["length"],
        }
        if (folder / TOKENIZER).is_dir():
            end = row["first_token"] + min(row["length"], 3 * AROUND)
            step["text"] = _decode(folder, read_tokens(index, folder, row["shard"], row["first_token"], end))
        steps.append(step)
    return steps


def _documents(folder: Place, index: TokenIndex) -> Tables:
    return Tables(Source(folder, "tokens", [folder / entry.path for entry in index.documents]))


def _decode(folder: Place, ids: list[int]) -> str:
    from llmdata.storage.encoding import load_encoding

    try:
        return load_encoding(folder).decode(ids)
    except ValueError as error:
        raise InputError(f"{folder}: {error}; a shard is damaged, or the tokenizer beside it is another") from None
