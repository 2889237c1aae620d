"""Bits a byte of an n-gram model, Bengio's MLP and a transformer on the same tokens.

    python benchmarks/baselines.py TOKENS --transformer RECIPE --out DIR [--seeds 3] [--orders 2,7] [--mlp KEY=VALUE …]
    python benchmarks/baselines.py TOKENS --transformer RECIPE --out DIR --choose

RECIPE is what `llmdata train --model` takes: model, batch and steps are the transformer's; the MLP has as many steps
of as many tokens. All are measured on the whole validation split. CPU seconds are of all threads, measurements
included. Mixtures are of the first seed's network and the last of --orders, half of each one's probability; they cost
what the two cost. Runs stay in DIR, and a command that was stopped goes on there. `--choose` shows n-gram orders, and
MLPs of several rates after a quarter of the steps, on the last twentieth of the training split, which is kept out of
training for it: what the other command's settings were chosen by.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from llmdata.cli.train import load_config
from llmdata.engine.session import Session
from llmdata.storage import token_shards
from llmdata.storage.manifest import sha256_of
from llmdata.storage.place import Place
from llmdata.storage.token_index import Shard, Split, TokenIndex, load_index
from llmdata.train import TrainConfig, TrainResult, train
from llmdata.train.data import TokenText, evaluation_windows
from llmdata.train.ngram import NgramModel
from llmdata.train.sampling import load_model

HELD_OUT = 20
ORDERS = (3, 4, 5, 6, 7, 8)
RATES = ("4e-3", "8e-3", "16e-3", "32e-3")


def config_of(model: str, settings: list[str], seed: int = 0) -> TrainConfig:
    """The settings of a run that is measured on the whole validation split."""
    loaded = load_config(model, None, settings)
    given = loaded.model_dump() | {"eval_tokens": None, "seed": seed, "sample_tokens": 0}
    if model != "ngram":
        given["data"] |= {"seed": seed}
        given |= {"eval_every": max(1, loaded.steps // 4), "checkpoint_every": max(1, loaded.steps // 8)}
    return TrainConfig.model_validate(given)


def mlp_config(transformer: TrainConfig, settings: list[str], seed: int = 0, share: int = 1) -> TrainConfig:
    """The MLP's, with the transformer's batch and number of steps (a `share`-th of them)."""
    length = [f"train.loop.steps={transformer.steps // share}"]
    batch = transformer.data.batch_tokens
    return config_of("mlp", [*length, f"train.data.batch_tokens={batch}", *settings], seed)


def held_out(tokens: Place, out: Place) -> Place:
    """The tokens folder `out`: training text of `tokens` but its last twentieth, which validates."""
    index = load_index(tokens)
    text = TokenText.of(tokens, index, "train")
    ids = text.read(0, len(text))
    cut = len(ids) - len(ids) // HELD_OUT
    dtype = token_shards.dtype_for(index.vocab_size)
    splits = {}
    for name, part in (("train", ids[:cut]), ("val", ids[cut:])):
        path = out / f"{name}-00000.bin"
        path.write_bytes(token_shards.header(dtype, len(part)) + part.astype(dtype).tobytes())
        size = index.splits["train"].bytes * len(part) // len(ids)  # bytes by their share of tokens
        splits[name] = Split(len(part), 1, size, [Shard(path.name, len(part), sha256_of(path), path.size())])
    for file in (tokens / "tokenizer").walk():
        (out / "tokenizer" / file.name).write_bytes(file.read_bytes())
    TokenIndex(index.tokenizer_digest, index.vocab_size, index.eot, np.dtype(dtype).name, "llmc", splits).save(out)
    return out


def choose(tokens: Place, out: Place, arguments: argparse.Namespace, transformer: TrainConfig) -> None:
    """Validation loss on held-out training text, of n-gram orders and of the MLP's rates."""
    part = held_out(tokens, out / "held-out")
    for order in ORDERS:
        result = run(part, out / f"choose-ngram-{order}", config_of("ngram", [f"train.model.order={order}"]))
        print(f"ngram order {order}: {result.val_loss:.4f} nats, {result.parameters:,} parameters", flush=True)
    for rate in RATES:
        settings = [*arguments.mlp, f"train.optim.lr={rate}"]
        result = run(part, out / f"choose-mlp-{rate}", mlp_config(transformer, settings, share=4))
        print(f"mlp {' '.join(settings)}: {result.val_loss:.4f} nats, {result.parameters:,} parameters", flush=True)


