"""The baselines: probabilities by hand and by a slow twin, formulas, and runs of the same interface as a decoder's."""

from __future__ import annotations

import json
import math
import os
import signal
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from llmdata.cli.app import app
from llmdata.cli.train import load_config
from llmdata.config import dump, parse
from llmdata.engine.session import Session
from llmdata.errors import ChangedError, ConfigError, StoppedEarly
from llmdata.storage.place import Place
from llmdata.storage.token_index import load_index
from llmdata.train import Sampling, TrainConfig, generate, train
from llmdata.train.config import MLPConfig
from llmdata.train.data import TokenText
from llmdata.train.metrics import read_lines, without_times
from llmdata.train.mlp import MLP
from llmdata.train.ngram import NgramModel, count, discounts_of
from llmdata.train.ngram_run import mean_loss
from llmdata.train.sampling import load_model
from tests.train.test_resume import At, records, weights

EOT = 0


def by_hand(order: int, tokens: list[int] = [0, 1, 2, 1, 2, 0, 1]) -> NgramModel:  # noqa: B006
    return count(np.array(tokens), 4, EOT, order, discounts=1)


def test_bigrams_by_hand() -> None:
    """Documents "abab" and "a", a vocabulary of four.

    Continuations: a after 2 tokens, b after 1, the end after 1, the fourth after none: n₁ = 2, n₂ = 1, D = 1/2; so
    P(a) = 1.5/4 + 3/8 · 1/4. Bigrams: ·a twice, ab twice, ba and b· once: n₁ = n₂ = 2, D = 1/3.
    """
    model = by_hand(2)
    single = [0.21875, 0.46875, 0.21875, 0.09375]
    np.testing.assert_allclose(model.distribution([]), single)
    np.testing.assert_allclose(model.distribution([3]), single)
    after_a, after_b = model.distribution([1]), model.distribution([2])
    np.testing.assert_allclose(after_a, [p / 6 for p in single] + np.array([0, 0, 5 / 6, 0]))
    np.testing.assert_allclose(after_b, [p / 3 for p in single] + np.array([1 / 3, 1 / 3, 0, 0]))
    np.testing.assert_allclose(
        model.log_probabilities(np.array([1, 2, 3, 1])), np.log([after_a[2], after_b[3], single[1]])
    )


@pytest.mark.parametrize(
    ("rare", "expected"),
    [
        ((10, 4, 2, 1), (5 / 9, 2 - 3 * 5 / 9 * 2 / 4, 3 - 4 * 5 / 9 / 2)),
        ((0, 0, 0, 0), (0.5, 1.0, 1.5)),
        ((9, 3, 0, 2), (0.5, 1.0, 1.5)),
        ((10, 2, 9, 1), (0.5, 1.0, 1.5)),  # a discount below 0
    ],
)
def test_discounts_from_counts_of_counts(rare: tuple[int, ...], expected: tuple[float, ...]) -> None:
    counts = np.repeat([1, 2, 3, 4, 70], [*rare, 5])
    assert discounts_of(counts, 3) == pytest.approx(expected)
    assert discounts_of(counts, 1)[0] == pytest.approx(rare[0] / (rare[0] + 2 * rare[1]) if rare[0] else 0.5)


