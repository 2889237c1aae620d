"""Object storage: whole or not at all, however the store behaves; one run at a time; no secrets anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

pytest.importorskip("s3fs")
pytest.importorskip("moto")

from llmdata.errors import BusyError, InputError, LlmdataError, StoppedEarly
from llmdata.storage import lease, objects
from llmdata.storage.lock import holder, locked
from llmdata.storage.place import Place, remove_partials
from tests.storage.s3 import S3, SECRET, s3_server


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3]:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # another server, other settings
    monkeypatch.setenv("LLMDATA_CACHE", str(tmp_path / "cache"))
    with s3_server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try twice and wait a second, so that what fails for good does so at once."""
    monkeypatch.setattr(objects, "REQUEST_ATTEMPTS", 2)
    monkeypatch.setattr(objects, "READ_TIMEOUT", 1)


def place(path: str) -> Place:
    return Place.of(f"s3://corpus/{path}")


def test_an_object_is_a_file_like_any_other(s3: S3) -> None:
    file = place("folder/file.bin")
    assert not file.exists()
    assert file.parent.children() == []
    file.write_bytes(b"0123456789")
    assert file.exists()
    assert file.size() == 10
    assert [size for size in (9, 10) if file.has_size(size)] == [10]
    assert not place("folder/other.bin").has_size(10)
    assert file.parent.is_dir()
    assert [str(entry) for entry in file.parent.parent.walk()] == ["s3://corpus/folder/file.bin"]
    first = file.stamp()
    file.write_bytes(b"another")
    assert file.stamp() != first
    assert file.read_bytes() == b"another"
    assert file.on_disk().read_bytes() == b"another"
    file.parent.remove()
    assert s3.objects() == {}


def test_what_another_process_wrote_is_there_at_once(s3: S3) -> None:
    """No listing is remembered."""
    folder = place("shared")
    (folder / "a").write_bytes(b"1")
    assert [entry.name for entry in folder.children()] == ["a"]
    write = "import sys; from llmdata.storage.place import Place; Place.of(sys.argv[1]).write_bytes(b'2')"
    subprocess.run([sys.executable, "-c", write, "s3://corpus/shared/b"], check=True)
    assert (folder / "b").exists()
    assert [entry.name for entry in folder.children()] == ["a", "b"]


@pytest.mark.parametrize("kind", ["500", "503", "cut", "reset"])
def test_a_store_that_fails_now_and_then_costs_time_and_no_byte(s3: S3, kind: str) -> None:
    data = os.urandom(300_000)
    file = place("data.bin")
    s3.faults, s3.kinds = 0.3, (kind,)
    for _ in range(3):
        file.write_bytes(data)
        with file.open() as stream:
            stream.seek(100_000)
            assert stream.read(1000) == data[100_000:101_000]
            stream.seek(0)
            assert stream.read() == data
    assert s3.seen[kind] > 0
    assert s3.uploads() == []


def test_an_answer_that_does_not_come_is_asked_for_again(s3: S3, impatient: None) -> None:
    file = place("data.bin")
    file.write_bytes(b"data")
    s3.faults, s3.kinds, s3.only = 0.4, ("hang",), "GET"
    assert [file.read_bytes() for _ in range(3)] == [b"data"] * 3
    assert s3.seen["hang"] > 0


def test_a_store_that_is_down_ends_the_command_so_that_it_can_go_on(s3: S3, impatient: None) -> None:
    file = place("data.bin")
    file.write_bytes(b"old")
    s3.faults, s3.kinds = 1, ("503",)
    with pytest.raises(StoppedEarly, match=r"s3://corpus/data\.bin: the store failed 2 times"):
        file.write_bytes(b"new")
    with pytest.raises(StoppedEarly, match="Run the same command again"):
        file.read_bytes()
    s3.faults = 0
    assert s3.objects() == {"data.bin": b"old"}


def write_half(stream: IO[bytes]) -> None:
    stream.write(b"x" * 1000)
    raise ZeroDivisionError


