"""`llmdata tokenizer`: train one, and look at what it does."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from llmdata.cli.common import Encodings, Json, Out, Pattern, Rerun, TextColumn, Verbose, command, set_option

app = typer.Typer(no_args_is_help=True, help="Train a tokenizer; look at tokens.")


@app.command()
def train(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Folder of `llmdata clean`, or Parquet or JSON lines.")
    ],
    out: Out,
    kind: Annotated[str | None, typer.Option(help="bpe, word or char. [default: bpe]", metavar="KIND")] = None,
    vocab_size: Annotated[
        str | None, typer.Option(help="Tokens in all, special ones too. [default: 32768]", metavar="N")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(help="gpt2, cl100k, o200k, or a regular expression. [default: cl100k]", metavar="PATTERN"),
    ] = None,
    sample: Annotated[
        str | None, typer.Option(help="Text to train on at most. [default: 10GB]", metavar="SIZE")
    ] = None,
    special_token: Annotated[
        list[str] | None,
        typer.Option(
            help="A special token; the first is end-of-text. Repeatable. [default: <|endoftext|>]", metavar="TEXT"
        ),
    ] = None,
    text_column: TextColumn = None,
    settings: Annotated[list[str] | None, set_option("tokenizer.vocab_size=8192")] = None,
    rerun: Rerun = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train a tokenizer on a corpus.

    DIR gets tokenizer.json, vocab.tiktoken and stats.json.

    \b
    Example:
      llmdata tokenizer train corpus --out tokenizer --vocab-size 32768
      llmdata tokenizer train data/*.parquet -o chars --kind char --text-column content
    """
    with command(json=json, verbose=verbose) as (session, console):
        from llmdata.config import from_options
        from llmdata.storage.lock import locked
        from llmdata.storage.place import Place
        from llmdata.tokenizer import TokenizerConfig, train_tokenizer

        options = {
            "kind": kind,
            "vocab_size": vocab_size,
            "pattern": pattern,
            "sample": sample,
            "special_tokens": special_token,
            "text_column": text_column,
        }
        config = from_options(TokenizerConfig, options, settings or [], "tokenizer")
        place = Place.of(out)
        with locked(place, "llmdata tokenizer train"):
            result = train_tokenizer(inputs, place, config, session, rerun=rerun)
        if not result.fresh:
            session.progress.note(f"{place}: finished before, nothing to do")
        sample_facts = result.stats.get("sample", {})
        text = f"{result.n_vocab:,} tokens: {place}"
        if sample_facts:
            text += (
                f"\n{sample_facts['bytes_per_token']:.3f} bytes a token on {sample_facts['bytes'] / 1e6:,.1f} MB, "
                f"{sample_facts['vocabulary_used']:.1%} of the vocabulary used"
            )
        record = {"out": str(place), "fresh": result.fresh, "seconds": round(result.seconds, 3), "stats": result.stats}
        console.result(record, text)


@app.command()
def decode(
    shard: Annotated[str, typer.Argument(metavar="SHARD", help="A file of tokens that `llmdata tokenize` wrote.")],
    start: Annotated[int, typer.Option("--from", help="First token.", min=0, metavar="N")] = 0,
    count: Annotated[int, typer.Option(help="How many tokens.", min=1, metavar="M")] = 256,
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder, file or name. [default: what lies beside the shard]", metavar="NAME")
    ] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Write tokens of a shard as text.

    \b
    Example:
      llmdata tokenizer decode tokens/train-00000.bin --from 1000 --count 200
    """
    with command(json=json, verbose=verbose) as (_, console):
        from dataclasses import asdict

        from llmdata.storage.place import Place
        from llmdata.tokenizer.view import decode_shard

        passage = decode_shard(Place.of(shard), start, count, tokenizer)
        console.result(asdict(passage), passage.text)


@app.command()
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="gpt2, cl100k_base, o200k_base, … or a model's name.")],
    address: Annotated[
        str | None, typer.Option("--from", help="A mirror with the publisher's layout.", metavar="URL")
    ] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Download a published vocabulary into tiktoken's cache.

    Its digest is checked. No other command opens a connection for a vocabulary.

    \b
    Example:
      llmdata tokenizer download cl100k_base
    """
    with command(json=json, verbose=verbose) as (_, console):
        from dataclasses import asdict

        from llmdata.tokenizer.download import download_vocabulary

        found = download_vocabulary(name, address)
        state = "downloaded" if found.fresh else "was there"
        console.result(asdict(found), f"{found.name}: {state}, {found.bytes:,} bytes: {found.path}")


@app.command()
def view(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Any text.")],
    encoding: Encodings,
    pattern: Pattern = None,
    html: Annotated[
        str | None, typer.Option("--html", help="Also write a page that needs nothing beside it.", metavar="FILE")
    ] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show how encodings cut a text: tokens in colours, ids below.

    Spaces are shown as ·, line ends and bytes that are no character as escapes.

    \b
    Example:
      llmdata tokenizer view "Grüße, 世界!" --encoding o200k_base --encoding tokenizer/
    """
    with command(json=json, verbose=verbose) as (_, console):
        from dataclasses import asdict
        from shutil import get_terminal_size

        from llmdata.storage.place import Place
        from llmdata.tokenizer.view import cut, page, render

        cuts = [cut(name, text, pattern) for name in encoding]
        if html is not None:
            Place.of(html).write_bytes(page(cuts).encode())
        for found in cuts:
            console.result(asdict(found))
        console.render(render(cuts, get_terminal_size((140, 0)).columns if sys.stdout.isatty() else 140))
        if html is not None and not json:
            print(f"page: {html}")


@app.command()
def stats(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Folder of `llmdata clean`, or Parquet or JSON lines.")
    ],
    encoding: Encodings,
    sample: Annotated[str, typer.Option(help="Text to measure on, about.", metavar="SIZE")] = "20MB",
    plot: Annotated[
        str | None, typer.Option(help="Also draw bytes a token by language, as SVG.", metavar="FILE")
    ] = None,
    pattern: Pattern = None,
    text_column: TextColumn = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Compare encodings on a corpus: text a token, words cut, use.

    A word counts as cut if, behind a space, it takes more than one token.

    \b
    Example:
      llmdata tokenizer stats corpus --encoding tokenizer/ --encoding cl100k_base --plot compare.svg
    """
    with command(json=json, verbose=verbose) as (session, console):
        from llmdata.config import parse_size
        from llmdata.errors import ConfigError
        from llmdata.storage.encoding import load_encoding
        from llmdata.storage.place import Place
        from llmdata.tokenizer.compare import compare, read_sample
        from llmdata.tokenizer.compare_view import draw, record, tables

        try:
            size = int(str(parse_size(sample)))
        except ValueError as error:
            raise ConfigError(f"--sample: {error}") from None
        loaded = {name: load_encoding(name, pattern) for name in encoding}
        texts = read_sample(inputs, size, text_column, session)
        found = [compare(name, loaded[name], texts) for name in loaded]
        if plot is not None:
            Place.of(plot).write_bytes(draw(found).encode())
        for entry in found:
            console.result(record(entry))
        for table in tables(found):
            console.render(table)
        if plot is not None and not json:
            print(f"plot: {plot}")