class Slow:
    """The same by dictionaries, straight from the formulas."""

    def __init__(self, tokens: list[int], vocabulary: int, order: int, discounts: int) -> None:
        tokens = tokens if tokens[:1] == [EOT] else [EOT, *tokens]
        self.vocabulary, self.order = vocabulary, order
        grams: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order + 1)]
        for end in range(2, len(tokens) + 1):
            for length in range(1, min(order, end) + 1):
                gram = tuple(tokens[end - length : end])
                if EOT not in gram[1:-1]:
                    grams[length][gram] += 1
        self.a: list[dict[tuple[int, ...], int]] = [{}]
        for length in range(1, order + 1):
            after: Counter[tuple[int, ...]] = Counter()
            if length < order:
                after.update(gram[1:] for gram in grams[length + 1])
            top = {gram: n for gram, n in grams[length].items() if length == order or (length > 1 and gram[0] == EOT)}
            self.a.append(dict(after) | top)
        self.d = [
            (0.0, *discounts_of(np.array(list(a.values()), dtype=np.int64), discounts))  # type: ignore[arg-type]
            for a in self.a
        ]

    def p(self, w: int, h: tuple[int, ...]) -> float:
        lower = self.p(w, h[1:]) if h else 1 / self.vocabulary
        a = {gram[-1]: n for gram, n in self.a[len(h) + 1].items() if gram[:-1] == h}
        if not sum(a.values()):
            return lower
        taken = {u: self.d[len(h) + 1][min(n, 3)] for u, n in a.items()}
        own = a.get(w, 0) - taken.get(w, 0)
        return (own + sum(taken.values()) * lower) / sum(a.values())

    def context(self, before: list[int]) -> tuple[int, ...]:
        seen: list[int] = []
        for token in reversed(before[max(0, len(before) - self.order + 1) :]):
            seen.insert(0, token)
            if token == EOT:
                break
        return tuple(seen)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_as_a_slow_model_of_dictionaries(data: st.DataObject) -> None:
    vocabulary, order = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 5))
    text = st.lists(st.integers(0, vocabulary - 1), min_size=2, max_size=60)
    tokens, other, discounts = data.draw(text), data.draw(text), data.draw(st.sampled_from([1, 3]))
    model = count(np.array(tokens), vocabulary, EOT, order, discounts)  # type: ignore[arg-type]
    slow = Slow(tokens, vocabulary, order, discounts)
    p = cache(slow.p)
    for seen in (tokens, other):
        expected = [math.log(p(seen[i], slow.context(seen[:i]))) for i in range(1, len(seen))]
        np.testing.assert_allclose(model.log_probabilities(np.array(seen)), expected, rtol=1e-9)
        for cut in range(len(seen)):
            whole = model.distribution(seen[:cut])
            np.testing.assert_allclose(whole, [p(w, slow.context(seen[:cut])) for w in range(vocabulary)], rtol=1e-9)
            assert whole.sum() == pytest.approx(1, abs=1e-12)


def test_documents_see_nothing_of_each_other() -> None:
    model = by_hand(4)
    np.testing.assert_array_equal(model.distribution([1, 2, 0]), model.distribution([0]))
    np.testing.assert_array_equal(model.distribution([2, 0, 1]), model.distribution([0, 1]))
    turned = by_hand(4, [0, 1, 0, 1, 2, 1, 2])
    for context in ([], [0], [0, 1], [1], [1, 2], [2, 1, 2]):
        # The last document's end is seen by nobody: here it is another one's.
        assert model.distribution(context)[3] > 0
        assert turned.distribution(context).sum() == pytest.approx(1)


def test_of_words_that_never_change_their_neighbour_little_is_expected_elsewhere() -> None:
    """Kneser and Ney's point: 2 is as frequent as 1, but follows 3 alone."""
    tokens = [EOT, *[3, 2] * 10, 1, 4, 1, 5, 1, 6, 1, 7, 1, 4, 1, 5, 1, 6, 1, 7, 1, 1]
    p = count(np.array(tokens), 9, EOT, 2).distribution([8])
    assert p[1] > 3 * p[2]


