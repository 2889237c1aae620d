"""Progress on the screen: bars on a terminal, plain lines when piped, JSON events for machines."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

Fact = float | int | str


def _show(facts: dict[str, Fact]) -> str:
    return " · ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in facts.items())


def _number(value: Fact) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


@dataclass(slots=True)
class _Stage:
    total: int | None
    unit: str
    began: float
    done: int = 0
    shown: float = 0.0
    facts: dict[str, Fact] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.began, 1e-9)


class LineProgress:
    """A line on stderr when a stage begins and ends, and at most every `every` seconds between."""

    every = 10.0

    def __init__(self) -> None:
        self._stages: dict[str, _Stage] = {}

    def start(self, stage: str, total: int | None, unit: str) -> None:
        now = time.monotonic()
        self._stages[stage] = _Stage(total, unit, now, shown=now)
        self.write("start", stage, f"{stage}: started" + (f", {total:,} {unit}" if total is not None else ""))

    def advance(self, stage: str, count: int, **facts: Fact) -> None:
        state = self._stages.setdefault(stage, _Stage(None, "items", time.monotonic()))
        state.done += count
        state.facts.update(facts)
        if time.monotonic() - state.shown >= self.every:
            state.shown = time.monotonic()
            of = f" of {state.total:,}" if state.total is not None else ""
            speed = f"{state.done / state.seconds:,.1f} {state.unit}/s"
            line = " · ".join(filter(None, [f"{stage}: {state.done:,}{of} {state.unit}", speed, _show(state.facts)]))
            self.write("advance", stage, line)

    def finish(self, stage: str, **facts: Fact) -> None:
        state = self._stages.pop(stage, None) or _Stage(None, "items", time.monotonic())
        state.facts.update(facts)
        text = f"{stage}: done, {state.done:,} {state.unit} in {state.seconds:,.1f} s"
        self.write("finish", stage, " · ".join(filter(None, [text, _show(state.facts)])), state)

    def note(self, message: str) -> None:
        self.write("note", "", message)

    def close(self) -> None:
        """The command ends, whatever was going on."""

    def write(self, event: str, stage: str, text: str, state: _Stage | None = None) -> None:
        print(text, file=sys.stderr, flush=True)


class JsonProgress(LineProgress):
    """One JSON event a line on stderr, so that stdout holds results alone."""

    every = 1.0

    def write(self, event: str, stage: str, text: str, state: _Stage | None = None) -> None:
        state = state or self._stages.get(stage)
        record: dict[str, object] = {"event": event, "time": round(time.time(), 3)}
        if stage:
            record["stage"] = stage
        if state is not None:
            record |= {"done": state.done, "total": state.total, "unit": state.unit, **state.facts}
        if event == "note":
            record["message"] = text
        print(json.dumps(record, ensure_ascii=False), file=sys.stderr, flush=True)


def _bar_width(terminal: int) -> int:
    return 30 if terminal >= 110 else 16


class BarProgress:
    """One bar a stage, drawn by rich on stderr."""

    def __init__(self) -> None:
        self._rich: RichProgress | None = None
        self._bars: dict[str, TaskID] = {}
        self._facts: dict[str, dict[str, Fact]] = {}

    def _bar(self) -> RichProgress:
        if self._rich is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            console = Console(stderr=True)
            self._rich = Progress(
                TextColumn("{task.description:<16}"),  # as long as "minhash clusters"
                BarColumn(bar_width=_bar_width(console.width)),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeRemainingColumn(elapsed_when_finished=True),
                TextColumn("[dim]{task.fields[facts]}"),
                console=console,
            )
            self._rich.start()
        return self._rich

    def start(self, stage: str, total: int | None, unit: str) -> None:
        self._facts[stage] = {}
        self._bars[stage] = self._bar().add_task(stage, total=total, unit=unit, facts="")

    def advance(self, stage: str, count: int, **facts: Fact) -> None:
        if stage in self._bars:
            self._facts[stage].update(facts)
            self._bar().update(self._bars[stage], advance=count, facts=self._fit(stage, self._facts[stage]))

    def finish(self, stage: str, **facts: Fact) -> None:
        if stage in self._bars:
            shown = self._fit(stage, self._facts.pop(stage) | facts)
            bar, task = self._bar(), self._bars.pop(stage)
            done = next(item.completed for item in bar.tasks if item.id == task)
            bar.update(task, total=done or 1, completed=done or 1, facts=shown)
        if not self._bars:
            self.close()

    def _fit(self, stage: str, facts: dict[str, Fact]) -> str:
        """As many of `facts` as the line has room for, so that bar and counts keep theirs.

        Three columns stay free: behind a full line the `^C` of a terminal would wrap, and leave a copy of the line.
        """
        bars = self._bar()
        task = next(item for item in bars.tasks if item.id == self._bars[stage])
        width = bars.console.width
        counts = len(f"{task.total or task.completed:.0f}") * 2 + 1
        columns = (max(16, len(stage)), _bar_width(width), counts, len(task.fields["unit"]), len("0:00:00"))
        room = width - 3 - sum(columns) - len(columns)
        shown = list(facts.items())
        while shown and len(_show(dict(shown))) > room:
            shown.pop()
        return _show(dict(shown))

    def note(self, message: str) -> None:
        if self._rich is not None:
            self._rich.console.print(message, highlight=False)
        else:
            print(message, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bars as they stand and give the cursor back: what is printed from now on follows them."""
        if self._rich is not None:
            self._rich.stop()
            self._rich = None
        self._bars.clear()
