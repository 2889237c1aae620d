"""`llmdata tokenize`: documents to token shards."""

from __future__ import annotations

from typing import Annotated

import typer

from llmdata.cli.common import (
    Executor,
    Json,
    MaxTime,
    Out,
    Pattern,
    RayAddress,
    Rerun,
    TextColumn,
    Verbose,
    Workers,
    command,
    set_option,
)


def tokenize(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Folder of `llmdata clean`, or Parquet or JSON lines.")
    ],
    tokenizer: Annotated[
        str,
        typer.Option(
            help="A folder, tokenizer.json or .tiktoken file, or a name: gpt2, cl100k_base, …", metavar="NAME|PATH"
        ),
    ],
    out: Out,
    shard_format: Annotated[
        str | None,
        typer.Option("--format", help="llmc, nanogpt, megatron or parquet. [default: llmc]", metavar="FORMAT"),
    ] = None,
    val: Annotated[
        str | None,
        typer.Option(
            help="What to validate on: hash:SHARE or tail:SHARE of the documents, none, or a path to other documents. "
            "[default: hash:0.005]",
            metavar="SPLIT",
        ),
    ] = None,
    shard_tokens: Annotated[
        str | None, typer.Option(help="Tokens in a shard at most. [default: 100M]", metavar="N")
    ] = None,
    shuffle_seed: Annotated[
        int | None, typer.Option(help="Shuffle the documents by this seed. [default: order of the input]", metavar="N")
    ] = None,
    token_counts: Annotated[
        bool | None, typer.Option("--token-counts", help="Also copy the Parquet input with its token_count filled in.")
    ] = None,
    pattern: Pattern = None,
    text_column: TextColumn = None,
    settings: Annotated[list[str] | None, set_option("tokenize.shard_tokens=10M")] = None,
    rerun: Rerun = False,
    workers: Workers = None,
    executor: Executor = "local",
    ray_address: RayAddress = "auto",
    max_time: MaxTime = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Encode documents into token shards.

    Beside the shards, DIR/documents-*.parquet lists which document lies where. --token-counts writes DIR/counted.

    \b
    Example:
      llmdata tokenize corpus --tokenizer tokenizer --out tokens
      llmdata tokenize data/*.parquet --tokenizer gpt2 -o tokens --val tail:0.1 --shuffle-seed 1
    """
    with command(
        json=json,
        verbose=verbose,
        workers=workers,
        max_time=max_time,
        executor=executor,
        ray_address=ray_address,
    ) as (session, console):
        from dataclasses import asdict

        from llmdata.config import from_options
        from llmdata.storage.lock import locked
        from llmdata.storage.place import Place
        from llmdata.tokenizer import TokenizeConfig
        from llmdata.tokenizer import tokenize as run

        options = {
            "format": shard_format,
            "val": val,
            "shard_tokens": shard_tokens,
            "shuffle_seed": shuffle_seed,
            "token_counts": token_counts,
            "pattern": pattern,
            "text_column": text_column,
        }
        config = from_options(TokenizeConfig, options, settings or [], "tokenize")
        place = Place.of(out)
        with locked(place, "llmdata tokenize"):
            result = run(inputs, tokenizer, place, config, session, rerun=rerun)
        if not result.fresh:
            session.progress.note(f"{place}: finished before, nothing to do")
        lines = [
            f"{name}: {split.tokens:,} tokens in {len(split.shards):,} shards, {split.documents:,} documents, "
            f"{split.bytes / max(1, split.tokens):.3f} bytes a token"
            for name, split in result.index.splits.items()
        ]
        if result.rejected:
            lines.append(f"{result.rejected:,} documents could not be read: {place / 'rejected'}")
        record = {
            "out": str(place),
            "fresh": result.fresh,
            "seconds": round(result.seconds, 3),
            "rejected": result.rejected,
            "index": asdict(result.index),
        }
        console.result(record, "\n".join([*lines, f"tokens: {place}"]))
