"""Every command alone: help, bad usage, and a chain of commands each on what the one before it wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e.conftest import Llmdata
from tests.e2e.corpus import page

COMMANDS = (
    "run",
    "crawl",
    "clean",
    "dedup",
    "blocklists update",
    "blocklists list",
    "quality train",
    "tokenizer train",
    "tokenizer decode",
    "tokenizer view",
    "tokenize",
    "train",
    "generate",
    "status",
    "inspect",
    "schema",
)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name: str, llmdata: Llmdata) -> None:
    text = llmdata(*name.split(), "--help").stdout
    assert "Example" in text
    assert f"llmdata {name.split()[0]}" in text


def test_help_names_what_options_take_and_cuts_no_sentence(llmdata: Llmdata) -> None:
    assert "..." not in llmdata("--help", COLUMNS="80").stdout.partition("Commands:")[2]
    assert "..." not in llmdata("tokenizer", "--help", COLUMNS="80").stdout.partition("Commands:")[2]
    for name in COMMANDS:
        assert not re.search(r"^ +(-., )?--\S+ <", llmdata(*name.split(), "--help").stdout, re.MULTILINE), name


def test_version(llmdata: Llmdata) -> None:
    from llmdata import __version__

    assert llmdata("--version", LLMDATA_NATIVE="0").stdout == f"llmdata {__version__} (without its C library)\n"
    assert llmdata("--version").stdout.startswith(f"llmdata {__version__} (with")


def test_help_lists_the_commands_and_imports_nothing_heavy(llmdata: Llmdata) -> None:
    shown = llmdata("--help", PYTHONPROFILEIMPORTTIME="1")
    for name in COMMANDS:
        assert name.split()[0] in shown.stdout
    for module in ("torch", "pyarrow", "numpy", "trafilatura", "duckdb", "pydantic", "requests", "presidio_analyzer"):
        assert f" {module}\n" not in shown.stderr


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("clean:\n  langage: {}\n", ":2: clean.langage: there is no such key (did you mean language?)"),
        ("clean:\n  language:\n    threshold: high\n", ":3: clean.language.threshold: "),
        ("clean:\n  stages: [url, magic]\n", ":2: clean.stages.1: "),
        ("clean:\n  stages: [url, url]\n", "at most once, but url is given twice"),
        ("train: {model: huge}\n", "there is no model preset 'huge'"),
    ],
)
def test_a_wrong_recipe_is_one_message_and_creates_nothing(
    recipe: str, message: str, tmp_path: Path, llmdata: Llmdata
) -> None:
    (tmp_path / "wrong.yaml").write_text(recipe)
    refused = llmdata("run", "wrong.yaml", "--workdir", "run", check=2)
    assert refused.stderr.startswith("llmdata: wrong.yaml:")
    assert message in refused.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        ("run nothing.yaml", 2, "there is no such recipe file"),
        ("run nosuch", 2, "there is no recipe 'nosuch'"),
        ("run fineweb --until train", 2, "has no section train"),
        ("run fineweb", 2, "nothing to read"),
        ("clean missing.warc.gz --out out", 1, "missing.warc.gz: there is no such file"),
        ("clean empty --out out", 1, "empty: no file of WARC"),
        ("dedup missing.parquet --out out --method minhash", 1, "missing.parquet"),
        ("tokenizer train missing --out out", 1, "missing"),
        ("tokenize missing --tokenizer missing --out out", 1, "missing"),
        ("train missing --out out", 1, "missing"),
        ("generate missing", 1, "missing"),
        ("inspect missing", 1, "missing"),
        ("status missing", 1, "missing"),
        ("run void.yaml", 2, "this recipe has no stage"),
        ("run demo --limit -3", 2, "llmdata: --limit -3: input should be"),
        ("clean pages.warc --out out --limit abc", 2, "llmdata: --limit abc: 'abc' is not a count"),
        ("clean pages.warc --out out --stages magic", 2, "llmdata: --stages magic: input should be"),
        ("crawl http://localhost/ --delay x --out out", 2, "llmdata: --delay x: 'x' is not a duration"),
        ("crawl localhost --out out", 2, "llmdata: the command line: crawl: the seed 'localhost' is not"),
        ("train tokens --model huge --out out", 2, "llmdata: --model huge: train: there is no model preset 'huge'"),
        ("train work --out out", 1, "did you mean work/tokens?"),
        ("clean pages.warc --out out --stages url", 1, "clean them with a chain that has the stage `extract`"),
        ("tokenizer train pages.warc --out out", 1, "`llmdata clean` makes documents of them"),
        ("crawl --out out", 2, ""),
        ("clean", 2, ""),
        ("frobnicate", 2, "frobnicate"),
    ],
)
def test_bad_input_is_a_clear_error(
    arguments: str, exit_code: int, message: str, tmp_path: Path, llmdata: Llmdata
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "void.yaml").touch()
    (tmp_path / "pages.warc").write_text("WARC/1.0\r\n")
    (tmp_path / "work/tokens").mkdir(parents=True)
    (tmp_path / "work/tokens/index.json").write_text("{}")
    failed = llmdata(*arguments.split(), check=exit_code)
    assert message in failed.stderr
    assert not (tmp_path / "out").exists()


def test_schema_is_the_one_the_recipes_point_to(llmdata: Llmdata) -> None:
    root = Path(__file__).parents[2]
    schema = llmdata("schema").stdout
    assert json.loads(schema)["title"] == "llmdata recipe"
    assert schema == (root / "pipelines/recipe.schema.json").read_text(), "run `make schema`"
    for recipe in (root / "pipelines").glob("*.yaml"):
        assert recipe.read_text().startswith("# yaml-language-server: $schema=recipe.schema.json\n"), recipe


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "pipelines").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_that_comes_along_is_valid(path: Path) -> None:
    from llmdata.pipeline.recipe import load_recipe

    assert load_recipe(str(path)).name == path.stem


def test_the_way_of_the_data_by_single_commands(warcs: Path, tmp_path: Path, llmdata: Llmdata) -> None:
    llmdata("clean", warcs, "--out", "corpus", "--recipe", "fineweb")
    assert "gopher_repetition" in llmdata("inspect", "corpus", "--rejected").stdout
    rows = llmdata("inspect", "corpus", "--sql", "SELECT count(*) AS n FROM docs", "--json").stdout
    assert json.loads(rows)["n"] > 60
    llmdata("dedup", "corpus", "--out", "distinct", "--method", "exact")
    llmdata("tokenizer", "train", "distinct", "--out", "tokenizer", "--vocab-size", "400")
    llmdata("tokenize", "distinct", "--tokenizer", "tokenizer", "--out", "tokens", "--val", "hash:0.1")
    small = (
        "--set",
        "train.model={layers: 1, heads: 2, width: 32, context: 32}",
        "--set",
        "train.data.batch_tokens=64",
    )
    llmdata("train", "tokens", "--out", "model", "--steps", "5", *small)
    text = llmdata("generate", "model", "--prompt", "The river", "--max-tokens", "5", "--seed", "1").stdout
    assert text.startswith("The river")
    for folder in ("corpus", "distinct", "tokens"):
        llmdata("inspect", folder, "--verify")
    refused = llmdata("clean", warcs, "--out", "tokens", "--rerun", check=2)
    assert "holds what the stage tokenize made" in refused.stderr


def test_from_a_website_to_tokens_and_back(tmp_path: Path, llmdata: Llmdata) -> None:
    """A crawl of linked pages, and a token followed back to the page that it came from."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text('<a href="/page-0.html">begin</a>')
    for number in range(12):
        (site / f"page-{number}.html").write_text(page(number, 12))
    (tmp_path / "mine.yaml").write_text(
        f"name: mine\ncrawl: {{site: {{folder: {site}, port: 8791}}}}\nclean: {{}}\ntokenizer: {{vocab_size: 400}}\n"
        "tokenize: {val: none}\n"
    )
    llmdata("run", "mine.yaml", "--workdir", "run")
    pages = llmdata("inspect", "run", "--sql", "SELECT url FROM docs ORDER BY url", "--json").stdout.splitlines()
    assert len(pages) == 12
    traced = llmdata("inspect", "run", "--token", "train-00000.bin:100").stdout
    assert "http://127.0.0.1:8791/page-" in traced
    assert "crawl-00000.warc.gz" in traced
    assert "nothing to do" in llmdata("run", "mine.yaml", "--workdir", "run").stderr
    llmdata("inspect", "run", "--verify")


def test_a_damaged_shard_is_named(warcs: Path, tmp_path: Path, llmdata: Llmdata) -> None:
    llmdata("clean", warcs, "--out", "corpus", "--stages", "extract,language")
    shard = sorted((tmp_path / "corpus/final").glob("*.parquet"))[0]
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)
    failed = llmdata("inspect", "corpus", "--verify", check=1)
    assert shard.name in failed.stdout + failed.stderr


BLOCK_SOCKETS = """
import socket

connect = socket.socket.connect

def refuse(self, address):
    if self.family != socket.AF_UNIX:
        raise AssertionError(f"connection to {address}")
    return connect(self, address)

socket.socket.connect = refuse

def no_names(*arguments, **options):
    raise AssertionError(f"name look-up of {arguments}")

socket.getaddrinfo = no_names
"""


def test_from_clean_to_train_nothing_opens_a_connection(
    recipe: Path, undisturbed: Path, tmp_path: Path, llmdata: Llmdata
) -> None:
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard/sitecustomize.py").write_text(BLOCK_SOCKETS)
    llmdata("run", recipe, "--workdir", "run", PYTHONPATH=str(tmp_path / "guard"))
    assert (tmp_path / "run/report.html").exists()
