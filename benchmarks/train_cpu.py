"""Training speed on the CPU beside a plain loop of the same model, turn by turn.

    python benchmarks/train_cpu.py [--size small|medium] [--rounds 8] [--threads 2] [--dtype bfloat16] [--dropout 0.2]

The plain loop is what a tutorial would write: GPT-2 blocks in PyTorch, AdamW, clipping, the loss read every step. Each
has a process of its own, since ours tells OpenMP how long to spin, and waits while the other has its turn. CPU time is
told beside the tokens a second: on a busy machine it is the one that still says something.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from llmdata.engine.session import Session
from llmdata.storage import token_shards
from llmdata.storage.encoding_kinds import CharEncoding
from llmdata.storage.manifest import sha256_of
from llmdata.storage.place import Place
from llmdata.storage.token_index import Shard, Split, TokenIndex
from llmdata.tokenizer.files import save_encoding
from llmdata.train import TrainConfig
from llmdata.train.device import reproducible
from llmdata.train.loop import FLUSH, Trainer
from llmdata.train.metrics import Log

SIZES = {
    "small": {"layers": 4, "heads": 4, "width": 128, "context": 64, "batch": 12},
    "medium": {"layers": 6, "heads": 6, "width": 384, "context": 256, "batch": 8},
}
VOCABULARY = 65


class PlainBlock(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = (z.view(b, t, self.heads, -1).transpose(1, 2) for z in self.qkv(self.norm1(x)).split(c, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout)
        x = x + F.dropout(self.proj(y.transpose(1, 2).contiguous().view(b, t, c)), self.dropout)
        return x + F.dropout(self.down(F.gelu(self.up(self.norm2(x)))), self.dropout)


class PlainModel(nn.Module):
    def __init__(self, layers: int, heads: int, width: int, context: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.tokens, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(PlainBlock(width, heads, dropout) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width, bias=False), nn.Linear(width, VOCABULARY, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        x = F.dropout(self.tokens(ids) + self.positions(torch.arange(ids.shape[1])), self.dropout)
        logits = self.head(self.norm(self.blocks(x)))
        return F.cross_entropy(logits.view(-1, VOCABULARY), targets.reshape(-1))


class PlainLoop:
    def __init__(self, data: np.ndarray, batch: int, dtype: str, dropout: float, **shape: int) -> None:
        self.data, self.batch, self.context = data, batch, shape["context"]
        self.autocast = torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")
        self.model = PlainModel(**shape, dropout=dropout)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)

    def step(self) -> None:
        starts = torch.randint(len(self.data) - self.context - 1, (self.batch,)).tolist()
        x = torch.stack([torch.from_numpy(self.data[i : i + self.context].astype(np.int64)) for i in starts])
        y = torch.stack([torch.from_numpy(self.data[i + 1 : i + 1 + self.context].astype(np.int64)) for i in starts])
        with self.autocast:
            loss = self.model(x, y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        loss.item()


def trainer(folder: Place, data: np.ndarray, batch: int, arguments: argparse.Namespace, **shape: int) -> Trainer:
    """Our trainer on the same tokens."""
    encoding = CharEncoding([chr(32 + i) for i in range(VOCABULARY - 2)], {"<|endoftext|>": 63, "<|unk|>": 64})
    save_encoding(encoding, folder / "tokens" / "tokenizer", {})
    path = folder / "tokens" / "train.bin"
    path.write_bytes(token_shards.header(data.dtype, len(data)) + data.tobytes())
    shard = Shard("train.bin", len(data), sha256_of(path), path.size())
    index = TokenIndex(encoding.digest, VOCABULARY, 63, "uint16", "llmc", {"train": Split(len(data), 1, 1, [shard])})
    config = TrainConfig.model_validate(
        {
            "model": {**shape, "dropout": arguments.dropout},
            "data": {"batch_tokens": batch * shape["context"]},
            "loop": {"steps": 10**6},
            "device": "cpu",
            "compile": arguments.compile,
            "dtype": arguments.dtype,
        }
    )
    made = Trainer(folder / "tokens", index, folder / "model", config, Session(), arguments.threads)
    made.metrics = Log(folder / "model" / "metrics.jsonl", 0)
    return made


def steps_of(arguments: argparse.Namespace, folder: Place) -> Callable[[], None]:
    """What makes one turn of FLUSH steps."""
    shape = dict(SIZES[arguments.size])
    batch = shape.pop("batch")
    data = np.random.default_rng(0).integers(0, 63, 1_000_000).astype(np.uint16)
    if arguments.worker == "plain":
        plain = PlainLoop(data, batch, arguments.dtype, arguments.dropout, **shape)

        def turn() -> None:
            for _ in range(FLUSH):
                plain.step()
    else:
        ours = trainer(folder, data, batch, arguments, **shape)

        def turn() -> None:
            for _ in range(FLUSH):
                ours._train_step()
            ours._look()

    return turn


def work(arguments: argparse.Namespace) -> None:
    """Take a turn for each line of the input and answer with its seconds, by the clock and of CPU time."""
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.worker == "plain":
            torch.set_num_threads(arguments.threads)
            take_turns(steps_of(arguments, Place.of(temporary)))
        else:
            with reproducible(arguments.threads):
                take_turns(steps_of(arguments, Place.of(temporary)))


def take_turns(turn: Callable[[], None]) -> None:
    for _ in sys.stdin:
        began, busy = time.perf_counter(), cpu_seconds()
        turn()
        print(time.perf_counter() - began, cpu_seconds() - busy, flush=True)


def cpu_seconds() -> float:
    """Of this process and of those that it shares each batch with."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children())]
    return sum(spent.user + spent.system for spent in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of products, in both")
    parser.add_argument("--dropout", type=float, default=0.0, help="in both")
    parser.add_argument("--compile", action="store_true", help="ours with torch.compile (needs g++)")
    parser.add_argument("--worker", choices=("plain", "ours"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    shape = SIZES[arguments.size]
    tokens = FLUSH * shape["batch"] * shape["context"]
    names = ("plain", "ours")
    command = [sys.executable, *sys.argv, "--worker"]
    plain = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}  # which llmdata.train set
    workers = {
        name: subprocess.Popen(
            [*command, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=plain if name == "plain" else None,
        )
        for name in names
    }
    rates: dict[str, list[float]] = {name: [] for name in names}
    busy: dict[str, list[float]] = {name: [] for name in names}  # milliseconds of CPU time a step
    for turn in range(arguments.rounds + 1):
        for name in names:
            stdin, stdout = workers[name].stdin, workers[name].stdout
            assert stdin is not None
            assert stdout is not None
            print(file=stdin, flush=True)
            seconds, cpu = map(float, stdout.readline().split())
            if turn:  # the first warms up
                rates[name].append(tokens / seconds)
                busy[name].append(cpu / FLUSH * 1000)
    for worker in workers.values():
        worker.communicate()
    middle = {name: round(statistics.median(values)) for name, values in rates.items()}
    ratio = statistics.median(a / b for a, b in zip(rates["ours"], rates["plain"], strict=True))
    cpu_ms = {name: round(statistics.median(values), 1) for name, values in busy.items()}
    found = {"size": arguments.size, "tokens_per_second": middle, "ratio": round(ratio, 3), "cpu_ms_a_step": cpu_ms}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