def test_an_ngram_run_has_the_interface_of_any_run(tokens: Place, tmp_path: Path) -> None:
    out = tmp_path / "model"
    call = ["train", tokens.path, "--out", str(out), "--model", "ngram", "--set", "train.model.order=4", "--json"]
    first = CliRunner().invoke(app, call)
    assert first.exit_code == 0, first.output
    result = json.loads(first.stdout)
    index = load_index(tokens)
    val = TokenText.of(tokens, index, "val")
    model, _, _ = load_model(Place.of(str(out)))
    assert isinstance(model, NgramModel)
    loss = -model.log_probabilities(val.read(0, len(val))).mean()
    split = index.splits["val"]
    assert result["val_loss"] == pytest.approx(loss)
    assert result["perplexity"] == pytest.approx(math.exp(loss))
    assert result["bits_per_byte"] == pytest.approx(loss / math.log(2) * split.tokens / split.bytes)
    assert result["tokens"] == index.splits["train"].tokens
    before, after = read_lines(Place.of(str(out / "metrics.jsonl")))
    assert (before["val_perplexity"], after["val_loss"]) == (pytest.approx(index.vocab_size), result["val_loss"])
    assert generate(Place.of(str(out)), ["the cat sees the d"], Sampling(3, 0))[0] == "og "
    both = generate(Place.of(str(out)), ["the dog", "t"], Sampling(20, 0.9, seed=5))
    assert both[1] == generate(Place.of(str(out)), ["t"], Sampling(20, 0.9, seed=6))[0]
    assert json.loads(CliRunner().invoke(app, call).stdout) == result | {"fresh": False}
    with pytest.raises(ChangedError, match="discounts"):
        train(
            tokens,
            Place.of(str(out)),
            load_config("ngram", None, [f"train.model.{s}" for s in ("order=4", "discounts=1")]),
            Session(),
        )


def test_an_ngram_run_that_was_killed_or_stopped_ends_in_the_same_bytes(tokens: Place, tmp_path: Path) -> None:
    config = load_config("ngram", None, [])
    whole, out = Place.of(str(tmp_path / "whole")), Place.of(str(tmp_path / "out"))
    train(tokens, whole, config, Session())
    pid = os.fork()
    if pid == 0:
        train(tokens, out, config, Session(progress=At(3, lambda: os.kill(os.getpid(), signal.SIGKILL))))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    session = Session()
    session.progress = At(3, lambda: setattr(session.stop, "signal", signal.SIGTERM))
    with pytest.raises(StoppedEarly):
        train(tokens, out, config, session)
    train(tokens, out, config, Session())
    assert records(out) == records(whole)
    assert weights(out) == weights(whole)


