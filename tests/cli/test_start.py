"""What a command imports, and when."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest
from typer.testing import CliRunner

from llmdata.cli import _apart
from llmdata.cli.app import COMMANDS, app


def python(source: str) -> str:
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("typed", "apart"),
    [
        (["--stages=url,pii", "-o", "x"], ["--stages", "url,pii", "-o", "x"]),
        (["a=b", "-s=1"], ["a=b", "-s=1"]),
        (["--set", "clean.limit=3"], ["--set", "clean.limit=3"]),
        (["--set=clean.limit=3"], ["--set", "clean.limit=3"]),
    ],
)
def test_options_are_found_however_their_values_are_given(typed: list[str], apart: list[str]) -> None:
    assert list(_apart(typed)) == apart


def test_a_command_does_not_wait_for_the_others() -> None:
    loaded = python(
        "import sys; from typer.testing import CliRunner; from llmdata.cli.app import app\n"
        "assert CliRunner().invoke(app, ['schema', '--help']).exit_code == 0\n"
        "print(*(name for name in sys.modules if name.startswith('llmdata.cli.')))"
    )
    assert set(loaded.split()) == {"llmdata.cli.app", "llmdata.cli.common", "llmdata.cli.schema"}


def test_a_mistyped_command_is_put_right() -> None:
    said = CliRunner().invoke(app, ["tokenzer"])
    assert said.exit_code == 2
    assert "tokenizer" in said.output


def test_every_command_has_help() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    assert [line.split()[0] for line in shown.partition("Commands:")[2].strip().splitlines()] == list(COMMANDS)


def test_workers_import_of_a_recipe_what_they_need() -> None:
    loaded = python("import sys, llmdata.pipeline.task; print(*sys.modules)").split()
    assert not {"llmdata.crawl.config", "llmdata.train.config", "pyarrow.compute", "typer", "psutil"} & set(loaded)


@pytest.mark.skipif(find_spec("pandas") is None, reason="pandas is not installed")
def test_arrow_does_without_pandas() -> None:
    arrays = "import sys, pyarrow as pa; pa.array([1]); print('pandas' in sys.modules)"
    assert python(f"import llmdata.storage.no_pandas; {arrays}") == "False"
    both = "import llmdata.storage.no_pandas, pandas, pyarrow as pa; print(len(pa.table({'a': [1, 2]}).to_pandas()))"
    assert python(both) == "2"
