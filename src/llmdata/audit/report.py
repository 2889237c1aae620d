"""A short report of a run, as one HTML page that needs nothing beside it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from llmdata import __version__
from llmdata.audit.folders import Source, find_stage, look_at, tokens_index
from llmdata.audit.funnel import read_funnel
from llmdata.audit.look import printable, rejections
from llmdata.audit.status import StageStatus, duration, number, status
from llmdata.audit.tables import Tables
from llmdata.audit.trace import trace_token
from llmdata.audit.training import last_metrics, loss_curve, metrics_of
from llmdata.engine.state import repeats
from llmdata.errors import InputError
from llmdata.storage.place import Place
from llmdata.webpage import webpage

REPORT = "report.html"
SHOWN_REPEATS = 20


def write_report(run: Place) -> Place:
    """Write `run/report.html`: what ran, the funnel, languages, tokens, the loss, samples, and one token's way back.

    Sections of stages that have not run are left out. Returns the report's place.
    """
    source = look_at(str(run))
    recipe = _recipe(run)
    title = str(recipe.get("name") or run.name)
    stages = status(source)
    sections = [
        _head(title, str(recipe.get("description") or ""), run),
        _tiles(source, stages),
        _stages(stages),
        _repeats(stages),
        _funnel(source),
        _languages(source),
        _tokens(source),
        _training(source),
        _samples(source),
        _lineage(source),
        _foot(run),
    ]
    body = "\n".join(section for section in sections if section)
    page = webpage(printable(title), Path(__file__).with_name("report.css"), body)
    place = run / REPORT
    place.write_bytes(page.encode())
    return place


def _head(title: str, description: str, run: Place) -> str:
    about = f"\n<p>{_text(description)}</p>" if description else ""
    where = f"A run of llmdata {__version__} in <code>{_text(str(run))}</code>"
    return f'<h1>{_text(title)}</h1>\n<p class="soft">{where}</p>{about}'


def _tiles(source: Source, stages: Sequence[StageStatus]) -> str:
    tiles: list[tuple[str, str]] = []
    if (clean := find_stage(source, "clean")) and (funnel := read_funnel(clean)):
        tiles += [
            (f"{funnel['in']:,}", "pages read"),
            (f"{funnel['kept']:,}", f"documents kept ({funnel['share']:.1%})"),
        ]
    if found := tokens_index(source):
        tokens = sum(split.tokens for split in found[1].splits.values())
        tiles += [(_short(tokens), "tokens"), (f"{found[1].vocab_size:,}", "tokens in the vocabulary")]
    if (result := _train_result(source)) is not None:
        tiles.append((_short(result["parameters"]), "parameters"))
    model = find_stage(source, "model")
    lines = metrics_of(model) if model is not None else []
    losses = [line["val_loss"] for line in lines if line.get("val_loss") is not None]
    if losses:
        tiles.append((f"{losses[0]:.2f} → {losses[-1]:.2f}", "validation loss, nats a token"))
    work = sum(stage.seconds or 0.0 for stage in stages)
    if work:
        tiles.append((duration(work), "of work, all workers together"))
    tiles.append((_bytes(sum(_size(Place.of(stage.folder)) for stage in stages)), "on disk"))
    return _join(
        '<div class="tiles">', (f'<div class="tile"><b>{a}</b><span>{b}</span></div>' for a, b in tiles), "</div>"
    )


def _stages(stages: Sequence[StageStatus]) -> str:
    rows = []
    for stage in stages:
        tasks = "" if stage.tasks is None else f"{stage.done:,} of {stage.tasks:,}"
        facts = [f"{key} {number(value)}" for key, value in stage.facts.items()]
        rows.append(
            (
                stage.stage,
                stage.state,
                tasks,
                _bytes(_size(Place.of(stage.folder))),
                "" if stage.seconds is None else duration(stage.seconds),
                "" if stage.per_second is None else f"{stage.per_second:,.1f}",
                _text(", ".join(facts)),
            )
        )
    return "<h2>What ran</h2>\n" + _table(
        ("stage", "state", "#tasks", "#on disk", "#work", "#documents/s", "more"), rows
    )


def _repeats(stages: Sequence[StageStatus]) -> str:
    """Tasks that ran more than once: workers and machines died under them, or were stopped."""
    rows = [
        (stage.stage, repeat["stage"], repeat["task"], repeat["why"])
        for stage in stages
        for folder in (Place.of(stage.folder), *(Place.of(stage.folder) / "dedup").children())
        for repeat in repeats(folder)
    ]
    if not rows:
        return ""
    shown = _table(("stage", "step", "task", "why"), [tuple(map(_text, row)) for row in rows[:SHOWN_REPEATS]])
    more = f"\n<p>and {len(rows) - SHOWN_REPEATS:,} more</p>" if len(rows) > SHOWN_REPEATS else ""
    return (
        f"<h2>Run again</h2>\n<p>{len(rows):,} times a task ran once more. Its output is the same as if it had run "
        f"once.</p>\n{shown}{more}"
    )


def _funnel(source: Source) -> str:
    clean = find_stage(source, "clean")
    funnel = read_funnel(clean) if clean else None
    if not funnel or not funnel["in"]:
        return ""
    rows = []
    for row in funnel["stages"]:
        reasons = sorted(row["rejected"].items(), key=lambda item: (-item[1], item[0]))
        why = [f"{_text(reason)} {count:,}" for reason, count in reasons[:5]]
        why += [f"and {len(reasons) - 5} more reasons"] if len(reasons) > 5 else []
        lost = sum(row["rejected"].values()) / funnel["in"]
        rows.append(_bar(row["stage"], row["kept"] / funnel["in"], f"{row['kept']:,}", lost, ", ".join(why)))
    examples = [
        _example(item)
        for item in sorted(rejections(source), key=lambda item: -item["documents"])[:8]
        if item["id"] is not None
    ]
    legend = (
        '<p class="soft small"><span class="key kept">kept</span><span class="key lost">rejected here</span>'
        "The number is of documents that the stage kept.</p>\n"
    )
    above = '\n<p class="soft small after">The commonest rejections, with an example each:</p>'
    bars = _join('<div class="bars">', rows, "</div>")
    return "<h2>What the chain kept</h2>\n" + legend + bars + _join(above, examples, "")


def _example(item: dict[str, Any]) -> str:
    """One rejected document, folded away under its reason."""
    detail = f" · {_text(item['detail'])}" if item["detail"] else ""
    text = " ".join((item["text"] or "").split())
    share = f"({item['documents']:,}, {item['share']:.1%})"
    return (
        f'<details><summary>{_text(item["stage"])}: {_text(item["reason"])} <span class="soft">{share}</span></summary>'
        f'<p><code>{_text(item["url"] or item["id"])}</code>{detail}<br><span class="soft">{_text(text)}</span></p>'
        "</details>"
    )


def _languages(source: Source) -> str:
    if not source.files:
        return ""
    rows = Tables(source).records(
        """SELECT coalesce(nullif(language, ''), 'unknown') AS language, count(*) AS documents,
           sum(length(text)) AS characters FROM docs GROUP BY 1 ORDER BY 2 DESC, 1"""
    )
    if not rows:
        return ""
    shown = [
        _bar(row["language"], row["documents"] / rows[0]["documents"], f"{row['documents']:,} documents")
        for row in rows[:12]
    ]
    characters = _short(sum(row["characters"] for row in rows))
    more = f", {len(rows) - 12} more languages" if len(rows) > 12 else ""
    after = f'</div>\n<p class="soft small">{characters} characters in all{more}</p>'
    return _join('<h2>Languages</h2>\n<div class="bars">', shown, after)


def _tokens(source: Source) -> str:
    lines = []
    folder = find_stage(source, "tokenizer")
    if folder is not None and (folder / "stats.json").exists():
        stats = (folder / "stats.json").read_json()
        measured = stats.get("sample", {})
        facts = [f"{_text(stats.get('kind', ''))}, {stats.get('n_vocab', 0):,} tokens"]
        for key, text in (
            ("bytes_per_token", "{:.2f} bytes a token"),
            ("characters_per_token", "{:.2f} characters a token"),
            ("vocabulary_used", "{:.0%} of the vocabulary used in a sample"),
        ):
            if key in measured:
                facts.append(text.format(measured[key]))
        lines.append(f"<p>{' · '.join(facts)}</p>")
        longest = " ".join(f"<code>{_text(token)}</code>" for token in stats.get("longest_tokens", [])[:12])
        if longest:
            lines.append(f'<p class="small soft">Its longest tokens: {longest}</p>')
    if found := tokens_index(source):
        rows = [
            (
                _text(name),
                f"{split.documents:,}",
                f"{split.tokens:,}",
                f"{len(split.shards):,}",
                f"{split.bytes / split.tokens:.2f}" if split.tokens else "",
            )
            for name, split in found[1].splits.items()
        ]
        lines.append(_table(("split", "#documents", "#tokens", "#shards", "#bytes a token"), rows))
    return _join("<h2>Tokens</h2>", lines, "")


def _training(source: Source) -> str:
    model = find_stage(source, "model")
    curve = loss_curve(metrics_of(model)) if model is not None else ""
    if model is None or not curve:
        return ""
    facts = []
    last = last_metrics(model)
    for key, text in (
        ("step", "{:,} steps"),
        ("tokens", "{:,} tokens seen"),
        ("tokens_per_second", "{:,.0f} tokens a second"),
        ("val_perplexity", "validation perplexity {:,.1f}"),
        ("bits_per_byte", "{:.3f} bits a byte"),
    ):
        if isinstance(last.get(key), int | float):
            facts.append(text.format(last[key]))
    return f"<h2>Training</h2>\n<p>{' · '.join(facts)}</p>\n{curve}"


def _samples(source: Source) -> str:
    model = find_stage(source, "model")
    samples = metrics_of(model, "samples.jsonl") if model is not None else []
    steps = sorted({sample["step"] for sample in samples})
    if not steps:
        return ""
    prompt = next(sample["prompt"] for sample in samples if sample["step"] == steps[0])
    boxes = []
    for step in dict.fromkeys((steps[0], steps[-1])):
        written = next(
            (sample["text"] for sample in samples if (sample["step"], sample["prompt"]) == (step, prompt)), ""
        )
        name = "before training" if step == 0 else "after one step" if step == 1 else f"after {step:,} steps"
        boxes.append(f'<div class="text"><h3>{name}</h3><p><b>{_text(prompt)}</b>{_text(written)}</p></div>')
    return _join('<h2>What the model writes</h2>\n<div class="pair">', boxes, "</div>")


def _lineage(source: Source) -> str:
    """The way of one token in the middle of the first training shard, back to its page."""
    found = tokens_index(source)
    shards = [shard for split in found[1].splits.values() for shard in split.shards if shard.tokens] if found else []
    if not shards:
        return ""
    try:
        steps = trace_token(source, f"{shards[0].path}:{shards[0].tokens // 2}")
    except InputError as error:
        return f'<h2>Where a token came from</h2>\n<p class="soft">{_text(str(error))}</p>'
    items = []
    before = ""
    for step in steps:
        shown = {key: value for key, value in step.items() if key not in ("step", "text") and value not in (None, "")}
        facts = " · ".join(
            f"{_text(key.replace('_', ' '))} <code>{_text(value)}</code>" for key, value in shown.items()
        )
        text = _text(" ".join(step.get("text", "").split())[:300])
        excerpt = f'<br><span class="soft">… {text} …</span>' if text and text != before else ""
        before = text or before
        items.append(f'<li><b>{_text(step["step"])}</b><span class="small">{facts}{excerpt}</span></li>')
    return "<h2>Where a token came from</h2>\n" + _join('<ol class="chain">', items, "</ol>")


def _foot(run: Place) -> str:
    return f'<p class="soft small foot">Recount it: <code>llmdata inspect {_text(str(run))} --verify</code></p>'


def _recipe(run: Place) -> dict[str, Any]:
    import yaml

    path = run / "recipe.yaml"
    try:
        value = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from None
    return value if isinstance(value, dict) else {}


def _train_result(source: Source) -> dict[str, Any] | None:
    from llmdata.storage.manifest import find

    model = find_stage(source, "model")
    manifest = find(model, "train") if model is not None else None
    record = manifest.counts.get("train") if manifest is not None else None
    return record if isinstance(record, dict) and "parameters" in record else None


def _size(folder: Place) -> int:
    return sum(file.size() for file in folder.walk())


def _text(value: Any) -> str:
    return html.escape(printable(number(value)))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells in HTML; a column whose name begins with # holds numbers."""
    kinds = [' class="n"' if name.startswith("#") else "" for name in head]
    names = "".join(f"<th{kind}>{name.lstrip('#')}</th>" for name, kind in zip(head, kinds, strict=True))
    lines = ("".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True)) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table>\n<tr>{names}</tr>\n{body}\n</table></div>'


def _bar(name: str, share: float, number: str, lost: float = 0.0, below: str = "") -> str:
    """A row of `.bars`: `share` and `lost` of the full width; `below` is HTML."""
    why = f'<span class="why">{below}</span>' if below else ""
    return (
        f'<span>{_text(name)}</span><span class="bar"><i style="width:{share:.3%}"></i>'
        f'<i class="lost" style="width:{lost:.3%}"></i></span><span class="n">{number}</span>{why}'
    )


def _join(before: str, parts: Iterable[str], after: str) -> str:
    joined = "\n".join(parts)
    return f"{before}\n{joined}\n{after}" if joined else ""


def _short(count: int) -> str:
    """1,234 → 1,234; 1,234,567 → 1.23M."""
    for size, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**4, "K")):
        if count >= size:
            scaled = count / (1000 if unit == "K" else size)
            return f"{scaled:.3g}{unit}" if scaled < 1000 else f"{scaled:,.0f}{unit}"
    return f"{count:,}"


def _bytes(count: int) -> str:
    return f"{_short(count)}B" if count >= 10**4 else f"{count:,} B"
