"""How a command ends on an error: one line that says where, and all of it with -v."""

from __future__ import annotations

import logging
import os
import re

import pytest
import typer

from llmdata.cli.common import ends_well


@pytest.mark.parametrize(
    ("number", "call", "said"),
    [
        (22, None, r"llmdata: llmdata/cli/common\.py:\d+: Invalid argument\n"),
        (2, "there.txt", r"llmdata: there\.txt: No such file or directory\n"),
    ],
)
def test_an_error_of_the_system_names_the_file_or_the_line(
    number: int, call: str | None, said: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llmdata")
    with pytest.raises(typer.Exit) as ended, ends_well():
        raise OSError(number, os.strerror(number), *([call] if call else []))
    assert ended.value.exit_code == 1
    assert re.fullmatch(said, capsys.readouterr().err)
    assert "Traceback" in caplog.text


def test_a_defect_names_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), ends_well():
        raise KeyError("oops")
    assert capsys.readouterr().err.startswith("llmdata: llmdata/cli/common.py:")
