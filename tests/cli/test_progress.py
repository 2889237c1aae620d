"""Progress: lines for pipes, JSON for machines, bars for terminals."""

from __future__ import annotations

import json
import re

import pytest

from llmdata.cli.progress import BarProgress, JsonProgress, LineProgress


def report(progress: LineProgress | BarProgress) -> None:
    progress.start("clean", 4, "tasks")
    progress.advance("clean", 1, kept=12)
    progress.note("something to know")
    progress.advance("clean", 3, kept=1234567, loss=0.123456)
    progress.finish("clean", rejected=5)


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    report(LineProgress())
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "clean: started, 4 tasks"
    assert lines[1] == "something to know"
    assert re.fullmatch(r"clean: done, 4 tasks in [\d.]+ s · kept 1,234,567 · loss 0.1235 · rejected 5", lines[2])


def test_json_events(capsys: pytest.CaptureFixture[str]) -> None:
    report(JsonProgress())
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.err.splitlines()]
    assert captured.out == ""
    assert [event["event"] for event in events] == ["start", "note", "finish"]
    assert events[1]["message"] == "something to know"
    assert {key: events[2][key] for key in ("stage", "done", "total", "kept", "rejected")} == {
        "stage": "clean",
        "done": 4,
        "total": 4,
        "kept": 1234567,
        "rejected": 5,
    }


def test_a_bar_ends_full_and_says_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    report(BarProgress())
    assert "something to know" in capsys.readouterr().err


def test_a_narrow_terminal_shows_fewer_figures_and_the_whole_count(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    progress = BarProgress()
    progress.start("train", 1200, "steps")
    progress.advance("train", 1200, loss=4.123, val_loss=4.234, tokens_per_second=12345, learning_rate=0.001)
    progress.finish("train")
    shown = capsys.readouterr().err
    assert "1200/1200 steps" in shown
    assert "loss 4.123" in shown
    assert "learning rate" not in shown
    assert max(map(len, shown.splitlines())) <= 77


def test_bars_that_an_error_ends_stay_above_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    progress = BarProgress()
    progress.start("clean", 4, "tasks")
    progress.close()
    progress.note("llmdata: the disk is full")
    progress.advance("clean", 1)
    progress.close()
    shown = capsys.readouterr().err
    assert "clean" in shown
    assert shown.endswith("llmdata: the disk is full\n")


def test_figures_of_a_stage_that_never_started_are_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    progress = LineProgress()
    progress.advance("late", 1)
    progress.finish("later")
    assert "later: done" in capsys.readouterr().err
