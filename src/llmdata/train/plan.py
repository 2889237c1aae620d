"""What a training run will take: arithmetic, memory, GPUs, days, money; and the best size for a budget.

Sources: 6ND and the attention term as in PaLM (arXiv 2204.02311, appendix B); bytes of state a parameter as in ZeRO
(arXiv 1910.02054, section 3.1); activations as in Korthikanti et al. (arXiv 2205.05198, section 4). Imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from llmdata.errors import ConfigError
from llmdata.train.config import ModelConfig
from llmdata.train.gpus import GPU

Recompute = Literal["none", "selective", "full"]
USABLE = 0.9
"""Share of a GPU's memory that a run can fill: the rest is the driver's, NCCL's buffers and fragmentation."""
EPOCHS = 4
"""Passes over the same text that are nearly as good as new text (arXiv 2305.16264)."""


@dataclass(frozen=True, slots=True)
class Precision:
    """Bytes a parameter of weights, gradients and AdamW's state (with master weights), and bytes an activation."""

    weights: float
    gradients: float
    optimizer: float
    activations: float


PRECISIONS: dict[str, Precision] = {
    "mixed": Precision(2, 2, 12, 2),  # bfloat16, with weights and two moments in float32 for the update
    "autocast": Precision(4, 4, 8, 2),  # float32, products in bfloat16: what `llmdata train` does on a GPU
    "fp32": Precision(4, 4, 8, 4),
    "bf16": Precision(2, 2, 4, 2),  # all of it in bfloat16
}


@dataclass(frozen=True, slots=True)
class Law:
    """Loss in nats a token = E + A / N^alpha + B / D^beta for N parameters and D tokens."""

    name: str
    e: float
    a: float
    b: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        return float(self.e + self.a / parameters**self.alpha + self.b / tokens**self.beta)

    def optimum(self, flops: float) -> tuple[float, float]:
        """Parameters and tokens with the lowest loss where 6 N D = `flops` (Hoffmann et al., equation 4)."""
        ratio = (self.alpha * self.a / (self.beta * self.b)) ** (1 / (self.alpha + self.beta))
        parameters = ratio * (flops / 6) ** (self.beta / (self.alpha + self.beta))
        return parameters, flops / 6 / parameters


CHINCHILLA = Law("Chinchilla's law (Hoffmann et al. 2022, approach 3)", 1.69, 406.4, 410.7, 0.34, 0.28)
REFITTED = Law("the same, refitted (Besiroglu et al. 2024)", 1.8172, 482.01, 2085.43, 0.3478, 0.3658)
"""arXiv 2404.10102: the published constants are rounded and from a fit that had not converged."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """A compute-optimal size: by which rule, and the loss that the refitted law expects of it."""

    rule: str
    parameters: float
    tokens: float
    loss: float


def optima(flops: float) -> list[Optimum]:
    """The best sizes for `flops` by 20 tokens a parameter and by the fitted laws."""
    even = math.sqrt(flops / 6 / 20)
    sizes = [("20 tokens a parameter", even, 20 * even)]
    sizes += [(law.name, *law.optimum(flops)) for law in (CHINCHILLA, REFITTED)]
    return [Optimum(rule, n, d, REFITTED.loss(n, d)) for rule, n, d in sizes]


def parameter_count(config: ModelConfig, vocab_size: int) -> int:
    """Parameters of the model that `config` describes, without building it."""
    c, kv = config.width, config.key_value_heads * config.head_width
    block = block_matrices(config)
    if config.bias:
        block += (c + 2 * kv) + c + config.ffn_width * (2 if config.activation == "swiglu" else 1) + c
    norm = c * (2 if config.norm == "layernorm" and config.bias else 1)
    vocabulary = vocab_size * c * (1 if config.tied else 2)
    positions = config.context * c if config.position == "learned" else 0
    return vocabulary + positions + config.layers * (block + 2 * norm) + norm


def block_matrices(config: ModelConfig) -> int:
    """Elements of the matrices of one block: queries, keys, values, output, and the feed-forward layer's."""
    c, kv = config.width, config.key_value_heads * config.head_width
    return c * (c + 2 * kv) + c * c + (3 if config.activation == "swiglu" else 2) * c * config.ffn_width


def usual_shape(parameters: float, context: int) -> ModelConfig:
    """A shape of so many parameters: 128 units of width a layer, as Llama 3's sizes have, and 12 L C² parameters."""
    layers = max(1, round((parameters / (12 * 128**2)) ** (1 / 3)))
    return ModelConfig(layers=layers, heads=layers, width=128 * layers, context=context)


def flops_per_token(parameters: float, config: ModelConfig) -> tuple[float, float]:
    """Training FLOPs a token: 6 N, and with attention's products, 6 N + 12 L C T (T: context, masked half too)."""
    dense = 6.0 * parameters
    return dense, dense + 12.0 * config.layers * config.width * config.context


