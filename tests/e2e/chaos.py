"""Faults done to a run while it works, and what came of each.

A trial is one run folder, on a small tmpfs of its own, to which faults are done one after another; the same command is
given again after each that ended it. Which faults a trial has is dealt from one deck, so that every kind meets every
stage; everything else that is left to chance comes from the trial's seed.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.e2e.conftest import command, data_files, environment, losses

STAGES = ("clean 1/2", "shuffle", "clean 2/2", "tokenizer", "tokenize", "train", "report")
SPAN = dict(zip(STAGES, (1.5, 0.1, 0.6, 0.2, 0.4, 1.5, 0.05), strict=True))
"""About how many seconds a stage of the tiny run takes: a fault strikes somewhere in this time."""
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
SLEEP = Path(__file__).parent / "faked_clock"
PATIENCE = 600
FIRST_TASKS = 9
"""Tasks of the tiny recipe's first pass."""
FOLDERS = {"clean": "clean", "tokenizer": "tokenizer", "tokens": "tokenize", "model": "train"}


def mount(*arguments: str | Path) -> bool:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False).returncode == 0


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A tmpfs of 64 MB on `folder`; yields False where mounting is not allowed."""
    folder.mkdir(parents=True)
    mounted = mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", folder)
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def faked(clock: Path) -> dict[str, str]:
    """The environment of processes whose clock is off by what the file `clock` says, whenever they look."""
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        # A clock that is set leaves the monotonic one alone, and the times that files already have.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "PYTHONPATH": os.pathsep.join([str(SLEEP), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


class Missed(Exception):
    """The run ended, or needed nothing more, before the fault could do anything."""


@dataclass
class Trial:
    """One run folder and the command that works on it."""

    recipe: Path
    disk: Path
    mounted: bool
    rng: random.Random
    run: Path = field(init=False)
    clock: Path = field(init=False)
    process: subprocess.Popen[str] | None = None
    faketime: bool = False
    at_work: bool = False
    repaired: bool = False
    rerun: bool = False

    def __post_init__(self) -> None:
        self.run = self.disk / "run"
        self.clock = self.disk.with_suffix(".clock")
        self.log = self.disk.with_suffix(".log")
        self.clock.write_text("+0\n")

    def start(self) -> subprocess.Popen[str]:
        if self.process is None:
            self.at_work = False
            with open(self.log, "w") as log:
                self.process = subprocess.Popen(
                    command(
                        "run",
                        self.recipe,
                        "--workdir",
                        self.run,
                        "--workers",
                        "2",
                        *(["--rerun"] if self.rerun else []),
                    ),
                    env=environment(**(faked(self.clock) if self.faketime else {})),
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    text=True,
                )
        return self.process

    def wait(self) -> tuple[int, str]:
        """Let the command end; returns its exit code and what it said."""
        assert self.process is not None
        code = self.process.wait(timeout=PATIENCE)
        self.process = None
        said = self.log.read_text()
        assert "Traceback" not in said, said
        assert "defect of llmdata" not in said, said
        return code, " ".join(said.split())

    def remedy(self, code: int, said: str) -> str | None:
        """Do what the refusal of a command asks for behind something that was made again; None if it asks for nothing.

        Stages know their input files by size and time, so one with the same bytes and a new time counts as changed. A
        checkpoint that has lost a file is left to the user, who may have removed the optimiser's half on purpose.
        """
        if not self.repaired:
            return None
        if code == 2 and "Give --rerun" in said and not self.rerun:
            self.rerun = True
            return "with --rerun"
        lost = re.search(r"(/\S+)/\w+\.safetensors: cannot read the checkpoint .* remove its folder", said)
        if code == 1 and lost and Path(lost[1]).is_dir():
            subprocess.run(["rm", "-r", lost[1]], check=True)
            return "from the checkpoint before"
        return None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.wait()

    def stage(self) -> str | None:
        """The stage that the running command is in, by the lock that it holds; None before the first one."""
        assert self.process is not None
        held = [name for folder, name in FOLDERS.items() if _holds(self.run / folder, self.process.pid)]
        self.at_work = self.at_work or bool(held)
        if not held:  # the report is written when all locks are back
            finished = (self.run / "model/.llmdata/tasks/train.json").exists()
            return "report" if finished and self.at_work and not self.holds() else None
        if held[0] != "clean":
            return held[0]
        if (self.run / "clean/dedup/minhash/.llmdata/tasks/drops.json").exists():
            return "clean 2/2"
        first = list((self.run / "clean/.llmdata/tasks").glob("pass-01-*.json"))
        return "shuffle" if len(first) == FIRST_TASKS else "clean 1/2"

    def holds(self) -> bool:
        """Whether the command holds the run's own lock."""
        return self.process is not None and _holds(self.run, self.process.pid)

    def reach(self, stage: str) -> str:
        """Go on to a random moment in `stage`, or in the next one if that is over; returns which."""
        process = self.start()
        wanted = STAGES.index(stage)
        until = time.monotonic() + PATIENCE
        delay: float | None = None
        while process.poll() is None:
            assert time.monotonic() < until, f"{stage} was not reached"
            now = self.stage()
            if now is not None and STAGES.index(now) >= wanted:
                delay = time.monotonic() + self.rng.uniform(0, SPAN[now]) if delay is None else delay
                if time.monotonic() >= delay:
                    return now
            time.sleep(0.005)
        code, said = self.wait()
        if self.remedy(code, said):
            return self.reach(stage)
        assert code == 0, f"exit {code}: {said}"
        raise Missed

    def finish(self) -> None:
        """Let the command end well."""
        self.start()
        code, said = self.wait()
        while self.remedy(code, said):
            self.start()
            code, said = self.wait()
        assert code == 0, f"exit {code}: {said}"


