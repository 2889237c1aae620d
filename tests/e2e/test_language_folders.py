"""`clean.language_folders`: final documents in a folder a language, the same bytes always, read like any others."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from llmdata.engine.session import Session
from llmdata.errors import ChangedError
from llmdata.pipeline.clean import CleanResult, run_clean
from llmdata.pipeline.clean_config import CleanConfig
from llmdata.pipeline.task import language_folder
from llmdata.storage.parquet import read_documents
from llmdata.storage.place import Place
from tests.e2e.conftest import PATIENCE, Llmdata, command, data_files, environment
from tests.e2e.corpus import prose
from tests.e2e.test_run import kill_and_resume

GERMAN = "Die alte Brücke über den Fluss ist bis zum Ende des Jahres für den Verkehr gesperrt, sagte Frau {}."


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """English and, each third, German texts; of some of both there are two."""
    path = tmp_path / "documents.jsonl"
    texts = [GERMAN.format(number % 50) * 5 if number % 3 == 0 else prose(number % 80)[0] for number in range(180)]
    path.write_text("".join(json.dumps({"text": text, "url": f"http://a/{n}"}) + "\n" for n, text in enumerate(texts)))
    return path


def clean(documents: Path, out: Path, workers: int = 1, rerun: bool = False, **settings: Any) -> CleanResult:
    config: dict[str, Any] = {
        "input": [str(documents)],
        "stages": ["language", "exact_dedup"],
        "language": {"languages": ["en", "de"], "threshold": 0.3},
        "language_folders": True,
        "task_bytes": 20_000,
        "part_bytes": 10_000,
    }
    wanted = CleanConfig.model_validate(config | settings)
    return run_clean(Place.of(out), wanted, Session(workers=workers), rerun=rerun)


def parts(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted((out / "final").rglob("*.parquet"))}


def languages(out: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in parts(out):
        found.setdefault(path.split("/")[1], set()).update(doc.language for doc in read_documents(Place.of(out / path)))
    return found


def test_each_language_has_its_folder_and_workers_change_no_byte(documents: Path, tmp_path: Path) -> None:
    result = clean(documents, tmp_path / "one")
    assert languages(tmp_path / "one") == {"lang=de": {"de"}, "lang=en": {"en"}}
    assert len(parts(tmp_path / "one")) > 4
    rows = sum(len(list(read_documents(Place.of(tmp_path / "one" / path)))) for path in parts(tmp_path / "one"))
    assert rows == result.funnel["kept"] < result.funnel["in"]
    clean(documents, tmp_path / "two", workers=2)
    assert parts(tmp_path / "two") == parts(tmp_path / "one")
    assert not clean(documents, tmp_path / "one").fresh


def test_a_part_that_is_gone_is_made_again(documents: Path, tmp_path: Path) -> None:
    clean(documents, tmp_path / "out")
    before = parts(tmp_path / "out")
    (tmp_path / "out" / list(before)[-1]).unlink()
    assert clean(documents, tmp_path / "out").fresh
    assert parts(tmp_path / "out") == before


def test_switched_on_and_off_no_part_of_the_other_way_stays(documents: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    clean(documents, out)
    with pytest.raises(ChangedError, match="language_folders was True"):
        clean(documents, out, language_folders=False)
    clean(documents, out, rerun=True, language_folders=False)
    assert {path.name for path in (out / "final").iterdir()} == {Path(path).name for path in parts(out)}
    clean(documents, out, rerun=True)
    assert set(languages(out)) == {"lang=de", "lang=en"}
    only_english = {"languages": ["en"], "threshold": 0.3}
    clean(documents, out, rerun=True, language=only_english)
    assert [path.name for path in (out / "final").iterdir()] == ["lang=en"]


def test_without_languages_all_is_unknown_and_a_task_that_keeps_nothing_says_so(
    documents: Path, tmp_path: Path
) -> None:
    clean(documents, tmp_path / "out", stages=["exact_dedup"])
    assert languages(tmp_path / "out") == {"lang=unknown": {""}}
    clean(documents, tmp_path / "none", language={"languages": ["fr"]})
    assert languages(tmp_path / "none") == {"lang=unknown": set()}


@pytest.mark.parametrize(
    ("language", "folder"),
    [
        ("en", "lang=en"),
        ("zho_Hans", "lang=zho_Hans"),
        ("pt-BR", "lang=pt-BR"),
        ("", "lang=unknown"),
        ("../../etc", "lang=unknown"),
        ("..", "lang=unknown"),
        ("en\n", "lang=unknown"),
        ("x" * 300, "lang=unknown"),
        ("日本", "lang=unknown"),
    ],
)
def test_only_codes_name_folders(language: str, folder: str) -> None:
    assert language_folder(language) == folder


@pytest.fixture
def recipe(documents: Path, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"clean: {{input: [{documents}], stages: [language, exact_dedup], language_folders: true, task_bytes: 20KB,\n"
        "  language: {languages: [en, de], threshold: 0.3}, part_bytes: 10KB}\n"
        "tokenizer: {vocab_size: 400}\ntokenize: {val: none}\n"
    )
    return path


def test_a_killed_run_ends_with_the_same_bytes_and_everything_reads_its_folders(
    recipe: Path, tmp_path: Path, llmdata: Llmdata
) -> None:
    llmdata("run", recipe, "--workdir", "whole", "--workers", "1")
    kill_and_resume(recipe, tmp_path / "killed", seed=4, kills=1)
    assert data_files(tmp_path / "killed") == data_files(tmp_path / "whole")
    llmdata("inspect", "whole", "--verify")
    german = "SELECT count(*) AS n FROM docs WHERE language = 'de'"
    for folder in ("whole", "whole/clean", "whole/clean/final"):
        assert json.loads(llmdata("inspect", folder, "--sql", german, "--json").stdout)["n"] == 50
    assert "final/lang=de/part-" in llmdata("inspect", "whole", "--trace", "http://a/0").stdout
    llmdata("dedup", "whole/clean", "--out", "distinct", "--method", "exact")
    kept = json.loads((tmp_path / "whole/clean/funnel.json").read_text())["kept"]
    assert json.loads((tmp_path / "distinct/funnel.json").read_text())["in"] == kept
    index = json.loads((tmp_path / "whole/tokens/index.json").read_text())
    assert sum(split["documents"] for split in index["splits"].values()) == kept


def test_on_a_store_the_folders_are_the_same(recipe: Path, tmp_path: Path, llmdata: Llmdata) -> None:
    """Killed once, gone on with, read; and when a language goes, so does its folder."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    from tests.storage.s3 import s3_server

    until = ("--until", "clean", "--set", "clean.task_bytes=60KB")
    llmdata("run", recipe, "--workdir", "whole", "--workers", "1", *until)
    with s3_server() as s3:
        order = ("run", recipe, "--workdir", "s3://corpus/run", "--workers", "2", *until)
        killed = subprocess.Popen(
            command(*order), env=environment(**s3.environment()), stderr=subprocess.PIPE, text=True
        )
        assert killed.stderr is not None
        while "clean 1/2: done" not in killed.stderr.readline():
            assert killed.poll() is None
        killed.kill()
        killed.communicate()
        llmdata(*order, **s3.environment())
        for key, value in s3.objects().items():
            path = tmp_path / "fetched" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(value)
        assert data_files(tmp_path / "fetched/run") == data_files(tmp_path / "whole")
        assert s3.uploads() == []
        llmdata("inspect", "s3://corpus/run", "--verify", **s3.environment())
        english = ("--set", "clean.language.languages=[en]", "--rerun")
        llmdata("run", recipe, "--workdir", "s3://corpus/run", *until, *english, **s3.environment())
        final = [key for key in s3.objects() if key.startswith("run/clean/final/")]
        assert {key.split("/")[3] for key in final} == {"lang=en"}


def test_ranks_make_the_same_folders(recipe: Path, tmp_path: Path, llmdata: Llmdata) -> None:
    """Two that wait for each other; one killed within a pass, and started again."""
    until = ("--until", "clean", "--set", "clean.task_bytes=60KB")
    llmdata("run", recipe, "--workdir", "whole", "--workers", "1", *until)

    def start(rank: int) -> subprocess.Popen[str]:
        share = ("--rank", str(rank), "--world-size", "2", "--workers", "1", "--barrier", "wait")
        order = command("run", recipe, "--workdir", tmp_path / "run", *until, *share)
        return subprocess.Popen(order, env=environment(), stderr=subprocess.PIPE, text=True)

    first, second = start(0), start(1)
    assert second.stderr is not None
    while "clean 1/2: started" not in second.stderr.readline():
        assert second.poll() is None
    second.kill()
    second.communicate()
    again = start(1)
    for rank in (first, again):
        said = rank.communicate(timeout=PATIENCE)[1]
        assert rank.returncode == 0, said
    assert data_files(tmp_path / "run") == data_files(tmp_path / "whole")
    llmdata("inspect", tmp_path / "run/clean", "--verify")
