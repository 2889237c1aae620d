"""Laws are found again from points that follow them; a ladder has the sizes asked for, and goes on after a stop."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from llmdata.audit.folders import look_at
from llmdata.audit.status import status
from llmdata.cli.app import app
from llmdata.engine.session import Session
from llmdata.errors import ConfigError, StoppedEarly
from llmdata.storage.place import Place
from llmdata.train.chart import Series, svg_chart, terminal_chart
from llmdata.train.config import PRESETS, ModelConfig, TrainConfig
from llmdata.train.plan import REFITTED, flops_per_token, parameter_count
from llmdata.train.scaling import fit_power_law
from llmdata.train.sweep import SweepConfig, ladder, scaled_rate, shape_of, sweep
from tests.train.corpus import SENTENCES, tiny
from tests.train.test_resume import At

COMPUTE = np.logspace(12, 16, 6)


@pytest.mark.parametrize(
    ("floor", "scale", "exponent"), [(1.2, 30.0, 0.12), (0.7, 8.0, 0.05), (1.69, 2000.0, 0.3), (2.5, 1e4, 0.4)]
)
def test_a_law_of_compute_is_found_again(floor: float, scale: float, exponent: float) -> None:
    law = fit_power_law(COMPUTE[:, None].tolist(), (floor + scale * COMPUTE**-exponent).tolist())
    assert law.loss(1e18) == pytest.approx(floor + scale * 1e18**-exponent, rel=1e-4)
    assert law.exponents[0] == pytest.approx(exponent, rel=1e-2)
    assert law.residual < 1e-6


def grid() -> tuple[list[list[float]], list[float]]:
    points = [[n, d] for n in np.logspace(7, 10, 6) for d in np.logspace(8.5, 11.5, 6)]
    return points, [REFITTED.loss(n, d) for n, d in points]


def test_chinchillas_law_is_found_again_and_two_broken_runs_do_not_move_it() -> None:
    points, losses = grid()
    for _ in range(2):
        law = fit_power_law(points, losses)
        assert [law.floor, *law.exponents] == pytest.approx([REFITTED.e, REFITTED.alpha, REFITTED.beta], rel=5e-3)
        losses[3] *= 1.3
        losses[20] *= 0.8


@pytest.mark.parametrize("losses", [[2.0, 2.0, 2.0], [2.0, 2.5, 3.0], [3.0, 2.5, 2.6], [1e-9, 1e-12, 1e-15]])
def test_losses_that_follow_no_law_give_finite_figures(losses: list[float]) -> None:
    law = fit_power_law([[1e12], [1e13], [1e14]], losses)
    assert np.isfinite([law.floor, *law.scales, *law.exponents, law.residual, law.loss(1e20)]).all()


def test_too_few_points() -> None:
    with pytest.raises(ValueError, match="too few"):
        fit_power_law([[1.0], [2.0]], [1.0, 0.9])


DECODER = TrainConfig.model_validate({"model": "demo"}).architecture


@pytest.mark.parametrize("kind", ["demo", "gpt2-124m", "llama-3.2-1b", "llama-3-8b"])
@pytest.mark.parametrize("size", [300_000, 1_000_000, 10_000_000, 124_000_000, 1_000_000_000, 70_000_000_000])
def test_shapes_have_the_size_asked_for(kind: str, size: int) -> None:
    base = PRESETS[kind].model
    assert isinstance(base, ModelConfig)
    shape = shape_of(size, base, 1024)
    assert parameter_count(shape, 1024) == pytest.approx(size, rel=0.2)
    assert 8 <= shape.width / shape.layers <= 256
    assert shape.head_width % 2 == 0
    assert shape.head_width == 64 or shape.width < 256
    ModelConfig.model_validate(shape.model_dump())


def test_a_vocabulary_too_large_for_a_size_is_told() -> None:
    assert isinstance(DECODER, ModelConfig)
    with pytest.raises(ConfigError, match=r"--sizes 100,000: with a vocabulary of 50,257 the nearest .* smaller vocab"):
        shape_of(100_000, DECODER, 50_257)


def test_rates_fall_as_gpt3s_do() -> None:
    """Table 2.1 of its paper: 6e-4 at 125M, 2e-4 at 1.3B, 0.6e-4 at 175B, rounded as they please."""
    assert scaled_rate(6e-4, 125_000_000, 1_300_000_000) == pytest.approx(2e-4, rel=0.4)
    assert scaled_rate(6e-4, 125_000_000, 175_000_000_000) == pytest.approx(0.6e-4, rel=0.15)


def test_a_budget_pays_for_the_whole_ladder() -> None:
    base = TrainConfig.model_validate({"model": "demo"})
    rungs = ladder(SweepConfig(sizes=(200_000, 400_000, 800_000), budget=1e14), base, 1024)
    assert sum(rung.flops for rung in rungs) == pytest.approx(1e14, rel=0.01)
    assert len({round(rung.tokens / rung.parameters) for rung in rungs}) == 1
    for rung in rungs:
        assert rung.flops == flops_per_token(rung.parameters, rung.shape)[1] * rung.tokens
        assert rung.config.steps >= 490
        assert rung.config.data.batch_tokens <= base.data.batch_tokens


SMALL = SweepConfig(sizes=(4_000, 14_000, 28_000, 60_000), tokens_per_param=(0.1,), predict=(200_000,))


def test_a_ladder_stopped_goes_on_and_says_the_same(tokens: Place, tmp_path: Path) -> None:
    base = tiny(optim={"lr": 0.003})
    whole, cut = Place.of(tmp_path / "whole"), Place.of(tmp_path / "cut")
    result = sweep(tokens, whole, SMALL, base, Session())
    assert [run.parameters for run in result.runs] == sorted(run.parameters for run in result.runs)
    assert set(result.laws) == {"flops", "parameters"}
    assert [one.parameters for one in result.held_out] == [result.runs[-1].parameters] * 2
    for one in result.held_out:
        assert one.measured == result.runs[-1].loss
        assert one.error == pytest.approx(one.loss / one.measured - 1)
    assert {one.law for one in result.predictions} == {"flops", "parameters"}
    for one in result.predictions:
        assert one.low is not None
        assert one.high is not None
        assert one.low < one.high, "each run moves the law a little"
    for step in (20, 150):
        session = Session()
        states: set[str] = set()

        def stop(session: Session = session, states: set[str] = states) -> None:
            states.update(stage.state for stage in status(look_at(cut.path)))
            session.stop.signal = signal.SIGTERM

        session.progress = At(step, stop)
        with pytest.raises(StoppedEarly):
            sweep(tokens, cut, SMALL, base, session)
        assert "running" in states
        assert "running" not in {stage.state for stage in status(look_at(cut.path))}
    assert sweep(tokens, cut, SMALL, base, Session()) == result
    for name in ("sweep.json", "sweep.svg"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()


def test_the_command(tokens: Place, tmp_path: Path) -> None:
    out = tmp_path / "ladder"
    settings = tmp_path / "tiny.yaml"
    settings.write_text(tiny().model_dump_json())

    def run(*options: str) -> Any:
        command = ["sweep", tokens.path, "-o", str(out), "--model", str(settings), *options]
        return CliRunner().invoke(app, command)

    result = run("--sizes", "4K,14K", "--tokens-per-param", "0.02,0.05,0.1", "--predict", "100K")
    assert result.exit_code == 0, result.output
    assert "by parameters and tokens: loss =" in result.stdout, "six runs of two sizes are a grid"
    record = json.loads((out / "sweep.json").read_text())
    assert len(record["runs"]) == 6
    assert len({one["tokens"] for one in record["predictions"]}) == 3
    assert "times the compute of any run: a guess" in result.stdout
    states = CliRunner().invoke(app, ["status", str(out), "--json"])
    assert [json.loads(line)["state"] for line in states.stdout.splitlines()] == ["done"] * 6
    assert CliRunner().invoke(app, ["inspect", str(out)]).exit_code == 0
    assert "there is no such" not in run("--sizes", "x").output
    assert run("--sizes", "x").exit_code == 2
    assert run("--sizes", "").exit_code == 2
    assert run("--sizes", "0").exit_code == 2
    for ratio in ("-3", "0", "nan", "inf"):
        assert run("--sizes", "4K", "--tokens-per-param", ratio).exit_code == 2
    assert run("--sizes", "4K", "--budget", "inf").exit_code == 2
    assert run("--sizes", "4K", "--hold-out", "first").exit_code == 2
    changed = run("--sizes", "4K", "--tokens-per-param", "0.1", "--set", "train.optim.lr=0.5")
    assert changed.exit_code != 0
    assert "--rerun" in changed.output


def test_a_recipe_is_run_until_its_tokens(tmp_path: Path) -> None:
    out, documents, recipe = tmp_path / "ladder", tmp_path / "documents.jsonl", tmp_path / "recipe.yaml"
    documents.write_text("".join(json.dumps({"text": text}) + "\n" for text in SENTENCES))
    sections = {"clean": {"stages": []}, "tokenizer": {"kind": "char"}, "tokenize": {"val": "hash:0.2"}}
    recipe.write_text(json.dumps(sections | {"train": tiny().model_dump(mode="json")}))

    def run(*options: str) -> Any:
        given = ["--sizes", "4K,14K", "--tokens-per-param", "0.02", "--set", f"clean.input=[{documents}]", *options]
        return CliRunner().invoke(app, ["sweep", str(recipe), "-o", str(out), *given])

    result = run("--set", "train.optim.lr=0.001")
    assert result.exit_code == 0, result.output
    assert not (out / "run" / "model").exists()
    before = json.loads((out / "sweep.json").read_text())["runs"]
    assert max(one["lr"] for one in before) < 0.005, "the recipe's rate is 0.01, --set's a tenth of it"
    changed = run("--set", "train.optim.lr=0.001", "--set", "tokenize.val=hash:0.5")
    assert changed.exit_code != 0
    assert "--rerun" in changed.output
    assert run("--set", "train.optim.lr=0.001", "--set", "tokenize.val=hash:0.5", "--rerun").exit_code == 0
    assert json.loads((out / "sweep.json").read_text())["runs"] != before
    for option in ("--set=tokenize.val=none", "--model=ngram", "--set=train.init=elsewhere"):
        assert (
            CliRunner()
            .invoke(app, ["sweep", str(recipe), "-o", str(tmp_path / "x"), "--sizes", "4K", option])
            .exit_code
            == 2
        )
    assert not (tmp_path / "x" / "run").exists(), "what no ladder can be made of is told before anything is done"
    refused = run("--model", "demo", "--set", "clean.stages=[nothing]")
    assert refused.exit_code == 2
    assert "nothing" in refused.output


def test_a_prediction_on_top_of_what_was_measured_hides_nothing() -> None:
    law = Series("law", [(1e9, 3.0), (1e10, 2.5)])
    dots = [Series("measured", [(1e10, 2.5)], dots=True), Series("predicted", [(1e10, 2.5)], dots=True, hollow=True)]
    drawn = terminal_chart([law, *dots], log_x=True)
    assert "◉" in drawn
    assert "1e10" in svg_chart([law, *dots], "Loss", "FLOPs", "nats", log_x=True)
    assert svg_chart([law, *dots], "Loss", "FLOPs", "nats").count('fill="none"') == 2, "of the line and of the ring"


def test_charts_of_hostile_series() -> None:
    for points in ([(1.0, 1.0)], [(1e-9, 5.0), (1e30, 5.0)], [(3.0, 2.0), (3.0, 7.0)]):
        series = [Series("a < b & c", points, dots=True), Series("", points)]
        picture = svg_chart(series, "<title>", "x", "y", log_x=True, log_y=True)
        assert "<title>" not in picture
        assert "nan" not in picture
        assert len(terminal_chart(series, log_x=True).splitlines()) == 15
