"""The funnel adds up, in the order of the chain, whatever the order of the tasks."""

from __future__ import annotations

import io
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from llmdata.audit.funnel import funnel_of, funnel_table, read_funnel
from llmdata.storage.manifest import Manifest, manifests
from tests.audit.folders import CHAIN, clean_folder, counts


def task(name: str, *stages: tuple[str, int, dict[str, int]]) -> Manifest:
    return Manifest(task=name, fingerprint="", counts=counts(*stages))


FIRST = task("pass-01-00000", ("read", 10, {"no_html": 2}), ("extract", 8, {"empty": 1}))
OTHER = task("pass-01-00001", ("read", 6, {}), ("extract", 6, {"timeout": 1, "empty": 2}))
SECOND = task("pass-02-00000", ("read", 10, {}), ("minhash", 10, {"duplicate": 4}), ("pii", 6, {}))


def test_stages_are_summed_in_the_order_of_the_chain() -> None:
    funnel = funnel_of([SECOND, OTHER, FIRST], ["read", "extract", "minhash", "pii"])
    assert [(row["stage"], row["in"], row["kept"]) for row in funnel["stages"]] == [
        ("read", 16, 14),
        ("extract", 14, 10),
        ("minhash", 10, 6),
        ("pii", 6, 6),
    ]
    assert funnel["stages"][1]["rejected"] == {"empty": 3, "timeout": 1}
    assert list(funnel["stages"][1]["rejected"]) == ["empty", "timeout"]
    assert (funnel["in"], funnel["kept"], funnel["share"]) == (16, 6, 0.375)


def test_what_is_lost_when_a_later_pass_reads_is_a_stage_of_its_own() -> None:
    second = task("pass-02-00000", ("read", 10, {"crashed": 1}), ("minhash", 9, {}))
    funnel = funnel_of([FIRST, OTHER, second], ["read", "extract", "minhash"])
    assert [(row["stage"], row["in"], row["kept"]) for row in funnel["stages"]] == [
        ("read", 16, 14),
        ("extract", 14, 10),
        ("read", 10, 9),
        ("minhash", 9, 9),
    ]


def test_a_chain_without_tasks_is_a_funnel_of_zeros() -> None:
    funnel = funnel_of([], ["read", "extract"])
    assert [row["stage"] for row in funnel["stages"]] == ["read", "extract"]
    assert (funnel["in"], funnel["kept"], funnel["share"]) == (0, 0, 0.0)


@given(st.permutations([FIRST, OTHER, SECOND]))
def test_the_order_of_tasks_does_not_matter(tasks: list[Manifest]) -> None:
    stages = ["read", "extract", "minhash", "pii"]
    assert funnel_of(tasks, stages) == funnel_of([FIRST, OTHER, SECOND], stages)


def test_an_unfinished_folder_has_the_funnel_of_what_is_done(tmp_path: Path) -> None:
    folder = clean_folder(tmp_path)
    whole = read_funnel(folder)
    (folder / "funnel.json").remove()
    assert read_funnel(folder) == whole == funnel_of(manifests(folder), CHAIN)
    assert read_funnel(folder / "final") is None


def test_the_table_names_stages_and_their_commonest_reasons(tmp_path: Path) -> None:
    from rich.console import Console

    console = Console(width=140, file=io.StringIO())
    funnel = read_funnel(clean_folder(tmp_path))
    assert funnel is not None
    console.print(funnel_table(funnel, "Kept"))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "below_threshold 1" in shown
    assert "60.0%" in shown