def _holds(folder: Path, pid: int) -> bool:
    try:
        return bool(json.loads((folder / ".llmdata/lock").read_text())["pid"] == pid)
    except (OSError, ValueError):
        return False


def _refused(code: int, said: str, *wanted: str, codes: tuple[int, ...] = (1, 2, 75)) -> str:
    """A refusal ends with one of `codes` and says all of `wanted`; anything else fails the trial."""
    assert code in codes, f"exit {code}: {said}"
    missing = [words for words in wanted if not re.search(words, said)]
    assert not missing, f"says nothing of {missing}: {said}"
    return "refused clearly"


def kill_a_process(trial: Trial) -> str:
    """SIGKILL of any process of the tree. Of a worker or helper: the command itself must go on to the end."""
    assert trial.process is not None
    pid = trial.process.pid
    tree = [pid]
    try:
        tree += [child.pid for child in psutil.Process(pid).children(recursive=True)]
        victim = trial.rng.choice(tree)
        os.kill(victim, signal.SIGKILL)
    except (psutil.NoSuchProcess, ProcessLookupError):
        raise Missed from None
    if victim == pid:
        trial.wait()
        return "went on"
    return "went on by itself"


def fill_the_disk(trial: Trial) -> str:
    """The disk shrinks to what is used; the command stops with 75; with room again it goes on."""
    disk = os.statvfs(trial.disk)
    used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    if not mount("-o", f"remount,size={used}", trial.disk):
        raise Missed  # it was written to between the two lines
    try:
        code, said = trial.wait()
    finally:
        assert mount("-o", "remount,size=64m", trial.disk)
    if code == 0:
        raise Missed
    return _refused(code, said, "disk is full", "same command", codes=(75,))


def make_read_only(trial: Trial) -> str:
    """The folder turns read-only under the command, by a read-only mount over it: a remount waits for open files."""
    assert mount("--bind", trial.run, trial.run)
    try:
        if not mount("-o", "remount,bind,ro", trial.run):
            raise Missed  # a file was opened for writing between the two lines
        code, said = trial.wait()
    finally:
        subprocess.run(["umount", "-l", str(trial.run)], check=True)
    if code == 0:
        raise Missed
    return _refused(code, said, re.escape(str(trial.run)), "(?i)read-only")


def jump_the_clock(trial: Trial) -> str:
    """A year forward, or a day back, for the command as it runs and all that follow."""
    trial.clock.write_text(trial.rng.choice(["+365d\n", "-1d\n"]))
    return "went on by itself"


