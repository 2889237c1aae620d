"""Verification passes on an untouched folder and names the file for each way of damaging it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmdata.audit.folders import look_at
from llmdata.audit.verify import verify
from llmdata.document import Rejection
from llmdata.engine.session import Session
from llmdata.errors import InputError
from llmdata.storage.manifest import find, output_of, save_stamp, stamp_of
from llmdata.storage.place import Place
from tests.audit.folders import clean_folder, document, write_documents, write_rejections


def problems(folder: Place) -> list[str]:
    return verify(look_at(str(folder)), Session()).problems


def test_an_untouched_folder_agrees(tmp_path: Path) -> None:
    report = verify(look_at(str(clean_folder(tmp_path))), Session())
    assert report.problems == []
    assert report.notes == []
    assert (report.files, report.tasks) == (6, 3)
    assert report.bytes > 0


def flip_a_byte(folder: Place) -> None:
    path = folder / "final/part-00000.parquet"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.local().write_bytes(data)


def cut_a_file(folder: Place) -> None:
    path = (folder / "01-minhash/part-00001.parquet").local()
    path.write_bytes(path.read_bytes()[:-10])


def lose_a_file(folder: Place) -> None:
    (folder / "rejected/part-01-00000.parquet").remove()


def add_a_file(folder: Place) -> None:
    write_documents(folder, "final/part-00001.parquet", [document(99)])


def claim(folder: Place, path: str, task: str) -> None:
    """Let the manifest of `task` vouch for `path` as it is now."""
    manifest = find(folder, task)
    assert manifest is not None
    rows = next(output.rows for output in manifest.outputs if output.path == path)
    manifest.outputs[:] = [
        output_of(folder, path, rows) if output.path == path else output for output in manifest.outputs
    ]
    manifest.save(folder)


def lose_a_row(folder: Place) -> None:
    write_documents(folder, "final/part-00000.parquet", [document(item) for item in (2, 3, 4, 6, 7)])
    claim(folder, "final/part-00000.parquet", "pass-02-00000")


def change_a_reason(folder: Place) -> None:
    write_rejections(folder, "rejected/part-02-00000.parquet", [Rejection(document(9), "minhash", "whim", "")])
    claim(folder, "rejected/part-02-00000.parquet", "pass-02-00000")


def change_a_count(folder: Place) -> None:
    path = folder / ".llmdata/tasks/pass-02-00000.json"
    manifest = path.read_json()
    manifest["counts"]["minhash"]["in"] = 8
    path.write_json(manifest)


def change_the_funnel(folder: Place) -> None:
    path = folder / "funnel.json"
    funnel = path.read_json()
    funnel["stages"][1]["rejected"]["empty"] = 1
    path.write_json(funnel)


def break_the_funnel(folder: Place) -> None:
    (folder / "funnel.json").write_bytes(b'{"stages": [1]}')


def lose_the_funnel(folder: Place) -> None:
    (folder / "funnel.json").remove()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (flip_a_byte, "final/part-00000.parquet: sha256"),
        (cut_a_file, "01-minhash/part-00001.parquet"),
        (lose_a_file, "rejected/part-01-00000.parquet: missing"),
        (add_a_file, "final/part-00001.parquet: no task"),
        (lose_a_row, "final/part-00000.parquet: 5 rows"),
        (change_a_reason, "rejected/part-02-00000.parquet: 0 documents rejected by minhash (duplicate)"),
        (change_a_count, "task pass-02-00000"),
        (change_the_funnel, "funnel.json"),
        (break_the_funnel, "funnel.json: not a funnel"),
        (lose_the_funnel, "funnel.json"),
    ],
)
def test_damage_is_found_and_named(tmp_path: Path, damage: Callable[[Place], None], named: str) -> None:
    folder = clean_folder(tmp_path)
    damage(folder)
    found = problems(folder)
    assert found
    assert named in found[0]


def test_passes_that_were_pruned_may_be_absent(tmp_path: Path) -> None:
    folder = clean_folder(tmp_path)
    stamp = stamp_of(folder)
    assert stamp is not None
    (folder / "01-minhash").remove()
    assert problems(folder)
    save_stamp(folder, "clean", stamp | {"pruned": ["01-minhash"]})
    assert problems(folder) == []


def test_an_unfinished_folder_is_checked_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = clean_folder(tmp_path)
    for path in ("funnel.json", ".llmdata/tasks/pass-02-00000.json"):
        (folder / path).remove()
    stamp = stamp_of(folder)
    assert stamp is not None
    save_stamp(folder, "clean", stamp | {"finished": False})
    report = verify(look_at(str(folder)), Session())
    assert report.problems == []
    assert "not finished" in report.notes[0]
    flip_a_byte(folder)
    assert problems(folder) == []  # no finished task vouches for it yet
    cut_a_file(folder)
    assert "01-minhash/part-00001.parquet" in problems(folder)[0]


def test_a_whole_run_is_checked_stage_by_stage(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: demo\n")
    folder = clean_folder(tmp_path / "clean")
    assert problems(Place.of(tmp_path)) == []
    flip_a_byte(folder)
    assert "clean/final/part-00000.parquet" in problems(Place.of(tmp_path))[0]


def test_a_torn_manifest_is_a_problem_with_its_name(tmp_path: Path) -> None:
    folder = clean_folder(tmp_path)
    path = folder / ".llmdata/tasks/pass-01-00000.json"
    path.local().write_text(json.dumps(path.read_json())[:-20])
    assert "pass-01-00000.json" in problems(folder)[0]


def test_there_is_nothing_to_verify_in_a_plain_file(tmp_path: Path) -> None:
    folder = clean_folder(tmp_path)
    with pytest.raises(InputError, match="a run or a stage's folder"):
        verify(look_at(str(folder / "final")), Session())
