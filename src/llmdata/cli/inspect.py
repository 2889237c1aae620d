"""`llmdata inspect`: look into whatever lies on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmdata.cli.common import Console, Json, Verbose, command

if TYPE_CHECKING:
    from llmdata.audit.folders import Source
    from llmdata.engine.session import Session

SHOWN = 200
"""Rows of a query that people are shown; `--json` prints them all."""

CLUSTERS, MEMBERS, CHARACTERS = 10, 3, 2000
"""Of `--clusters`: how many are shown, how many documents of each, and how much of a text."""


def inspect(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A run, a stage's folder, or Parquet, JSON lines, WARC, token shards.")
    ],
    sql: Annotated[
        str | None, typer.Option(help="Query the documents as table docs, rejected ones as rejected.", metavar="QUERY")
    ] = None,
    sample: Annotated[int, typer.Option(min=0, help="Show so many documents, spread over all.", metavar="N")] = 2,
    where: Annotated[
        str | None, typer.Option(help="Show the first documents of which this holds, in SQL.", metavar="CONDITION")
    ] = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="What was turned away: stage, reason, example.")] = False,
    clusters: Annotated[
        bool, typer.Option("--clusters", help="The largest clusters of duplicates, their texts side by side.")
    ] = False,
    contamination: Annotated[
        bool, typer.Option("--contamination", help="Which documents hold pieces of which evaluation set.")
    ] = False,
    time: Annotated[bool, typer.Option("--time", help="What CPU time each stage of cleaning took.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Recount every stage and check every digest.")] = False,
    trace: Annotated[
        str | None, typer.Option(help="Follow one document from its page to its tokens.", metavar="ID|URL")
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="Which document and page token N of a shard came from.", metavar="SHARD:N")
    ] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Look into a run, a stage's folder or a data file.

    Without an option: schema, counts, sizes, and documents to read.

    \b
    Example:
      llmdata inspect runs/demo
      llmdata inspect corpus/final --sql "SELECT language, count(*) FROM docs GROUP BY 1"
      llmdata inspect corpus --where "text LIKE '%cookie%'" --sample 5
      llmdata inspect corpus --rejected
      llmdata inspect corpus --clusters
      llmdata inspect corpus --contamination
      llmdata inspect corpus --time
      llmdata inspect runs/demo --verify
      llmdata inspect runs/demo --token train-00000.bin:123456
    """
    with command(json=json, verbose=verbose) as (session, console):
        from llmdata.audit.folders import look_at
        from llmdata.errors import ConfigError

        chosen = {"--sql": sql, "--rejected": rejected, "--clusters": clusters, "--verify": verify}
        chosen |= {"--contamination": contamination, "--time": time, "--trace": trace, "--token": token}
        given = [option for option, value in chosen.items() if value]
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(given)}: give one of these at a time")
        source = look_at(path)
        if sql:
            _query(source, sql, console)
        elif rejected:
            _rejected(source, console)
        elif clusters:
            _clusters(source, console)
        elif contamination:
            _contamination(source, console)
        elif time:
            _times(source, console)
        elif verify:
            _verify(source, session, console)
        elif trace or token:
            _trace(source, trace, token, console)
        else:
            _describe(source, sample, where, console)


def _describe(source: Source, count: int, where: str | None, console: Console) -> None:
    from llmdata.audit.look import describe, sample

    facts = describe(source)
    rows = sample(source, count, where)
    console.result({**facts, "sample": rows})
    if console.json:
        return
    from rich.text import Text

    _show_facts(facts, console)
    if where is not None and not rows:
        console.render(Text("\nNo document satisfies this condition."))
    for row in rows:
        console.render(Text())
        console.render(_document(row))


def _show_facts(facts: dict[str, Any], console: Console, indent: str = "") -> None:
    from rich.text import Text

    from llmdata.audit.look import printable

    for key, value in facts.items():
        if isinstance(value, dict) and any(isinstance(item, dict) for item in value.values()):
            console.render(Text(f"{indent}{key}", style="bold"))
            for name, inner in value.items():
                console.render(Text(f"{indent}  {name}", style="bold"))
                _show_facts(inner, console, indent + "    ")
            continue
        shown = ", ".join(f"{name} {_show(item)}" for name, item in value.items()) if isinstance(value, dict) else value
        unit = f" ({_bytes(value)})" if key == "bytes" else ""
        console.render(Text.assemble(f"{indent}", (f"{key:<12} ", "dim"), printable(_show(shown)), unit))


def _document(row: dict[str, Any], length: int = 700) -> Any:
    """One row to read: short columns on one line, then the text."""
    from rich.text import Text

    from llmdata.audit.look import printable

    body = Text(printable(str(row["url"] if row.get("url") else next(iter(row.values()), ""))), style="bold")
    facts = [
        f"{name} {printable(_show(value))[:100]}"
        for name, value in row.items()
        if name not in ("text", "url") and value not in (None, "", "{}")
    ]
    body.append("\n" + " · ".join(facts), style="not bold dim")
    if text := row.get("text"):
        more = f" … ({len(text):,} characters)" if len(text) > length else ""
        body.append("\n" + printable(text[:length]) + more, style="not bold")
    return body


def _query(source: Source, sql: str, console: Console) -> None:
    from llmdata.audit.look import printable
    from llmdata.audit.tables import Tables

    names, rows = Tables(source).query(sql)
    if console.json:
        for row in rows:
            console.result(dict(zip(names, row, strict=True)))
        return
    from itertools import islice

    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in names:
        table.add_column(Text(printable(name)), overflow="fold")
    for row in islice(rows, SHOWN):
        table.add_row(*(Text(printable(_show(value))) for value in row))
    console.render(table)
    if next(rows, None) is not None:
        console.render(f"The first {SHOWN} rows; --json prints them all.")


