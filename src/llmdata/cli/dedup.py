"""`llmdata dedup`: one dedup stage by itself."""

from __future__ import annotations

import json as jsonlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmdata.cli.common import (
    Executor,
    Json,
    Layout,
    MaxTime,
    RayAddress,
    Rerun,
    TextColumn,
    Verbose,
    Workers,
    command,
    set_option,
)

if TYPE_CHECKING:
    from llmdata.cli.common import Console
    from llmdata.dedup.config import MinhashConfig, ShuffleConfig

METHODS = {
    "url": "url_dedup",
    "exact": "exact_dedup",
    "minhash": "minhash",
    "paragraphs": "paragraph_dedup",
    "lines": "line_dedup",
    "spans": "span_dedup",
    "decontaminate": "decontaminate",
}


def dedup(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Parquet, JSON lines, or whatever `clean` reads: files, folders, globs."),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Folder for the results (any fsspec address).", metavar="DIR")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="What makes two documents the same: url, exact (text) or minhash (nearly the same text). Or what is "
            "kept once over all documents: paragraphs (CCNet), lines (C4) or spans (of three sentences). Or "
            "decontaminate: what evaluation sets hold.",
            metavar="METHOD",
        ),
    ] = "minhash",
    keep: Annotated[
        str | None,
        typer.Option(help="Which document of a cluster stays: longest, newest, best or first.", metavar="RULE"),
    ] = None,
    scope: Annotated[
        str | None, typer.Option(help="Compare documents of one dump, or all: dump or all.", metavar="SCOPE")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory for sorting; the rest goes to disk. [default: 2GB]", metavar="SIZE")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="A folder of an earlier run: what it kept stays, its duplicates go.", metavar="DIR"),
    ] = None,
    evaluation: Annotated[
        list[str] | None,
        typer.Option(
            help="For decontaminate: a file of an evaluation set (text, JSON lines, Parquet).", metavar="FILE"
        ),
    ] = None,
    layout: Layout = None,
    text_column: TextColumn = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print which similarities MinHash finds with these settings, and stop.")
    ] = False,
    settings: Annotated[list[str] | None, set_option("dedup.minhash.bands=20")] = None,
    rerun: Rerun = False,
    workers: Workers = None,
    executor: Executor = "local",
    ray_address: RayAddress = "auto",
    max_time: MaxTime = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Drop duplicates from documents.

    DIR/final holds what is kept, DIR/rejected the rest, each with the id that it duplicates: the same as `llmdata
    clean` with this stage alone.

    \b
    Example:
      llmdata dedup --explain --set dedup.minhash.bands=20
      llmdata dedup 'c4/*.json.gz' --out unique --method minhash --memory 4GB
      llmdata dedup crawl.parquet --out newest --method url          # or exact: by content
      llmdata dedup corpus --out lines --method paragraphs           # or lines, spans: parts of documents
      llmdata dedup corpus --out clean --method decontaminate --evaluation mmlu.jsonl
      llmdata inspect unique --rejected
    """
    with command(
        json=json,
        verbose=verbose,
        workers=workers,
        max_time=max_time,
        executor=executor,
        ray_address=ray_address,
    ) as (session, console):
        from llmdata.errors import ConfigError

        if method not in METHODS:
            raise ConfigError(f"--method {method}: there is no such method; allowed: {', '.join(METHODS)}")
        if evaluation and method != "decontaminate":
            raise ConfigError("--evaluation goes with --method decontaminate")
        name = METHODS[method]
        options = {"keep": keep, "scope": scope, "memory": memory}
        options["against"] = jsonlib.dumps(against) if against else None
        options["sets"] = jsonlib.dumps(evaluation) if evaluation else None
        sections = _sections(name, {key: value for key, value in options.items() if value is not None}, settings or [])
        if explain:
            if method != "minhash":
                raise ConfigError(f"--explain shows what MinHash finds; {method} finds what is equal, and nothing else")
            _explain(sections["minhash"], console)
            return
        if not inputs or not out:
            raise ConfigError(
                "name the INPUT to deduplicate and a folder for the results: llmdata dedup INPUT --out DIR"
            )
        from llmdata.audit.contamination import REPORT
        from llmdata.audit.funnel import funnel_table
        from llmdata.pipeline.clean import run_clean
        from llmdata.pipeline.clean_config import CleanConfig
        from llmdata.storage.lock import locked
        from llmdata.storage.place import Place

        reading = {"layout": layout, "text_column": text_column}
        given = {key: value for key, value in reading.items() if value is not None}
        config = _checked(CleanConfig, {"input": inputs, "stages": [name], **given, **sections})
        place = Place.of(out)
        with locked(place, "llmdata dedup"):
            result = run_clean(place, config, session, rerun=rerun)
        if not result.fresh:
            session.progress.note(f"{place}: finished before, nothing to do")
        console.render(funnel_table(result.funnel))
        found = f"Duplicates: {place / 'rejected'}"
        if method == "decontaminate":
            found = f"What was found: {place / REPORT}"
        console.result(
            {"out": str(place), "fresh": result.fresh, "seconds": round(result.seconds, 3), "funnel": result.funnel},
            f"Kept documents: {place / 'final'}   {found}",
        )


def _sections(name: str, options: dict[str, str], settings: list[str]) -> dict[str, Any]:
    """The settings of all methods, as a recipe's clean section has them; --set wins over options."""
    import re

    from llmdata.config import Section, parse
    from llmdata.dedup import config
    from llmdata.dedup.decontaminate import DecontaminateConfig
    from llmdata.errors import ConfigError

    class Dedup(Section):
        url_dedup: config.UrlDedupConfig = config.UrlDedupConfig()
        exact_dedup: config.ExactDedupConfig = config.ExactDedupConfig()
        minhash: config.MinhashConfig = config.MinhashConfig()
        paragraph_dedup: config.ParagraphDedupConfig = config.ParagraphDedupConfig()
        line_dedup: config.LineDedupConfig = config.LineDedupConfig()
        span_dedup: config.SpanDedupConfig = config.SpanDedupConfig()
        decontaminate: DecontaminateConfig = DecontaminateConfig()

    class Root(Section):
        dedup: Dedup = Dedup()

    as_settings = {
        f"dedup.{name}.{key}={value}": f"--{'evaluation' if key == 'sets' else key} {value}"
        for key, value in options.items()
    }
    try:
        chosen = parse(Root, "", "llmdata dedup", [*as_settings, *settings]).dedup
    except ConfigError as error:
        message = str(error)
        for setting, option in as_settings.items():
            message = re.sub(re.escape(f"--set {setting}: dedup.{name}.") + r"\w+", option, message)
        raise ConfigError(message) from None
    sections: dict[str, ShuffleConfig] = {name: getattr(chosen, name) for name in METHODS.values()}
    return sections