def run_twice(trial: Trial) -> str:
    """A second command on the folder is refused by the name of the first, which goes on."""
    first = trial.process
    assert first is not None
    held = trial.holds()
    second = subprocess.run(
        command("run", trial.recipe, "--workdir", trial.run),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "Traceback" not in second.stderr, second.stderr
    if not (held and trial.holds()):
        raise Missed  # the first had ended before the second looked
    said = " ".join(second.stderr.split())
    return _refused(second.returncode, said, f"process {first.pid} on", "Wait for it, stop it, or choose another")


def _spoil(trial: Trial, path: Path, ways: tuple[str, ...]) -> str:
    """Damage the file `path` in one of `ways`; returns which."""
    data, way = path.read_bytes(), trial.rng.choice(ways)
    if way == "flipped":
        at = trial.rng.randrange(len(data))
        data = data[:at] + bytes([data[at] ^ 1 << trial.rng.randrange(8)]) + data[at + 1 :]
    elif way == "cut":
        data = data[: trial.rng.randrange(len(data))]
    elif way == "emptied":
        data = b""
    elif way == "garbage":
        data = trial.rng.randbytes(len(data))
    else:
        others = [other for other in path.parent.iterdir() if other != path and other.suffix == path.suffix]
        data = trial.rng.choice(others).read_bytes() if others else b"{}"
    path.write_bytes(data)
    return way


def inspect(run: Path) -> tuple[int, str]:
    done = subprocess.run(
        command("inspect", run, "--verify"),
        env=environment(COLUMNS="1000"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def spoil_a_shard(trial: Trial) -> str:
    """A data file that a finished task wrote is damaged between two runs.

    `inspect --verify` names it; what it names is removed, and the same command makes it again.
    """
    trial.kill()
    files = []
    for manifest in trial.run.rglob(".llmdata/tasks/*.json"):
        for output in json.loads(manifest.read_text())["outputs"]:
            path = manifest.parents[2] / output["path"]
            if path.exists() and path.stat().st_size and ".llmdata" not in path.relative_to(trial.run).parts:
                files.append(path)
    if not files:
        raise Missed
    path = trial.rng.choice(sorted(set(files)))
    way = _spoil(trial, path, ("flipped", "cut", "emptied"))
    code, said = inspect(trial.run)
    assert code == 1, f"{path} {way}: exit {code}: {said}"
    assert str(path) in said, f"{path} {way}: {said}"
    path.unlink()
    trial.repaired = True
    return "named, rebuilt"


def spoil_a_manifest(trial: Trial) -> str:
    """A manifest is damaged between two runs: the same command heals it, or says what to remove, and then goes on."""
    trial.kill()
    found = sorted(trial.run.rglob(".llmdata/tasks/*.json")) + sorted(trial.run.rglob(".llmdata/stage.json"))
    if not found:
        raise Missed
    path = trial.rng.choice(found)
    way = _spoil(trial, path, ("cut", "garbage", "another's"))
    trial.repaired = True
    trial.start()
    code, said = trial.wait()
    if how := trial.remedy(code, said):
        return f"healed {how}"
    if code == 0:
        return "healed"
    outcome = _refused(code, f"{path.relative_to(trial.run)} {way}: {said}", re.escape(str(path)), "(?i)remove")
    remedy = re.search(r"[Rr]emove (/\S+?)[,.]? ", said)
    subprocess.run(["rm", "-r", remedy[1] if remedy else str(path)], check=True)
    return outcome


KINDS: dict[str, Callable[[Trial], str]] = {
    "a process killed": kill_a_process,
    "disk full": fill_the_disk,
    "output read-only": make_read_only,
    "clock jumps": jump_the_clock,
    "second run": run_twice,
    "shard damaged": spoil_a_shard,
    "manifest damaged": spoil_a_manifest,
}
FAULTS_A_TRIAL = 5


@dataclass(frozen=True)
class Struck:
    """One fault that struck, and what came of it."""

    kind: str
    stage: str
    outcome: str


def deal(trials: int) -> list[list[tuple[str, str]]]:
    """The kinds and stages of each trial's faults, all pairs equally often, in the order of the stages."""
    deck: list[tuple[str, str]] = []
    rng = random.Random(0)
    while len(deck) < trials * FAULTS_A_TRIAL:
        pairs = [(kind, stage) for kind in KINDS for stage in STAGES if (kind, stage) != ("second run", "report")]
        rng.shuffle(pairs)
        deck += pairs
    hands = [deck[start : start + FAULTS_A_TRIAL] for start in range(0, trials * FAULTS_A_TRIAL, FAULTS_A_TRIAL)]
    return [sorted(hand, key=lambda fault: STAGES.index(fault[1])) for hand in hands]


def compare(run: Path, undisturbed: Path) -> None:
    """Fail unless `run` has the bytes of `undisturbed` and `inspect --verify` finds nothing."""
    expected, found = data_files(undisturbed), data_files(run)
    different = [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]
    assert different == []
    assert losses(run) == losses(undisturbed)
    code, said = inspect(run)
    assert code == 0, said


def play(seed: int, faults: list[tuple[str, str]], recipe: Path, undisturbed: Path, folder: Path) -> list[Struck]:
    """Do `faults` to one run; fails unless it ends as `undisturbed`. A run that ends before a fault begins anew."""
    struck: list[Struck] = []
    with small_disk(folder / f"disk-{seed}") as mounted:
        trial = Trial(recipe, folder / f"disk-{seed}", mounted, random.Random(seed))
        trial.faketime = FAKETIME.exists() and any(kind == "clock jumps" for kind, _ in faults)
        try:
            for kind, stage in faults:
                if (kind in ("disk full", "output read-only") and not mounted) or (
                    kind == "clock jumps" and not trial.faketime
                ):
                    continue
                for _ in range(12):
                    try:
                        reached = trial.reach(stage)
                        struck.append(Struck(kind, reached, KINDS[kind](trial)))
                        break
                    except Missed:
                        if trial.process is None:
                            trial.finish()
                            compare(trial.run, undisturbed)
                            subprocess.run(["rm", "-r", str(trial.run)], check=True)
            trial.finish()
            compare(trial.run, undisturbed)
        except BaseException as error:
            error.add_note(f"seed {seed}: dealt {faults}, struck {struck}")
            raise
        finally:
            if trial.process is not None:
                trial.process.kill()
                trial.process.wait()
    return struck


def table(struck: list[Struck]) -> str:
    """Struck by kind and stage, and the outcomes of each kind, as Markdown."""
    by_stage = Counter((one.kind, one.stage) for one in struck)
    rows = [["fault", *STAGES, "struck", "what came of it"]]
    for kind in KINDS:
        outcomes = Counter(one.outcome for one in struck if one.kind == kind)
        counts = [by_stage[kind, stage] for stage in STAGES]
        said = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        rows.append([kind, *map(str, counts), str(sum(counts)), said])
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
