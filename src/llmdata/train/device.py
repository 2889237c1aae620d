"""Where training runs and in which precision."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from llmdata.errors import ConfigError
from llmdata.train.config import TrainConfig
from llmdata.train.gpus import find_gpu
from llmdata.train.parallel import ALONE, Ranks


def choose_device(name: str, ranks: Ranks = ALONE) -> torch.device:
    """The device that `name` (auto, cpu, cuda, cuda:N) means here; raises ConfigError if it is not there.

    Of several ranks each has a GPU of its own.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and ranks.size > 1:
        if ":" in name:
            raise ConfigError(f"device {name}: each of {ranks.size} ranks takes a GPU of its own; give cuda or auto")
        count = torch.cuda.device_count()
        if ranks.here > count > 0:
            raise ConfigError(
                f"{ranks.here} ranks on this machine, but {count} GPUs that PyTorch can use: --nproc-per-node is at "
                "most that"
            )
        device = torch.device("cuda", ranks.local)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name}: there are {torch.cuda.device_count()} GPUs that PyTorch can use here")
    return device


def autocast(device: torch.device, dtype: str) -> torch.autocast:
    """The precision of matrix products: bfloat16 on a GPU unless told otherwise; weights stay float32."""
    wanted = dtype == "bfloat16" or (dtype == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)


def attention_kernels(device: torch.device, cudnn: bool = True) -> AbstractContextManager[None]:
    """On a GPU, cuDNN's attention where it can, then the others; without `cudnn` the others alone.

    cuDNN's is the fastest on Hopper. But it makes a plan for every new length, which takes up to half a second each,
    and with a mask its gradient can be NaN at lengths 64 above a multiple of 128 (PyTorch 2.11 and later,
    pytorch/pytorch#196678).
    """
    if device.type != "cuda":
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    order = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    if cudnn:
        order.insert(0, SDPBackend.CUDNN_ATTENTION)
    chosen: AbstractContextManager[None] = sdpa_kernel(order, set_priority=True)
    return chosen


def peak_flops(device: torch.device) -> float | None:
    """FLOP a second of the GPU by its name; None if it is not listed, or not a GPU."""
    if device.type != "cuda":
        return None
    gpu = find_gpu(torch.cuda.get_device_name(device))
    return gpu.flops if gpu else None


def wants_compile(config: TrainConfig, device: torch.device) -> bool:
    """Compiling costs half a minute and needs a C compiler: by itself only on a GPU, where it pays most."""
    if config.compile == "auto":
        return device.type == "cuda" and any(map(shutil.which, ("cc", "gcc", "clang")))
    if config.compile and device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise ConfigError("compile: on a CPU this needs a C++ compiler (g++); leave it out, or install one")
    return bool(config.compile)


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """A fixed number of threads and deterministic algorithms on the CPU: the same sums to the last bit.

    On a GPU the kernels stay the fast ones, whose atomic sums differ in the last bits from run to run.
    """
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU for what autocast leaves in float32; none on a CPU
    torch.use_deterministic_algorithms(not torch.cuda.is_available())
    # Otherwise every new tensor is filled with NaN first.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
