"""Hostile pages and hostile circumstances: what a page, a file or a fault costs, and what it must not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmdata.audit.folders import look_at
from llmdata.audit.verify import verify
from llmdata.engine.session import Session
from llmdata.errors import ChangedError, InputError
from llmdata.pipeline import chain
from llmdata.pipeline import clean as driver
from llmdata.pipeline.clean_config import CleanConfig
from llmdata.storage.place import Place
from tests.e2e import hostile
from tests.e2e.conftest import Llmdata, command, data_files, environment
from tests.e2e.corpus import prose

SHARED = Path(os.environ.get("LLMDATA_SHARED", Path(__file__).parents[3] / "shared"))

REASONS = {
    "segfault": "crashed",
    "exit": "crashed",
    "loop": "timeout",
    "allocate": "memory",
    "raise": "error",
    "recurse": "error",
    "no memory": "memory",
}


STAGES = ["extract", "url_dedup", "language"]


def clean(warcs: Path, out: Path, stages: list[str] = STAGES, **settings: Any) -> driver.CleanResult:
    config = CleanConfig(input=[str(warcs)], stages=stages, **settings)
    return driver.run_clean(Place.of(out), config, Session(workers=2))


def problems(out: Path) -> list[str]:
    return verify(look_at(str(out)), Session()).problems


def reasons_of(out: Path) -> dict[tuple[str, str], str]:
    """(url, stage) → reason of every rejected document."""
    table = pa.concat_tables([pq.read_table(path) for path in sorted((out / "rejected").glob("*.parquet"))])
    return {(row["url"], row["stage"]): row["reason"] for row in table.select(["url", "stage", "reason"]).to_pylist()}


def texts_of(out: Path) -> list[str]:
    return sorted(pq.read_table(out / "final", columns=["text"])["text"].to_pylist())


def rows_of(funnel: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["stage"]: row for row in funnel["stages"]}


def test_a_page_that_kills_its_worker_costs_that_page(
    warcs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segfault, endless loop in C, endless allocation, exit, in the first pass and behind a shuffle."""
    for name, address in hostile.FILTERS.items():
        monkeypatch.setitem(chain.FILTERS, name, address)
    monkeypatch.setattr(driver, "run_pass_task", hostile.run_pass_task)
    config = CleanConfig(
        input=[str(warcs)],
        stages=["extract", "fineweb", "url_dedup", "c4"],
        task_bytes=20_000,
        limits={"cpu_seconds": 6.0, "memory": 500_000_000},  # which a busy machine takes seconds to hand out
    )
    for workers in (2, 1):
        out = tmp_path / f"workers-{workers}"
        result = driver.run_clean(Place.of(out), config, Session(workers=workers))
        expected = {
            (f"http://example.org/page-{page}.html", stage): REASONS[kind]
            for stage, acts in (("fineweb", hostile.EARLY), ("c4", hostile.LATE))
            for page, kind in acts.items()
        }
        assert reasons_of(out) == expected
        rows = rows_of(result.funnel)
        assert [rows[stage]["in"] for stage in ("read", "fineweb", "c4")] == [120, 120, 112]
        assert rows["c4"]["kept"] == 110
        assert problems(out) == []
    assert data_files(tmp_path / "workers-1") == data_files(tmp_path / "workers-2")


