"""The trainer's operations in C beside PyTorch's, by one thread of a CPU, turn by turn.

    python benchmarks/train_kernels.py [--rounds 30] [--products ours|blas]

Shapes are those of half a batch of the two models of `train_cpu.py`. Each operation goes forwards and backwards; the
median of the rounds' ratios is told beside the best times, since whoever shares the machine takes time from both. The
products within a layer are those that training would choose on this processor, if not told otherwise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from llmdata.train import kernels
from llmdata.train.config import ModelConfig
from llmdata.train.model import Attention, Block

MODELS = {
    "0.80M": (ModelConfig(layers=4, heads=4, width=128, context=64), 6),
    "10.65M": (ModelConfig(layers=6, heads=6, width=384, context=256), 4),
    "10.65M, as Llama": (
        ModelConfig(layers=6, heads=6, width=384, context=256, norm="rmsnorm", activation="swiglu", position="rope"),
        4,
    ),
}


def operations(config: ModelConfig, batch: int) -> dict[str, Callable[[], None]]:
    x = torch.randn(batch, config.context, config.width, requires_grad=True)
    gradient = torch.randn_like(x)
    square, attention = nn.Linear(config.width, config.width, bias=False), Attention(config)
    layer = Block(config)
    rope = torch.rand(2, config.context, config.head_width // 2) if config.position == "rope" else None

    def both(forward: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        return lambda: forward(x).backward(gradient)  # type: ignore[no-untyped-call]

    return {
        "product": both(lambda x: kernels.linear(square, x)),
        "attention": both(lambda x: attention(x, rope, None)),
        "layer": both(lambda x: layer(x, rope, None)),
        "dropout": both(lambda x: kernels.dropout(x, 0.2)),
    }


def seconds(call: Callable[[], None], repeats: int) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--products", choices=("ours", "blas"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.products is not None:
        kernels.mkl_is_faster = lambda: arguments.products == "blas"
    available = kernels.available
    assert available(torch.zeros(1)), "no C library, or a processor without AVX2"
    for model, (config, batch) in MODELS.items():
        for name, call in operations(config, batch).items():
            call()
            repeats = max(1, round(0.02 / seconds(call, 1)))
            times: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(arguments.rounds):
                for fast in times:
                    kernels.available = available if fast else lambda x: False
                    times[fast].append(seconds(call, repeats))
            found = {
                "model": model,
                "operation": name,
                "ms": round(min(times[True]) * 1000, 3),
                "pytorch_ms": round(min(times[False]) * 1000, 3),
                "ratio": round(statistics.median(b / a for a, b in zip(times[True], times[False], strict=True)), 2),
            }
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
