"""The plan says what is published of known models, and its formulas agree with the model that is built."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from llmdata.cli.app import app
from llmdata.engine.session import Session
from llmdata.errors import ConfigError
from llmdata.storage.place import Place
from llmdata.storage.token_index import load_index
from llmdata.train import train
from llmdata.train.config import PRESETS, ModelConfig
from llmdata.train.gpus import GPUS, find_gpu
from llmdata.train.measured import compare
from llmdata.train.plan import (
    CHINCHILLA,
    PRECISIONS,
    REFITTED,
    Law,
    activation_bytes,
    make_plan,
    optima,
    parameter_count,
    usual_shape,
)
from tests.train.corpus import tiny


def planned(*arguments: str) -> dict[str, object]:
    result = CliRunner().invoke(app, ["plan", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    value: dict[str, object] = json.loads(result.stdout)
    return value


@pytest.mark.parametrize(
    ("arguments", "key", "expected"),
    [
        ("--params 405B --tokens 16T", "flops", 3.9e25),  # Llama 3 (arXiv 2407.21783) gives 3.8e25 for 15.6T
        ("--params 405B --tokens 15.6T", "flops", 3.8e25),
        ("--params 70B --tokens 1T", "weights", 140e9),
        ("--params 405B --tokens 1T --precision fp32", "weights", 1.6e12),
        ("--params 70B --tokens 36T", "token_bytes", 144e12),
        ("--params 70B --tokens 1.4T", "flops", 5.88e23),
    ],
)
def test_published_figures(arguments: str, key: str, expected: float) -> None:
    assert planned(*arguments.split())[key] == pytest.approx(expected, rel=0.015)


def test_seventy_billion_take_sixteen_bytes_a_parameter_to_train() -> None:
    assert make_plan(70e9, 1e12).state == pytest.approx(1.12e12)


def test_llama_405b_took_about_as_long_as_planned() -> None:
    """Its model card: 30.84 million GPU hours, at 38 to 43 % of the peak (table 4 of the paper)."""
    plan = make_plan(405e9, 15.6e12, gpu=find_gpu("h100"), count=16_000, price=2)
    assert plan.seconds is not None
    assert plan.seconds / 3600 * 16_000 == pytest.approx(30.84e6, rel=0.1)
    assert plan.cost == pytest.approx(plan.seconds / 3600 * 16_000 * 2)


def test_chinchilla_is_the_best_size_of_its_budget() -> None:
    even, published, refitted = optima(5.88e23)
    assert even.parameters == pytest.approx(70e9, rel=0.01)
    assert even.tokens == pytest.approx(1.4e12, rel=0.01)
    assert refitted.parameters == pytest.approx(70e9, rel=0.1)  # the corrected fit agrees with Chinchilla, and
    assert published.parameters < 45e9  # the published constants do not: Hoffmann et al. say so themselves


@pytest.mark.parametrize("law", [CHINCHILLA, REFITTED])
def test_a_laws_optimum_is_its_lowest_loss(law: Law) -> None:
    n, d = law.optimum(1e21)
    assert 6 * n * d == pytest.approx(1e21)
    assert all(law.loss(n * x, d / x) > law.loss(n, d) for x in (0.9, 1.1))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_counts_agree_with_the_model(name: str) -> None:
    import torch

    from llmdata.train.model import Decoder

    config = PRESETS[name].model
    with torch.device("meta"):
        model = Decoder(config.model_copy(update={"context": min(config.context, 1024)}), 32_003)
    small = config.model_copy(update={"context": min(config.context, 1024)})
    assert parameter_count(small, 32_003) == model.parameter_count()


def test_activations_are_those_of_the_paper() -> None:
    """Korthikanti et al., table 2: s b h (34 + 5 a s / h), 34 s b h, 2 s b h a layer, for GPT with dropout."""
    config = ModelConfig(layers=10, heads=16, width=1024, context=2048, dropout=0.1)
    s, h, a, b = 2048, 1024, 16, 3
    kind = PRECISIONS["mixed"]
    block = s * b * h * 34
    assert activation_bytes(config, b, kind, "none") == 10 * (block + 5 * a * s * s * b)
    assert activation_bytes(config, b, kind, "selective") == 10 * block
    assert activation_bytes(config, b, kind, "full") == 10 * 2 * s * b * h + block


def test_a_usual_shape_has_the_parameters_asked_for() -> None:
    for parameters in (1e9, 70e9, 405e9):
        shape = usual_shape(parameters, 2048)
        assert 12 * shape.layers * shape.width**2 == pytest.approx(parameters, rel=0.1)


def test_days_and_memory_decide_the_number_of_gpus() -> None:
    h100 = find_gpu("h100")
    week = make_plan(8e9, 160e9, gpu=h100, days=7)
    assert week.seconds is not None
    assert week.count is not None
    assert 6.5 * 86400 < week.seconds <= 7 * 86400
    assert make_plan(8e9, 160e9, gpu=h100, days=1e6).count == week.least_gpus
    plan = make_plan(405e9, 1e12, gpu=h100)
    assert plan.recompute == "full"
    assert plan.per_gpu is not None
    assert plan.per_gpu <= 80e9
    with pytest.raises(ConfigError, match="cannot hold it"):
        make_plan(70e9, 1e12, gpu=h100, count=8)


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100 pcie"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA GeForce RTX 4090", "rtx 4090"),
        ("AMD Instinct MI300X", "mi300x"),
        ("NVIDIA Voodoo 2", None),
    ],
)
def test_gpus_by_the_names_of_their_drivers(driver: str, name: str | None) -> None:
    found = find_gpu(driver)
    assert (found.name if found else None) == name
    assert all(find_gpu(gpu.name) == gpu for gpu in GPUS)


def test_plan_for_tokens_on_disk(tokens: Place) -> None:
    plan = planned(tokens.path, "--model", "llama-15m", "--gpu", "a100")
    assert plan["on_disk"] == load_index(tokens).splits["train"].tokens
    assert plan["token_bytes"] == 2 * int(str(plan["tokens"]))
    assert plan["count"] == 1


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_plan_of_a_run_is_what_was_measured(tokens: Place, out: Place, optimizer: str) -> None:
    result = train(tokens, out, tiny(optim={"name": optimizer}, loop={"steps": 20}), Session())
    rows = {row.what: row for row in compare(out, peak=1e12, mfu=0.5)}
    assert rows["parameters"].planned == rows["parameters"].measured == result.parameters
    assert rows["tokens"].planned == rows["tokens"].measured == result.tokens
    for file in ("weights", "optimiser"):  # and the files' headers
        planned, measured = rows[file].planned, rows[file].measured
        assert planned is not None
        assert measured is not None
        assert planned <= measured <= planned + 8192
    assert rows["MFU"].planned == 0.5
    assert rows["MFU"].measured == pytest.approx((rows["FLOP/s"].measured or 0) / 1e12)
    assert "MFU" in CliRunner().invoke(app, ["plan", "--run", out.path]).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "give one of"),
        ("--params 1B", "needs --tokens"),
        ("--params 1X --tokens 1B", "--params: '1X' is not a count"),
        ("--params 1B --tokens 0", "at least 1"),
        ("--params 1B --tokens 1B --gpu voodoo", "not in the table"),
        ("--params 1B --tokens 1B --price 2", "--price needs --gpu"),
        ("--params 1B --tokens 1B --gpu h100 --days 2 --count 3", "give one of them"),
        ("--params 1B --tokens 1B --mfu 1.5", "a share"),
        ("--params 1B --tokens 1B --precision int3", "one of mixed"),
        ("--params 1B --tokens 1B --recompute some", "one of none"),
        ("--params 1B --model demo --tokens 1B", "how large is the model"),
        ("--model demo", "give a folder of tokens"),
        ("--model no-such --tokens 1B", "no model preset"),
        ("--budget 1e21 --params 1B", "give one of"),
        ("--budget nan", "FLOPs"),
        ("--run /nowhere", "no trained model"),
    ],
)
def test_errors_say_what_to_do(arguments: str, message: str) -> None:
    result = CliRunner().invoke(app, ["plan", *arguments.split()])
    assert result.exit_code in (1, 2)
    assert message in result.stderr