def test_an_exception_while_writing_leaves_nothing(s3: S3) -> None:
    with pytest.raises(ZeroDivisionError), place("half.bin").writer() as stream:
        write_half(stream)
    assert s3.objects() == {}


def test_large_objects_go_up_in_parts_and_leave_none_behind(
    s3: S3, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    import s3fs.core

    monkeypatch.setattr(s3fs.core, "calculate_chunksize", lambda size, **_: 5 << 20)
    file = place("large.bin")
    data = os.urandom(12 << 20)
    file.write_bytes(data)
    assert s3.objects() == {"large.bin": data}
    s3.faults, s3.kinds, s3.only = 1, ("500",), "PUT"
    with pytest.raises(StoppedEarly):
        file.write_bytes(data[::-1])
    s3.faults = 0
    assert s3.objects() == {"large.bin": data}
    assert s3.uploads() == []


def test_uploads_of_a_killed_process_are_given_up_by_the_next_run(s3: S3) -> None:
    folder = place("run")
    assert folder.fs is not None
    for key in ("run/part.bin", "run/deeper/part.bin", "other/part.bin"):
        folder.fs.call_s3("create_multipart_upload", Bucket="corpus", Key=key)
    remove_partials(folder)
    assert sorted(s3.uploads()) == ["other/part.bin", "run/deeper/part.bin"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://nowhere/file", "s3://nowhere/file: The specified bucket does not exist"),
        ("s3://key:secret@corpus/file", "credentials by the environment"),
        ("https://example.org/a?X-Amz-Signature=1", "credentials by the environment"),
    ],
)
def test_a_bad_address_is_named_without_its_secrets(s3: S3, address: str, message: str) -> None:
    with pytest.raises(LlmdataError, match=message) as caught:
        Place.of(address).write_bytes(b"x")
    assert "secret" not in str(caught.value)
    assert "Signature=" not in str(caught.value)
    assert s3.objects() == {}


def test_refused_credentials_say_so(s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(InputError, match="Set AWS_ACCESS_KEY_ID"):
        place("file").read_bytes()


def test_a_missing_object_is_no_fault_of_the_store(s3: S3) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        place("none").read_bytes()


HOLD = """
import sys, time
from llmdata.storage.lock import locked
from llmdata.storage.place import Place
with locked(Place.of("s3://corpus/run"), "llmdata clean"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_run_at_a_time_holds_a_folder_and_a_dead_one_holds_nothing(s3: S3) -> None:
    folder = place("run")
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    who = holder(folder)
    assert who is not None
    assert (who.pid, who.command) == (process.pid, "llmdata clean")
    with pytest.raises(BusyError, match=f"in use by process {process.pid} on"), locked(folder, "llmdata clean"):
        pass
    process.kill()
    process.wait()
    assert holder(folder) is None
    with locked(folder, "llmdata clean"):
        assert holder(folder) is not None
    assert s3.objects() == {}


def test_a_lease_from_another_machine_counts_until_it_runs_out(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place("run")
    (folder / ".llmdata" / "lock").write_json(
        {"host": "elsewhere", "pid": 1, "since": 0.0, "command": "llmdata run", "nonce": "1"}
    )
    with pytest.raises(BusyError, match="process 1 on elsewhere"), locked(folder, "llmdata run"):
        pass
    monkeypatch.setattr(lease, "LEASE", -1.0)
    with locked(folder, "llmdata run"):
        pass
    assert s3.objects() == {}


def test_of_many_that_want_a_folder_one_gets_it(s3: S3) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for _ in range(3)
    ]
    said = []
    for process in processes:
        assert process.stdout is not None
        said.append(process.stdout.readline())
    assert said.count(b"held\n") == 1
    for process in processes:
        process.communicate(b"")


def test_no_secret_reaches_an_object(s3: S3) -> None:
    with locked(place("run"), "llmdata run"):
        assert not any(SECRET.encode() in value for value in s3.objects().values())
