"""The templates under docs/schedule: the scheduler's own tool accepts each, and each command is one of ours."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import command, environment

TEMPLATES = Path(__file__).parents[1] / "docs" / "schedule"


def options_of(command: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in command if word.startswith("--")}


def known_options(name: str) -> set[str]:
    done = subprocess.run(command(name, "--help"), capture_output=True, text=True, check=True, env=environment())
    return set(re.findall(r"--[a-z-]+", done.stdout))


def commands() -> list[list[str]]:
    """Every command line of ours in the templates, without redirections."""
    found = []
    for line in (TEMPLATES / "llmdata.cron").read_text().splitlines():
        if re.match(r"[\d*]", line):
            found.append(shlex.split(line.split(None, 6)[6].split(" >>")[0])[1:])
    service = (TEMPLATES / "llmdata.service").read_text()
    found += [shlex.split(line)[1:] for line in re.findall(r"^ExecStart=(.*)$", service, re.M)]
    job = yaml.safe_load((TEMPLATES / "llmdata-job.yaml").read_text())
    container = job["spec"]["template"]["spec"]["containers"][0]
    found.append([*container["command"][1:], *container["args"]])
    return found


def test_the_commands_are_ours() -> None:
    lines = commands()
    assert len(lines) == 4
    for line in lines:
        assert options_of(line) <= known_options(line[0]), line


def test_cron_takes_the_table(tmp_path: Path) -> None:
    if not shutil.which("crontab"):
        pytest.skip("cron is not installed")
    done = subprocess.run(["crontab", "-n", TEMPLATES / "llmdata.cron"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    for name in ("llmdata.service", "llmdata.timer"):
        text = (TEMPLATES / name).read_text()
        (tmp_path / name).write_text(text.replace("/srv/llmdata/.venv/bin/llmdata", "/bin/true"))
    units = [str(tmp_path / "llmdata.service"), str(tmp_path / "llmdata.timer")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_kubernetes_takes_the_job() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    job = yaml.safe_load((TEMPLATES / "llmdata-job.yaml").read_text())
    validate.validate(job, "1.31", strict=True)
    spec = job["spec"]
    arguments = spec["template"]["spec"]["containers"][0]["args"]
    assert f"--world-size={spec['completions']}" in arguments
