"""Text from a model: greedy and sampled, alone and batched, in the library and on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from llmdata.cli.generate import generate as generate_command
from llmdata.cli.train import train as train_command
from llmdata.engine.session import Session
from llmdata.errors import ConfigError, InputError
from llmdata.storage.place import Place
from llmdata.train import Sampling, generate, train
from llmdata.train.config import ModelConfig
from llmdata.train.model import Decoder
from llmdata.train.sampling import choose, continue_ids
from tests.train.corpus import tiny


@pytest.fixture(scope="module")
def run(tokens: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    run = Place.of(tmp_path_factory.mktemp("run"))
    train(tokens, run / "model", tiny(loop={"steps": 250}, sample_prompts=["the ", ""]), Session())
    return run


def test_it_learned(run: Place) -> None:
    assert generate(run, ["the cat sees the d"], Sampling(4, 0))[0] == "og a"
    samples = [json.loads(line) for line in (run / "model" / "samples.jsonl").read_bytes().splitlines()]
    assert samples[0]["step"] == 0
    assert {sample["prompt"] for sample in samples} == {"the ", ""}


def test_batched_and_streamed_as_alone(run: Place) -> None:
    prompts = ["the dog", "", "the hen sees the pig and", "t"]
    pieces: dict[int, str] = {}

    def stream(row: int, piece: str) -> None:
        pieces[row] = pieces.get(row, "") + piece

    together = generate(run, prompts, Sampling(20, 0.9, seed=5), stream=stream)
    assert [pieces[row] for row in range(4)] == together
    assert together == [
        generate(run, [prompt], Sampling(20, 0.9, seed=5 + row))[0] for row, prompt in enumerate(prompts)
    ]
    assert generate(run, prompts, Sampling(20, 0.9, seed=6)) != together


def test_beyond_the_context_it_goes_on(run: Place) -> None:
    """The context is 32: a longer prompt and a longer text are fine."""
    generate(run, ["the cow sees the owl and the owl sees the cow again. the"], Sampling(100, 1.0))
    model = Decoder(ModelConfig(layers=1, heads=1, width=8, context=8), 20)
    model.initialise()
    written: list[int | None] = []
    continue_ids(model, [list(range(19))], Sampling(30, 0), None, lambda row, token: written.append(token))
    assert len(written) == 31
    assert written[-1] is None


def test_choice() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.5, 0.05, 0.35]]))

    def support(sampling: Sampling) -> set[int]:
        return {int(choose(logits, sampling, torch.tensor([i / 200]))[0]) for i in range(200)}

    assert support(Sampling(temperature=0)) == {1}
    assert support(Sampling(temperature=1e-40)) == {1}
    assert support(Sampling()) == {0, 1, 2, 3}
    assert support(Sampling(top_k=2)) == {1, 3}
    assert support(Sampling(top_p=0.8)) == {1, 3}
    assert support(Sampling(top_p=0.86)) == {0, 1, 3}
    assert support(Sampling(min_p=0.15)) == {0, 1, 3}
    assert support(Sampling(top_p=1e-9)) == {1}
    drawn = [int(choose(logits, Sampling(), torch.tensor([i / 1000]))[0]) for i in range(1000)]
    assert [drawn.count(token) for token in range(4)] == pytest.approx([100, 500, 50, 350], abs=2)


def test_where_there_is_no_model(tmp_path: Path, run: Place) -> None:
    with pytest.raises(InputError, match="no trained model"):
        generate(Place.of(tmp_path), [""])
    with pytest.raises(InputError, match="no checkpoint '7'"):
        generate(run, [""], checkpoint="7")
    with pytest.raises(ConfigError, match="top_p"):
        Sampling(top_p=0)
    with pytest.raises(ConfigError, match=r"seed .* below 2\^63"):
        Sampling(seed=1 << 63)
    generate(run, ["", ""], Sampling(1, seed=(1 << 63) - 1))


def test_commands(tokens: Place, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command("train")(train_command)
    app.command("generate")(generate_command)

    def call(*arguments: str) -> list[dict[str, object]]:
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    settings = tmp_path / "tiny.yaml"
    settings.write_text(tiny().model_dump_json())
    out = str(tmp_path / "model")
    first = call("train", tokens.path, "--out", out, "--model", str(settings), "--steps", "20")
    again = call("train", tokens.path, "--out", out, "--model", str(settings), "--steps", "20")
    assert first == [{**again[0], "fresh": True}]
    texts = call("generate", out, "--prompt", "the ", "--max-tokens", "5", "--samples", "2")
    assert [text["prompt"] for text in texts] == ["the ", "the "]
    refused = CliRunner().invoke(app, ["train", tokens.path, "--out", out, "--set", "train.optim.lrr=1"])
    assert refused.exit_code == 2