def test_part_of_the_training_split_and_windows_that_do_not_matter(
    tokens: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = train(
        tokens, Place.of(str(tmp_path / "a")), load_config("ngram", None, ["train.loop.tokens=500"]), Session()
    )
    assert part.tokens == 500
    model, _, _ = load_model(Place.of(str(tmp_path / "a")))
    assert isinstance(model, NgramModel)
    val = TokenText.of(tokens, load_index(tokens), "val")
    whole = mean_loss(model, val, 1, len(val))
    monkeypatch.setattr("llmdata.train.ngram_run.CHUNK", 3)
    assert mean_loss(model, val, 1, len(val)) == pytest.approx(whole, rel=1e-12)


MLPS = [MLPConfig(window=5, embedding=3, hidden=7, context=40, direct=direct) for direct in (False, True)]


def made(config: MLPConfig) -> MLP:
    model = MLP(config, 30)
    model.initialise(torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.output.weight.mul_(30)  # larger than at the start, so that mistakes show
        model.hidden.bias.normal_(generator=torch.Generator().manual_seed(2))
    return model.eval()


@pytest.mark.parametrize("config", MLPS, ids=["hidden", "direct"])
def test_the_mlp_is_bengios_formula(config: MLPConfig) -> None:
    model = made(config)
    ids = torch.randint(0, 30, (1, 9), generator=torch.Generator().manual_seed(0))
    h, d = model.hidden.weight, model.hidden.bias
    u, b = model.output.weight[:, :7], model.output.weight[:, -1]
    w = model.output.weight[:, 7:-1] if config.direct else torch.zeros(30, 15)
    with torch.no_grad():
        logits = model.head(model(ids))[0]
        for place in range(9):
            before = [30] * (4 - place) + ids[0, max(0, place - 4) : place + 1].tolist()
            x = torch.cat([model.embedding.weight[token] for token in before])
            torch.testing.assert_close(logits[place], b + w @ x + u @ torch.tanh(d + h @ x))
    assert model.parameter_count() == 31 * 3 + 7 * 15 + 7 + 30 * (7 + 1) + (30 * 15 if config.direct else 0)


@pytest.mark.parametrize("config", MLPS, ids=["hidden", "direct"])
def test_the_mlp_reads_on_from_its_cache_and_hides_documents(config: MLPConfig) -> None:
    model = made(config)
    ids = torch.randint(1, 30, (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, cache = model(ids), model.new_cache(3)
        parts = [model(ids[:, a:b], cache=cache) for a, b in ((0, 2), (2, 3), (3, 11), (11, 20))]
        torch.testing.assert_close(torch.cat(parts, dim=1), whole)
        ids[0, [0, 3, 4, 15]] = EOT
        cuts = [ids[:1, a:b] for a, b in ((0, 3), (3, 4), (4, 15), (15, 20))]
        torch.testing.assert_close(model(ids[:1], EOT), torch.cat([model(cut) for cut in cuts], dim=1))


SMALL = [
    *("train.model.window=8", "train.model.embedding=8", "train.model.hidden=48", "train.model.context=32"),
    *("train.data.batch_tokens=256", "train.optim.lr=0.02", "train.threads=1", "train.checkpoint_every=20"),
]


def test_an_mlp_run_learns_and_goes_on_after_a_kill(tokens: Place, tmp_path: Path) -> None:
    config = load_config("mlp", 120, SMALL)
    whole, out = Place.of(str(tmp_path / "whole")), Place.of(str(tmp_path / "out"))
    result = train(tokens, whole, config, Session())
    assert generate(whole, ["the cat sees the d"], Sampling(3, 0))[0] == "og "
    assert generate(whole, ["the cat " * 9], Sampling(50, 1.0))[0]
    assert result.bits_per_byte is not None
    assert result.bits_per_byte < 1.5
    pid = os.fork()
    if pid == 0:
        train(tokens, out, config, Session(progress=At(70, lambda: os.kill(os.getpid(), signal.SIGKILL))))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    train(tokens, out, config, Session())
    assert [without_times(line) for line in records(out)] == records(whole)
    assert weights(out) == weights(whole)


def test_what_is_for_decoders_says_so(tokens: Place, tmp_path: Path) -> None:
    for model in ("ngram", "mlp"):
        out = str(tmp_path / model)
        train(
            tokens,
            Place.of(out),
            load_config(model, None if model == "ngram" else 2, SMALL if model == "mlp" else []),
            Session(),
        )
        for command in (["export", out, "--to", "hf", "--out", out + "-hf"], ["plan", "--run", out]):
            refused = CliRunner().invoke(app, command)
            assert refused.exit_code == 2, refused.output
            assert f"a baseline ({model})" in " ".join(refused.stderr.split())
        begun = ["train", tokens.path, "--out", out + "-2", "--model", model, "--init", out]
        assert "leave out --model" in CliRunner().invoke(app, begun).stderr
        planned = CliRunner().invoke(app, ["plan", tokens.path, "--model", model])
        assert planned.exit_code == 2
        assert f"{model}, a baseline" in " ".join(planned.stderr.split())


@pytest.mark.parametrize(
    ("model", "setting", "message"),
    [
        ("ngram", "train.optim.lr=1e-2", "counted, not trained in steps"),
        ("ngram", "train.loop.steps=10", "loop.tokens"),
        ("ngram", "train.eval_tokens=1000", "eval_tokens"),
        ("ngram", "train.model.order=9", "less than or equal to 8"),
        ("ngram", "train.model.window=3", "allowed: kind, order, discounts"),
        ("mlp", "train.recompute=true", "recompute is for decoders"),
        ("mlp", "train.optim.name=muon", "optim.name is for decoders"),
        ("mlp", "train.model.layers=3", "allowed: kind, window"),
        ("mlp", "train.model.window=999", "longer than the training sequences"),
        ("demo", "train.model={kind: [1]}", "no such key"),
    ],
)
def test_settings_that_cannot_be(model: str, setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(model, None, [setting])


def test_settings_read_back_the_same() -> None:
    for name in ("ngram", "mlp"):
        config = load_config(name, None, [])
        assert parse(TrainConfig, dump(config), "dumped") == config
        assert parse(TrainConfig, f"model: {name}", "named").shape == config.shape
