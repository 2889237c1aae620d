"""What GPUs can do by their makers' data sheets: the peak that MFU is measured against, and memory. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GPU:
    """`flops`: dense matrix products a second in bfloat16 (float16 before Ampere), sums in float32. `memory` in bytes.

    Where a data sheet gives the figure with sparsity, it is half of that.
    """

    name: str
    flops: float
    memory: float


def _gpu(name: str, teraflops: float, gigabytes: float) -> GPU:
    return GPU(name, teraflops * 1e12, gigabytes * 1e9)


GPUS: tuple[GPU, ...] = (
    _gpu("v100", 125, 32),
    _gpu("t4", 65, 16),
    _gpu("a100-40gb", 312, 40),
    _gpu("a100", 312, 80),
    _gpu("a10", 125, 24),
    _gpu("l4", 121, 24),
    _gpu("l40s", 362, 48),
    _gpu("rtx 3090", 71, 24),
    _gpu("rtx 4090", 165, 24),
    _gpu("rtx 5090", 209, 32),
    _gpu("h100 pcie", 756, 80),
    _gpu("h100 nvl", 835, 94),
    _gpu("h100", 989, 80),
    _gpu("gh200", 989, 96),
    _gpu("h200", 989, 141),
    _gpu("b200", 2250, 180),
    _gpu("mi250x", 383, 128),
    _gpu("mi300x", 1307, 192),
    _gpu("mi325x", 1307, 256),
)


def find_gpu(name: str) -> GPU | None:
    """The GPU that `name` means: `h100`, or as drivers write it, `NVIDIA H100 80GB HBM3`; None if it is not listed.

    Every word of an entry has to be in `name`; the entry with the longest name wins.
    """
    words = _words(name)
    fitting = [gpu for gpu in GPUS if set(_words(gpu.name)) <= set(words)]
    return max(fitting, key=lambda gpu: len(gpu.name), default=None)


def _words(name: str) -> list[str]:
    return name.lower().replace("-", " ").replace("_", " ").split()
