"""Places: paths and addresses, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmdata.errors import InputError, LlmdataError, StoppedEarly
from llmdata.storage.place import PARTIAL, Place, remove_partials


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return Place.of(tmp_path / "folder").mkdir()
    place = Place.of(f"memory://{tmp_path.name}/folder")
    place.remove()
    return place.mkdir()


def test_names_and_parents(folder: Place) -> None:
    file = folder / "a" / "b.txt"
    assert file.name == "b.txt"
    assert file.parent.name == "a"
    assert Place.of(str(file)) == file
    assert not file.exists()


def test_files_are_written_read_listed_and_removed(folder: Place) -> None:
    (folder / "b.txt").write_bytes(b"two")
    (folder / "a.txt").write_bytes(b"one")
    (folder / "sub" / "c.txt").write_bytes(b"three")
    (folder / ".hidden" / "d.txt").write_bytes(b"four")
    assert [place.name for place in folder.children("*.txt")] == ["a.txt", "b.txt"]
    assert [place.name for place in folder.walk()] == ["a.txt", "b.txt", "c.txt"]
    assert (folder / "a.txt").read_bytes() == b"one"
    assert (folder / "sub").is_dir()
    assert (folder / "sub" / "c.txt").size() == 5
    sizes = {"a.txt": 3, "sub/c.txt": 4, "nowhere": 0, "a.txt/b": 3}
    assert [name for name, size in sizes.items() if (folder / name).has_size(size)] == ["a.txt"]
    (folder / "sub").remove()
    (folder / "sub").remove()
    assert not (folder / "sub" / "c.txt").exists()
    assert (folder / "nowhere").children() == []


def test_a_failed_write_leaves_the_old_file(folder: Place) -> None:
    file = folder / "a.txt"
    file.write_bytes(b"old")
    with pytest.raises(RuntimeError), file.writer() as stream:  # noqa: PT012
        stream.write(b"new, but")
        raise RuntimeError
    assert file.read_bytes() == b"old"
    assert [place.name for place in folder.children()] == ["a.txt"]


def test_the_stamp_changes_with_the_file(tmp_path: Path) -> None:
    file = Place.of(tmp_path / "a")
    file.write_bytes(b"1")
    before = file.stamp()
    assert file.stamp() == before
    os.utime(file.path, ns=(1, 1))
    assert file.stamp() != before


def test_equal_bytes_leave_the_file_and_its_stamp(tmp_path: Path) -> None:
    place = Place.of(tmp_path / "a")
    for old, new, stays in (
        (b"", b"", True),
        (b"one", b"one", True),
        (b"one", b"two", False),
        (b"one", b"ones", False),
    ):
        place.write_bytes(old)
        os.utime(tmp_path / "a", ns=(1, 1))
        place.write_bytes(new)
        assert (place.stamp() == "1") is stays
        assert place.read_bytes() == new
    large = bytes(3_000_000)
    place.write_bytes(large)
    place.write_bytes(large[:-1] + b"x")
    assert place.read_bytes()[-1:] == b"x"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_is_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"one")
    (tmp_path / "a").symlink_to(tmp_path / "elsewhere")
    Place.of(tmp_path / "a").write_bytes(b"one")
    assert not (tmp_path / "a").is_symlink()


def test_missing_and_unreadable_files_are_input_errors(folder: Place) -> None:
    with pytest.raises(InputError, match="no such file"):
        (folder / "nowhere").read_bytes()
    (folder / "a.json").write_bytes(b"{")
    with pytest.raises(InputError, match="not valid JSON"):
        (folder / "a.json").read_json()


def test_unknown_protocols_are_input_errors() -> None:
    with pytest.raises(InputError):
        Place.of("nosuchprotocol://bucket/file")


def test_only_local_places_have_a_path() -> None:
    with pytest.raises(LlmdataError, match="local disk"):
        Place.of("memory://bucket/file").local()


def test_two_who_write_one_file_at_once_do_not_meet(tmp_path: Path) -> None:
    """Two machines on one disk may have the same process id: whoever ends last has written it, and it is whole."""
    place = Place.of(tmp_path / "part.parquet")
    with place.writer() as outer, place.writer() as inner:
        inner.write(b"of the inner one")
        outer.write(b"of the outer one, which is longer")
        names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 2
    assert all(name.startswith("part.parquet.") and name.endswith(PARTIAL) for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["part.parquet"]
    assert place.read_bytes() == b"of the outer one, which is longer"


def test_several_may_remove_a_folder_at_once(tmp_path: Path) -> None:
    """Ranks of a shared run that find it finished tidy up, each of them."""
    place = Place.of(tmp_path / "encoded")
    for number in range(500):
        (place / f"{number % 7}").mkdir()
        Path(place.path, f"{number % 7}", f"{number}.tokens").touch()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: place.remove(), range(4)))
    assert not place.exists()


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    killed = "import os; from llmdata.storage.place import Place\nwith Place.of('part-0.parquet').writer(): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", killed], cwd=tmp_path, check=False).returncode == 9
    (tmp_path / f"part-0.parquet.123{PARTIAL}").touch()  # as earlier versions named them
    (tmp_path / "part-1.parquet").touch()
    assert len(list(tmp_path.iterdir())) == 3
    remove_partials(Place.of(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["part-1.parquet"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_stops_the_run_and_says_what_to_do(tmp_path: Path, code: int) -> None:
    message = r"the disk is full .* run the same command again"
    with pytest.raises(StoppedEarly, match=message), Place.of(tmp_path / "a").writer():
        raise OSError(code, "no space")
    assert list(tmp_path.iterdir()) == []


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(_JSON)
def test_json_round_trips(tmp_path: Path, value: object) -> None:
    file = Place.of(tmp_path / "a.json")
    file.write_json(value)
    assert file.read_json() == value