def activation_bytes(config: ModelConfig, sequences: int, precision: Precision, recompute: Recompute) -> float:
    """Memory of the activations that the backward pass needs, for `sequences` sequences of the model's context.

    none: attention's matrix is kept; selective: it is not, as with fused attention; full: a block's input alone is,
    and one block in hand. For GPT's shape this is s b h (34 + 5 a s / h) bytes a layer, 34 s b h, and 2 s b h.
    """
    c, kv, f = config.width, config.key_value_heads * config.head_width, config.ffn_width
    tokens = sequences * config.context
    inner = 4 * f if config.activation == "swiglu" else 2 * f
    # Inputs of two norms, of the four products (queries and their keys and values; output; up), and what is inside.
    values = 2 * c + c + (c + 2 * kv) + c + c + inner
    masks = 2 * c if config.dropout else 0  # a byte each
    block = tokens * (values * precision.activations + masks)
    if recompute == "full":
        return config.layers * tokens * c * precision.activations + block
    if recompute == "none":
        matrix = config.heads * config.context * tokens
        block += matrix * (2 * precision.activations + (1 if config.dropout else 0))
    return config.layers * block


@dataclass(frozen=True, slots=True)
class Plan:
    """A run on paper. Bytes, FLOPs, seconds; None where no GPU is named or no price given."""

    parameters: float
    tokens: float
    shape: ModelConfig
    guessed_shape: bool
    flops: float
    flops_with_attention: float
    precision: str
    weights: float
    gradients: float
    optimizer: float
    recompute: Recompute
    activations: float
    token_bytes: float
    on_disk: int | None = None
    """Training tokens in the folder that the plan is for."""
    gpu: GPU | None = None
    mfu: float = 0.0
    split: int = 1
    least_gpus: int | None = None
    count: int | None = None
    per_gpu: float | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    cost: float | None = None

    @property
    def state(self) -> float:
        return self.weights + self.gradients + self.optimizer


def make_plan(
    parameters: float,
    tokens: float,
    shape: ModelConfig | None = None,
    *,
    context: int = 8192,
    vocab_size: int = 128_256,
    gpu: GPU | None = None,
    count: int | None = None,
    days: float | None = None,
    price: float | None = None,
    mfu: float = 0.4,
    precision: str = "mixed",
    recompute: Recompute | None = None,
    sequences: int = 1,
) -> Plan:
    """Plan a run of `tokens` tokens; without a `shape`, one that is usual for so many parameters.

    `count` GPUs, or as many as `days` days need, or as few as hold the model, its state sharded over all of them;
    `sequences` are a GPU's in one forward pass. `recompute` None: the least that leaves half of a GPU to the state.
    Raises ConfigError where `count` GPUs cannot hold the model.
    """
    kind = PRECISIONS[precision]
    config = shape or usual_shape(parameters, context)
    dense, all_flops = (flops * tokens for flops in flops_per_token(parameters, config))
    state = parameters * (kind.weights + kind.gradients + kind.optimizer)
    policies: tuple[Recompute, ...] = (recompute,) if recompute else ("selective", "full")
    room = gpu.memory * USABLE if gpu else math.inf
    for policy in policies:
        activations = activation_bytes(config, sequences, kind, policy)
        if activations <= room / 2:
            break
    plan = {
        "parameters": parameters,
        "tokens": tokens,
        "shape": config,
        "guessed_shape": shape is None,
        "flops": dense,
        "flops_with_attention": all_flops,
        "precision": precision,
        "weights": parameters * kind.weights,
        "gradients": parameters * kind.gradients,
        "optimizer": parameters * kind.optimizer,
        "recompute": policy,
        "activations": activations,
        "token_bytes": tokens * (2 if vocab_size <= 1 << 16 else 4),
    }
    if gpu is None:
        return Plan(**plan)  # type: ignore[arg-type]
    # Where one GPU's share of sequences does not leave half of it free, several work on the same sequences.
    split = max(1, math.ceil(activations / (room / 2)))
    least = split * math.ceil(state / (room - activations / split) / split)
    if count is None and days is not None:
        count = max(least, math.ceil(all_flops / (days * 86400 * gpu.flops * mfu)))
    count = count or least
    if count < least:
        raise ConfigError(
            f"{count} × {gpu.name} cannot hold it: {_gb(state)} of state and {_gb(activations)} of activations need "
            f"{least}. Give more GPUs or larger ones, a smaller model, or --recompute full."
        )
    seconds = all_flops / (count * gpu.flops * mfu)
    return Plan(
        **plan,  # type: ignore[arg-type]
        gpu=gpu,
        mfu=mfu,
        split=split,
        least_gpus=least,
        count=count,
        per_gpu=state / count + activations / split,
        seconds=seconds,
        tokens_per_second=tokens / seconds,
        cost=None if price is None else seconds / 3600 * count * price,
    )


def _gb(value: float) -> str:
    return f"{value / 1e9:,.0f} GB"