def run(tokens: Place, out: Place, config: TrainConfig) -> TrainResult:
    return train(tokens, out, config, Session())


def compare(tokens: Place, out: Place, arguments: argparse.Namespace, transformer: TrainConfig) -> None:
    orders = arguments.orders.split(",")
    runs = {f"{order}-gram": [config_of("ngram", [f"train.model.order={order}"])] for order in orders}
    runs |= {"MLP": [], "transformer": []}
    for seed in range(arguments.seeds):
        runs["MLP"].append(mlp_config(transformer, arguments.mlp, seed))
        runs["transformer"].append(config_of(arguments.transformer, arguments.set, seed))
    print("| model | parameters | tokens | nats a token | bits a byte | CPU seconds |\n|---|---|---|---|---|---|")
    for name, configs in runs.items():
        results, seconds = [], []
        for seed, config in enumerate(configs):
            place, before = out / f"{name}-{seed}", time.process_time()
            begun = place.exists()
            results.append(run(tokens, place, config))
            if not begun:  # else a part of it was done before
                (place / "cpu.json").write_json(time.process_time() - before)
            if (place / "cpu.json").exists():
                seconds.append(float((place / "cpu.json").read_json()))
        cells: list[Any] = [f"{results[0].parameters:,}", f"{results[0].tokens:,}"]
        for field, digits in (("val_loss", 4), ("bits_per_byte", 3)):
            values = [getattr(result, field) for result in results]
            spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):,.{digits}f}{spread}")
        cells.append(f"{statistics.mean(seconds):,.0f}" if seconds else "–")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    counted, bits = probabilities(tokens, out / f"{orders[-1]}-gram-0"), bits_of_a_nat(tokens)
    for name in ("MLP", "transformer"):
        loss = -float(np.log((counted + probabilities(tokens, out / f"{name}-0")) / 2).mean())
        print(f"| {name} and {orders[-1]}-gram, half each | | | {loss:.4f} | {loss * bits:.3f} | |", flush=True)


def probabilities(tokens: Place, run: Place) -> npt.NDArray[np.float64]:
    """What the model of `run` gives each token of the validation split but the first, measured as in training."""
    index = load_index(tokens)
    text = TokenText.of(tokens, index, "val")
    model: Any = load_model(run, device="cpu")[0]
    if isinstance(model, NgramModel):
        return np.exp(model.log_probabilities(text.read(0, len(text))))
    parts = []
    with torch.no_grad():
        for batch in evaluation_windows(text, model.context, None, max(1, 8192 // model.context)):
            ids = torch.from_numpy(batch)
            p = torch.softmax(model.head(model(ids[:, :-1])), dim=-1)
            parts.append(p.gather(-1, ids[:, 1:, None]).flatten().double().numpy())
    return np.concatenate(parts)


def bits_of_a_nat(tokens: Place) -> float:
    """Bits a byte of a nat a token of the validation split."""
    split = load_index(tokens).splits["val"]
    return split.tokens / split.bytes / float(np.log(2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens", type=Path)
    parser.add_argument(
        "--transformer", required=True, help="a preset or a recipe, as `llmdata train --model` takes it"
    )
    parser.add_argument("--set", action="append", default=[], help="a setting of the transformer, train.KEY=VALUE")
    parser.add_argument("--mlp", action="append", default=[], help="a setting of the MLP, train.KEY=VALUE")
    parser.add_argument("--orders", default="7", help="of the n-gram models")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--choose", action="store_true", help="show what settings do on held-out training text")
    arguments = parser.parse_args()
    tokens, out = Place.of(str(arguments.tokens)), Place.of(str(arguments.out))
    transformer = config_of(arguments.transformer, arguments.set)
    if arguments.choose:
        choose(tokens, out, arguments, transformer)
    else:
        compare(tokens, out, arguments, transformer)


if __name__ == "__main__":
    main()