@pytest.mark.skipif(not (SHARED / "data/warc-odd").is_dir(), reason="needs the odd archives")
def test_odd_archives_are_read_or_rejected_with_a_reason(tmp_path: Path, llmdata: Llmdata) -> None:
    """Truncated, damaged, misnamed, empty: none stops the run, and none is passed over."""
    files = [path for path in sorted((SHARED / "data/warc-odd").rglob("*")) if path.is_file()]
    for number, path in enumerate(files):
        name = path.name if "arc" in path.name.lower() or "wet" in path.name.lower() else f"{path.name}.warc"
        shutil.copy(path, tmp_path / f"{number:03}-{name}")
    inputs = sorted(tmp_path.glob("[0-9][0-9][0-9]-*"))
    done = llmdata("clean", *inputs, "--layout", "warc", "--out", "out", "--stages", "extract", "--json")
    funnel = json.loads(done.stdout)["funnel"]
    read = rows_of(funnel)["read"]
    assert read["kept"] > 100
    assert sum(read["rejected"].values()) == read["in"] - read["kept"]
    assert "error" not in read["rejected"]
    table = pq.read_table(tmp_path / "out/final").to_pylist()
    table += [row for path in (tmp_path / "out/rejected").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert {Path(row["file_path"]).name for row in table} >= {path.name for path in inputs if not path.stat().st_size}
    assert problems(tmp_path / "out") == []


BROKEN_LINES = [
    b'{"text": "broken',
    b"",
    b"null",
    b"[1, 2]",
    b'{"text": null}',
    b'{"text": 12}',
    b'{"text": ["a"]}',
    b'{"nothing": 1}',
    b'{"text": "a \\ud800 b", "url": "http://x/\\udfff", "id": "\\ud83d"}',
    b"[" * 100_000,
    b'{"text": "\xff\xfe"}',
    b"\x00\x00",
    b'{"text": "x", "number": ' + b"9" * 5000 + b"}",
]


def test_broken_lines_cost_themselves(tmp_path: Path, llmdata: Llmdata) -> None:
    """Wherever they stand, the first line included."""
    good = [json.dumps({"text": "\n".join(prose(number)), "url": f"http://e.org/{number}"}) for number in range(3)]
    lines = [*BROKEN_LINES, *(line.encode() for line in good)]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines) + b"\n\x00")
    pq.write_table(pa.table({"text": pa.nulls(5, pa.string()), "url": ["u"] * 5}), tmp_path / "nulls.parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    done = llmdata("clean", "in.jsonl", "nulls.parquet", "none.parquet", "--out", "out", "--json")
    funnel = json.loads(done.stdout)["funnel"]
    assert funnel["in"] == len(BROKEN_LINES) - 1 + 3 + 1 + 5
    assert rows_of(funnel)["fineweb"]["kept"] == 3
    assert problems(tmp_path / "out") == []


def wait_for_task(workdir: Path, process: subprocess.Popen[str]) -> None:
    tasks = workdir / "clean/.llmdata/tasks"
    while process.poll() is None and not (tasks.exists() and any(tasks.iterdir())):
        time.sleep(0.01)


def start(recipe: Path, workdir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("run", recipe, "--workdir", workdir, "--workers", "2", "--until", "clean"),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("victims", ["workers", "fork server"])
def test_processes_killed_from_outside_cost_nothing(
    victims: str, recipe: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """An operator or a kernel short of memory kills any of our processes: the run still ends, with the same bytes."""
    workdir = tmp_path / "run"
    process = start(recipe, workdir)
    wait_for_task(workdir, process)
    everybody = psutil.Process(process.pid).children(recursive=True)
    workers = [one for one in everybody if one.ppid() != process.pid]
    servers = {one.ppid() for one in workers}
    for one in everybody:
        if one.pid in servers if victims == "fork server" else one in workers:
            one.kill()
    _, stderr = process.communicate(timeout=120)
    assert (process.returncode, "Traceback" in stderr) == (0, False), stderr
    expected = {name: data for name, data in data_files(undisturbed).items() if name.startswith("clean/")}
    assert data_files(workdir) == expected


def test_nobody_outlives_a_killed_run(recipe: Path, tmp_path: Path) -> None:
    process = start(recipe, tmp_path / "run")
    wait_for_task(tmp_path / "run", process)
    everybody = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    _, stderr = process.communicate(timeout=60)  # returns when the last process that holds our pipe is gone
    assert "Traceback" not in stderr
    _, alive = psutil.wait_procs(everybody, timeout=60)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize("moment", ["run/.llmdata/lock", "run/clean/.llmdata/journal", "run/clean/01-fineweb"])
def test_ctrl_c_ends_quietly(moment: str, recipe: Path, tmp_path: Path) -> None:
    """As a terminal sends it, to every process of the group: at the start, as workers are made, and as they work."""
    process = start(recipe, tmp_path / "run")
    while process.poll() is None and not (tmp_path / moment).exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in stderr) == (130, False), stderr
    assert stderr.endswith("Interrupted. The same command goes on where this one stopped.\n")


def test_output_that_nobody_reads_ends_quietly(undisturbed: Path) -> None:
    shell = f"{' '.join(command('inspect', undisturbed, '--rejected'))} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (141, "", "")


def test_a_dry_run_tells_what_is_done_and_what_has_changed(undisturbed: Path, recipe: Path, llmdata: Llmdata) -> None:
    def states(*options: str) -> list[str]:
        done = llmdata("run", recipe, "--workdir", undisturbed, "--dry-run", "--json", *options)
        return [stage["state"] for stage in json.loads(done.stdout)["plan"]]

    assert states() == ["done"] * 4
    assert states("--set", "tokenize.shard_tokens=6K") == ["done", "done", "changed", "changed"]


@pytest.fixture(scope="module")
def finished(warcs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean folder that is finished."""
    out = tmp_path_factory.mktemp("finished") / "out"
    clean(warcs, out)
    return out


@pytest.fixture
def cleaned(finished: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


def test_what_is_damaged_or_gone_is_made_again(cleaned: Path, warcs: Path) -> None:
    before = data_files(cleaned)
    next((cleaned / "final").iterdir()).unlink()
    (cleaned / "funnel.json").write_text("{damaged")
    (cleaned / ".llmdata/tasks/pass-01-00000.json").write_text('{"task": "pass-0')
    (cleaned / "final/part-00000.parquet.77.partial").write_text("left by a killed run")
    assert clean(warcs, cleaned).fresh
    assert data_files(cleaned) == before
    assert problems(cleaned) == []
    assert not list(cleaned.rglob("*.partial"))
    (cleaned / ".llmdata/tasks/pass-02-00000.json").unlink()
    assert clean(warcs, cleaned).fresh
    assert data_files(cleaned) == before
    assert not clean(warcs, cleaned).fresh


def test_a_damaged_funnel_is_made_again(cleaned: Path, warcs: Path) -> None:
    (cleaned / "funnel.json").write_text("[]")
    assert rows_of(clean(warcs, cleaned).funnel)["read"]["in"] == 120


def test_a_damaged_stamp_is_refused_with_what_to_do(cleaned: Path, warcs: Path) -> None:
    (cleaned / ".llmdata/stage.json").write_text("[]")
    with pytest.raises(InputError, match=r"stage.json: damaged. Remove"):
        clean(warcs, cleaned)


def test_a_damaged_recipe_of_the_run_is_refused_with_what_to_do(
    undisturbed: Path, recipe: Path, tmp_path: Path, llmdata: Llmdata
) -> None:
    shutil.copytree(undisturbed, tmp_path / "run")
    (tmp_path / "run/recipe.yaml").write_bytes(b"\xff: [")
    assert "Remove the file" in llmdata("run", recipe, "--workdir", "run", check=2).stderr
    (tmp_path / "run/recipe.yaml").unlink()
    assert "nothing to do" in llmdata("run", recipe, "--workdir", "run").stderr


def test_a_changed_limit_is_a_change(cleaned: Path, warcs: Path) -> None:
    """Who raises the limit because pages were given up wants these pages."""
    with pytest.raises(ChangedError, match=r"clean\.limits was"):
        clean(warcs, cleaned, limits={"cpu_seconds": 60})


def test_keep_all_ends_with_the_same_documents(finished: Path, warcs: Path, tmp_path: Path) -> None:
    clean(warcs, tmp_path, ["url", *STAGES], keep="all")
    assert [path.name for path in sorted(tmp_path.glob("0*"))] == ["01-extract"]
    assert texts_of(tmp_path) == texts_of(finished)


@pytest.mark.parametrize("stages", [["url_dedup", "extract"], ["url", "language", "extract"]])
def test_pages_are_not_judged_before_they_have_a_text(stages: list[str], warcs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="put the stage `extract` before"):
        clean(warcs, tmp_path, stages)


def test_keep_final_leaves_the_last_pass_alone(finished: Path, warcs: Path, tmp_path: Path) -> None:
    clean(warcs, tmp_path, keep="final")
    assert list(tmp_path.glob("0*")) == []
    assert not (tmp_path / "dedup/url_dedup/keys").exists()
    assert texts_of(tmp_path) == texts_of(finished)
    assert not clean(warcs, tmp_path, keep="final").fresh
    assert problems(tmp_path) == []


def test_one_folder_is_one_run_however_it_is_named(recipe: Path, tmp_path: Path, llmdata: Llmdata) -> None:
    """Blanks, umlauts and glob characters in names; relative, absolute, with a slash behind."""
    site = tmp_path / "my site [1]"
    site.mkdir()
    (site / "index.html").write_text("<p>Nothing but a page.</p>" + "<p>".join(prose(1)))
    mine = tmp_path / "Rezept für mich.yaml"
    mine.write_text(
        f"crawl: {{site: {{folder: '{site}', port: 8793}}}}\n"
        "clean: {stages: [extract, url_dedup]}\ntokenizer: {vocab_size: 300}\ntokenize: {val: none}\n"
    )
    llmdata("run", mine, "--workdir", "Lauf [ä] 1")
    for name in ("./Lauf [ä] 1/", f"{tmp_path}/./Lauf [ä] 1//"):
        assert "nothing to do" in llmdata("run", mine, "--workdir", name).stderr
    path = pq.read_table(tmp_path / "Lauf [ä] 1/clean/final").to_pylist()[0]["file_path"]
    assert path == "crawl/crawl-00000.warc.gz"