def _rejected(source: Source, console: Console) -> None:
    from llmdata.audit.funnel import funnel_table, read_funnel
    from llmdata.audit.look import printable, rejections

    rows = rejections(source)
    funnel = read_funnel(source.place / "clean" if source.kind == "run" else source.place)
    console.result({"funnel": funnel, "rejected": rows})
    if console.json:
        return
    from rich.table import Table
    from rich.text import Text

    if funnel is not None:
        console.render(funnel_table(funnel))
    table = Table()
    table.add_column("stage")
    table.add_column("reason")
    table.add_column("documents", justify="right")
    table.add_column("share", justify="right")
    table.add_column("an example", overflow="fold")
    for row in rows:
        example = Text(printable(row["url"] or row["id"] or "(no rejected documents on disk)"))
        if row["detail"]:
            example.append(f"\n{printable(row['detail'])[:200]}", style="yellow")
        if row["text"]:
            example.append("\n" + " ".join(printable(row["text"]).split()), style="dim")
        stage, reason = (Text(printable(row[key])) for key in ("stage", "reason"))
        table.add_row(stage, reason, f"{row['documents']:,}", f"{row['share']:.2%}", example)
    console.render(table)


def _clusters(source: Source, console: Console) -> None:
    from dataclasses import asdict

    from llmdata.audit.clusters import differences, largest_clusters
    from llmdata.audit.look import printable

    found = largest_clusters(source, CLUSTERS, MEMBERS)
    console.result({"clusters": [asdict(cluster) for cluster in found]})
    if console.json:
        return
    from rich.table import Table
    from rich.text import Text

    if not found:
        console.render("No document was dropped as the duplicate of another.")
    for cluster in found:
        table = Table(title=Text(f"{cluster.stage}: {cluster.size:,} documents"), title_justify="left")
        cells = []
        model = printable(cluster.members[0]["text"] or "")[:CHARACTERS] if cluster.members else ""
        for member in cluster.members:
            name = printable(member["url"] or member["id"])
            heading = Text(f"{name} (kept)" if member["kept"] else name, style="bold" if member["kept"] else "")
            table.add_column(heading, ratio=1, overflow="fold")
            cell = Text()
            for piece, new in differences(model, printable(member["text"] or "")[:CHARACTERS]):
                cell.append(piece + " ", style="bold yellow" if new else "")
            cells.append(cell)
        table.add_row(*cells)
        console.render(table)


def _contamination(source: Source, console: Console) -> None:
    from llmdata.audit.contamination import read_contamination
    from llmdata.audit.folders import find_stage
    from llmdata.audit.look import printable
    from llmdata.errors import InputError

    clean = find_stage(source, "clean")
    rows = read_contamination(clean) if clean else None
    if rows is None:
        raise InputError(f"{source.place}: no finished chain with the stage decontaminate here")
    console.result({"contamination": rows})
    if console.json:
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("set", "item", "document", "", title=f"{len(rows):,} documents", title_justify="left")
    table.add_column("span", overflow="fold", ratio=1)
    for row in rows[:SHOWN]:
        cells = (row["set"], str(row["item"]), row["url"] or row["id"], row["action"], row["span"])
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console.render(table)
    if len(rows) > SHOWN:
        console.render(f"The first {SHOWN}; --json prints them all.")


def _times(source: Source, console: Console) -> None:
    from dataclasses import asdict

    from llmdata.audit.folders import find_stage
    from llmdata.audit.times import stage_times, times_table
    from llmdata.errors import InputError

    clean = find_stage(source, "clean")
    times = stage_times(clean) if clean else []
    if not times:
        raise InputError(f"{source.place}: no finished task of `llmdata clean` here that took its time")
    console.result({"path": str(clean), "times": [asdict(row) for row in times]})
    if not console.json:
        console.render(times_table(times))


def _verify(source: Source, session: Session, console: Console) -> None:
    from dataclasses import asdict

    from llmdata.audit.verify import verify
    from llmdata.errors import InputError

    report = verify(source, session)
    console.result({"path": str(source.place), "ok": not report.problems, **asdict(report)})
    for note in report.notes:
        session.progress.note(note)
    if report.problems:
        first, rest = report.problems[0], report.problems[1:]
        more = "".join(f"\n  also {problem}" for problem in rest[:20])
        raise InputError(first + more + (f"\n  and {len(rest) - 20} more" if len(rest) > 20 else ""))
    checked = f"{report.files:,} files, {_bytes(report.bytes)}, {report.tasks:,} tasks"
    console.result({}, f"{source.place}: all agrees: {checked}") if not console.json else None


def _trace(source: Source, document: str | None, token: str | None, console: Console) -> None:
    from llmdata.audit.trace import trace_document, trace_token

    steps = trace_token(source, token) if token else trace_document(source, document or "")
    console.result({"path": str(source.place), "trace": steps})
    if console.json:
        return
    from rich.text import Text

    from llmdata.audit.look import printable

    for step in steps:
        text = Text(f"{step['step']:<10} ", style="bold")
        text.append(
            " · ".join(f"{key} {printable(_show(value))}" for key, value in step.items() if key not in ("step", "text"))
        )
        if step.get("text"):
            text.append("\n           " + " ".join(printable(step["text"]).split()), style="not bold dim")
        console.render(text)


def _show(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
