"""Manifests: what finished tasks left behind, and the stage's stamp."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmdata.errors import ConfigError, InputError
from llmdata.storage.manifest import (
    Manifest,
    Output,
    check_stage,
    digest,
    find,
    forget,
    manifests,
    output_of,
    save_stamp,
    sha256_of,
    stamp_of,
)
from llmdata.storage.place import Place

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    st.builds(
        Manifest,
        task=st.text("abcdefg-0123456789", min_size=1, max_size=20),
        fingerprint=_TEXT,
        inputs=st.lists(st.dictionaries(_TEXT, _TEXT | st.integers()), max_size=2),
        outputs=st.lists(st.builds(Output, _TEXT, _TEXT, st.integers(0), st.integers(0)), max_size=3),
        counts=st.dictionaries(_TEXT, st.integers()),
        cost=st.dictionaries(_TEXT, st.floats(0, 1e6)),
    )
)
def test_manifests_round_trip(tmp_path: Path, manifest: Manifest) -> None:
    folder = Place.of(tmp_path)
    manifest.save(folder)
    assert find(folder, manifest.task) == manifest
    forget(folder, manifest.task)
    assert find(folder, manifest.task) is None


def test_manifests_are_listed_by_name(tmp_path: Path) -> None:
    folder = Place.of(tmp_path)
    for task in ("b", "a", "c"):
        Manifest(task, "f").save(folder)
    assert [manifest.task for manifest in manifests(folder)] == ["a", "b", "c"]
    assert list(manifests(Place.of(tmp_path / "nowhere"))) == []


def test_a_broken_manifest_says_what_to_do(tmp_path: Path) -> None:
    (Place.of(tmp_path) / ".llmdata" / "tasks" / "a.json").write_bytes(b'{"task": "a", "outputs": []}')
    with pytest.raises(InputError, match="remove it, and the same command runs its task again"):
        find(Place.of(tmp_path), "a")


def test_digests_know_values_not_their_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest([1, 2]) != digest([2, 1])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(data=st.binary(max_size=200), start=st.integers(0, 250), length=st.none() | st.integers(0, 250))
@pytest.mark.parametrize("where", ["local", "memory"])
def test_sha256_of_a_file_or_a_part(tmp_path: Path, where: str, data: bytes, start: int, length: int | None) -> None:
    place = Place.of(tmp_path / "f" if where == "local" else "memory://digests/f")
    place.write_bytes(data)
    end = None if length is None else start + length
    assert sha256_of(place, start, end) == hashlib.sha256(data[start:end]).hexdigest()


def test_outputs_describe_finished_files(tmp_path: Path) -> None:
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "part").write_bytes(b"abc")
    expected = Output("final/part", hashlib.sha256(b"abc").hexdigest(), 3, 7)
    assert output_of(Place.of(tmp_path), "final/part", 7) == expected


def test_the_stage_stamp(tmp_path: Path) -> None:
    folder = Place.of(tmp_path)
    assert stamp_of(folder) is None
    save_stamp(folder, "clean", {"settings": {"a": 1}})
    assert stamp_of(folder) == {"stage": "clean", "settings": {"a": 1}}
    check_stage(folder, "clean")
    with pytest.raises(
        ConfigError, match=r"holds what the stage clean made, so train needs another folder.*/stage\.json; if"
    ):
        check_stage(folder, "train")
