"""A run as jobs of a real Slurm on this machine; needs Debian's slurmctld, slurmd, slurm-client and munge, and root."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import command, data_files, environment

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not all(map(shutil.which, ("slurmctld", "slurmd", "munged", "sbatch"))) or os.geteuid() != 0,
        reason="needs Slurm and root",
    ),
]

CONFIG = """\
ClusterName=test
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SchedulerParameters=batch_sched_delay=1,sched_interval=1
NodeName={host} CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A cluster of this machine; gives the environment for its commands."""
    folder = tmp_path_factory.mktemp("slurm")
    host = socket.gethostname().split(".")[0]
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=host, folder=folder, cpus=os.cpu_count()))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    socket_path = folder / "munge.socket"
    with config.open("a") as stream:
        stream.write(f"AuthInfo=socket={socket_path}\n")
    munged = ["munged", "-F", "-f", f"--key-file={key}", f"--socket={socket_path}", f"--pid-file={folder}/munge.pid"]
    munged += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    daemons = [subprocess.Popen(munged, stderr=subprocess.DEVNULL)]
    while not socket_path.exists():
        assert daemons[0].poll() is None, (folder / "munge.log").read_text()
    env = {"SLURM_CONF": str(config)}
    for daemon in (["slurmctld", "-D", "-c", "-f", str(config)], ["slurmd", "-D", "-f", str(config), "-N", host]):
        daemons.append(subprocess.Popen(daemon, env={**os.environ, **env}, stderr=subprocess.DEVNULL))
    while "idle" not in _said(["sinfo", "-h", "-o", "%T"], env):
        assert all(daemon.poll() is None for daemon in daemons), (folder / "slurmctld.log").read_text()
        time.sleep(0.2)
    yield env
    for daemon in reversed(daemons):
        daemon.terminate()
        daemon.wait()


def _said(arguments: list[str], env: dict[str, str]) -> str:
    return subprocess.run(arguments, env={**os.environ, **env}, capture_output=True, text=True, check=False).stdout


def test_a_run_of_jobs_makes_the_same_bytes_also_when_one_is_sent_back(
    slurm: dict[str, str], recipe: Path, undisturbed: Path, tmp_path: Path
) -> None:
    options = ("--slurm", "--tasks", "4", "--cpus", "1", "--workdir", tmp_path / "run", "--go")
    done = subprocess.run(
        command("submit", recipe, *options, "--scripts", tmp_path / "slurm"),
        env=environment(**slurm),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    first = next(
        line.split(": ")[1] for line in done.stdout.splitlines() if line.startswith("clean-1: ") and "$" not in line
    )
    while not (state := _said(["squeue", "-h", "-o", "%i %T", "-j", first], slurm)) or "RUNNING" not in state:
        time.sleep(0.1)
    running = next(line.split()[0] for line in state.splitlines() if "RUNNING" in line)
    subprocess.run(["scontrol", "requeue", running], env={**os.environ, **slurm}, check=True)
    while _said(["squeue", "-h"], slurm).strip():
        time.sleep(0.5)
    logs = "".join(path.read_text() for path in sorted((tmp_path / "slurm").glob("*.log")))
    expected, found = data_files(undisturbed), data_files(tmp_path / "run")
    assert sorted(found) == sorted(expected), logs
    assert [name for name in expected if found[name] != expected[name]] == []