def _checked(model: Any, values: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from llmdata.errors import ConfigError

    try:
        return model(**values)
    except ValidationError as error:
        problems = [f"--{str(detail['loc'][0]).replace('_', '-')}: {detail['msg']}" for detail in error.errors()]
        raise ConfigError("\n".join(problems)) from None


def _explain(config: MinhashConfig, console: Console) -> None:
    from rich.table import Table

    from llmdata.dedup.curve import band_probability, changed_words, plot, similarity_at

    bands, rows, n = config.bands, config.rows, config.n_grams
    steps = [round(0.30 + 0.05 * step, 2) for step in range(15)]
    curve = [{"jaccard": jaccard, "probability": round(band_probability(jaccard, bands, rows), 6)} for jaccard in steps]
    table = Table("Jaccard similarity", "words changed", "probability of a match")
    for jaccard, point in zip(steps, curve, strict=True):
        changed = f"{changed_words(jaccard, n):.1%}"
        table.add_row(f"{jaccard:.2f}", changed, f"{point['probability']:.2%}")
    even = similarity_at(0.5, bands, rows)
    chains = f"checked at {config.verify_jaccard}" if config.verify_jaccard else "unchecked: see verify_jaccard"
    console.render(table)
    console.result(
        {"bands": bands, "rows": rows, "n_grams": n, "even_odds_at": round(even, 4), "curve": curve},
        f"""
{plot(bands, rows)}

{bands} bands × {rows} rows = {bands * rows} hash functions of {config.hash_bits} bits, shingles of {n} words.
Documents match if they agree in all rows of any band: p = 1 − (1 − s^{rows})^{bands}; even odds at s = {even:.3f}.
More bands find less similar pairs too, more rows find fewer. "Words changed" is the share of a long text's words
that differ, each by itself, between two copies of that similarity. Chains of matches are one cluster, {chains}.""",
    )
