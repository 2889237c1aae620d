"""Settings of `llmdata train`, and the presets by name. Imports no torch: recipes are validated with it."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from llmdata.config import Count, Section
from llmdata.errors import ConfigError


class RopeScaling(Section):
    """Llama 3.1's stretch of rotary positions to longer contexts."""

    factor: float = Field(default=8.0, ge=1)
    """Slow waves turn this many times slower."""
    low_freq_factor: float = Field(default=1.0, gt=0)
    """Waves that turn less often than this within `original_context` are stretched in full."""
    high_freq_factor: float = Field(default=4.0, gt=0)
    """Waves that turn more often than this within `original_context` stay as they are."""
    original_context: int = Field(default=8192, ge=1)
    """Context of the model before the stretch."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError("high_freq_factor has to be above low_freq_factor")
        return self


class ModelConfig(Section):
    """The shape of a decoder.

    GPT-2 is layernorm, learned positions, gelu_tanh, biases, tied; Llama is rmsnorm, rope, swiglu.
    """

    layers: int = Field(default=4, ge=1)
    """Blocks of attention and feed-forward."""
    heads: int = Field(default=4, ge=1)
    """Attention heads."""
    kv_heads: int | None = Field(default=None, ge=1)
    """Heads of keys and values; fewer than `heads` is grouped-query attention. None: as many as `heads`."""
    width: int = Field(default=128, ge=1)
    """Width of the residual stream."""
    context: int = Field(default=128, ge=2)
    """Positions that a token can look back on, and the length of a training sequence."""
    ffn: int | None = Field(default=None, ge=1)
    """Width inside the feed-forward layer. None: 4 × width, or with swiglu 8/3 × width to a multiple of 32."""
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    """Normalisation before attention, before feed-forward, and at the end."""
    norm_eps: float = Field(default=1e-5, gt=0)
    """Added to the variance in a normalisation."""
    position: Literal["learned", "rope"] = "learned"
    """Learned vectors added to the embedding (GPT-2), or rotary positions (Llama)."""
    rope_theta: float = Field(default=10_000.0, gt=1)
    """Base of the rotary wavelengths."""
    rope_scaling: RopeScaling | None = None
    """Stretch of rotary positions to a longer context than the model was first made for."""
    activation: Literal["gelu", "gelu_tanh", "swiglu"] = "gelu"
    """Feed-forward: two matrices with GELU between (GPT-2: in its tanh form), or gated (Llama)."""
    bias: bool = False
    """Biases in the matrices and norms, as GPT-2 has."""
    tied: bool = True
    """The embedding serves as output head too."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of activations dropped in training; for small data seen many times."""
    vocab_size: int | None = Field(default=None, ge=2)
    """Vocabulary. None: the tokenizer's, which is right in training. Stored padded to a multiple of 128."""

    @property
    def key_value_heads(self) -> int:
        return self.kv_heads or self.heads

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def ffn_width(self) -> int:
        if self.ffn is not None:
            return self.ffn
        return -(-8 * self.width // 3 // 32) * 32 if self.activation == "swiglu" else 4 * self.width

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} has to be a multiple of heads {self.heads}")
        if self.heads % self.key_value_heads:
            raise ValueError(f"heads {self.heads} has to be a multiple of kv_heads {self.key_value_heads}")
        if self.position == "rope" and self.head_width % 2:
            raise ValueError(f"rotary positions need an even width of a head, not {self.head_width}")
        return self


class MLPConfig(Section):
    """A baseline: Bengio's neural probabilistic language model (JMLR 3, 2003), trained as a decoder is."""

    kind: Literal["mlp"] = "mlp"
    window: int = Field(default=16, ge=1)
    """Tokens that the next one is predicted from; those before the text's start are a vector of their own."""
    embedding: int = Field(default=64, ge=1)
    """Width of a token's vector."""
    hidden: int = Field(default=512, ge=1)
    """Width of the tanh layer."""
    direct: bool = False
    """Connections from the tokens' vectors to the output, past the tanh layer."""
    context: int = Field(default=256, ge=2)
    """Length of a training sequence, whose first `window` tokens have less to go by."""
    vocab_size: int | None = Field(default=None, ge=2)
    """Vocabulary. None: the tokenizer's."""

    @property
    def dropout(self) -> float:
        return 0.0

    @model_validator(mode="after")
    def _within_context(self) -> Self:
        if self.window > self.context:
            raise ValueError(f"window {self.window} is longer than the training sequences (context {self.context})")
        return self


class NgramConfig(Section):
    """A baseline: an n-gram model with interpolated Kneser–Ney smoothing. It is counted, not trained in steps."""

    kind: Literal["ngram"] = "ngram"
    order: int | None = Field(default=None, ge=1, le=8)
    """Longest n-gram: a token is predicted from `order` − 1 before it. None: 6 where the vocabulary is of characters or
    bytes (below 1,000 tokens), else 5."""
    discounts: Literal[1, 3] = 3
    """What is taken off a count: one number an order (Kneser and Ney 1995), or one each for counts of 1, 2, and more
    (Chen and Goodman 1999)."""


class OptimConfig(Section):
    """Optimiser and learning rate."""

    name: Literal["adamw", "muon"] = "adamw"
    """AdamW for all, or Muon for the matrices inside the blocks and AdamW for the rest."""
    lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate."""
    final_lr: float = Field(default=0.1, ge=0, le=1)
    """The schedule ends at this share of `lr`."""
    schedule: Literal["cosine", "linear", "wsd"] = "cosine"
    """Fall after the warm-up: half a cosine, a line, or (warmup–stable–decay) flat with a line at the end."""
    warmup: int | None = Field(default=None, ge=0)
    """Steps over which the rate rises from 0. None: a fiftieth of the run."""
    decay: float = Field(default=0.2, gt=0, le=1)
    """Share of the run in which a `wsd` schedule falls."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of AdamW's means of gradient and squared gradient."""
    eps: float = Field(default=1e-8, gt=0)
    """Added to the root of AdamW's squared gradient."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled decay, of matrices only."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Nesterov momentum of Muon."""
    newton_schulz: int = Field(default=5, ge=1)
    """Steps of Muon's orthogonalisation; 3 do nearly as well where they are a large part of the time."""
    clip: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; longer ones are shortened to it. 0: none."""

    @field_validator("betas")
    @classmethod
    def _below_one(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("betas are at least 0 and below 1")
        return betas


class MixedSource(Section):
    """A further folder of tokens to train on."""

    tokens: str
    """Folder that `llmdata tokenize` wrote, with the same tokenizer as the others."""
    weight: float = Field(default=1.0, gt=0)
    """Share of the sequences, relative to the weights of the others."""


class DataConfig(Section):
    """How tokens become batches. The order is a seeded permutation of windows of `context` tokens, new each epoch."""

    batch_tokens: Count = Field(default=1024, ge=1)
    """Tokens of one optimiser step, a multiple of the context."""
    micro_batch: int | Literal["auto"] = "auto"
    """Sequences in one forward pass; gradients of several add up to a step. auto: what fits. The order stays."""
    mask_documents: bool = False
    """A document does not see the ones packed before it."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the order."""
    weight: float = Field(default=1.0, gt=0)
    """Weight of the main folder of tokens where there are others in `mix`. It alone validates."""
    mix: tuple[MixedSource, ...] = ()
    """Further folders, mixed in by weight."""

    @field_validator("micro_batch")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("micro_batch is auto or at least 1")
        return value


class LoopConfig(Section):
    """How long, and what happens when the loss breaks away."""

    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps. None: what `tokens` says, or 2,000."""
    tokens: Count | None = Field(default=None, ge=1)
    """Length of the run in tokens, instead of `steps`."""
    on_spike: Literal["stop", "skip", "rollback"] = "skip"
    """What follows a loss or gradient that is not finite, or a spike: end the run; leave that step's update out; or go
    back to the last checkpoint and pass over the data of that step. Each is in metrics.jsonl."""
    spike: float = Field(default=2.0, ge=0)
    """A spike is a loss this many nats above its running average. 0: only what is not finite counts."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is not None and self.tokens is not None:
            raise ValueError("give steps or tokens, not both")
        return self


def _kind(given: Any) -> str:
    """Which of the models `given` is, as the tags below."""
    if isinstance(given, dict | Section):
        kind = given.get("kind", "") if isinstance(given, dict) else getattr(given, "kind", "")
        return {"mlp": "(MLPConfig)", "ngram": "(NgramConfig)"}.get(str(kind), "(ModelConfig)")
    return "(str)"


Shape = ModelConfig | MLPConfig | NgramConfig
"""A decoder, or a baseline (`kind` mlp or ngram)."""
_Model = Annotated[
    Annotated[str, Tag("(str)")]
    | Annotated[ModelConfig, Tag("(ModelConfig)")]
    | Annotated[MLPConfig, Tag("(MLPConfig)")]
    | Annotated[NgramConfig, Tag("(NgramConfig)")],
    Discriminator(_kind),
]


class TrainConfig(Section):
    """Settings of `llmdata train`. A preset brings settings of its own where the recipe says nothing."""

    model: _Model = "demo"
    """A preset (demo, gpt2-124m, llama-3.2-1b, …), a decoder spelt out, or a baseline: mlp, ngram, or its settings with
    `kind: mlp` or `kind: ngram`."""
    init: str | None = None
    """Folder of a Hugging Face model (GPT-2, Llama, GPT-NeoX) whose weights training begins with, and whose shape takes
    the place of `model`'s."""
    optim: OptimConfig = OptimConfig()
    data: DataConfig = DataConfig()
    loop: LoopConfig = LoopConfig()
    eval_every: int | None = Field(default=None, ge=1)
    """Steps between two measurements of the validation loss. None: a twentieth of the run."""
    eval_tokens: Count | None = Field(default=100_000, ge=1)
    """Validation tokens used each time, spread over the validation split. None: all."""
    sample_every: int | None = Field(default=None, ge=1)
    """Steps between two samples of text. None: a twentieth of the run."""
    sample_prompts: tuple[str, ...] = ("",)
    """What the samples start with; the empty prompt starts a document."""
    sample_tokens: int = Field(default=64, ge=0)
    """Tokens of a sample. 0: no samples."""
    sample_temperature: float = Field(default=0.8, ge=0)
    """0 takes the likeliest token each time; 1 draws from the model's own distribution."""
    checkpoint_every: int | None = Field(default=None, ge=1)
    """Steps between two checkpoints. None: a tenth of the run."""
    keep_last: int = Field(default=2, ge=1)
    """Checkpoints kept, newest first."""
    keep_best: bool = True
    """Keep the checkpoint with the lowest validation loss too."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """auto: the GPU if there is one."""
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """Of several processes by torchrun, each has the whole model (ddp) or a share of its state (fsdp). auto: fsdp where
    weights, gradients and moments with the activations of one sequence do not fit one GPU."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of matrix products (weights stay float32). auto: bfloat16 on a GPU, float32 on the CPU."""
    compile: bool | Literal["auto"] = "auto"
    """torch.compile. auto: on a GPU, where a C compiler is at hand."""
    recompute: bool = False
    """Activation checkpointing: a third more arithmetic, memory for one block instead of all."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads; recorded, because their number decides the last bits of a sum. None: one a core."""
    peak_flops: float | None = Field(default=None, gt=0)
    """Arithmetic that the device can do, in FLOP a second, which MFU is a share of. None: by the GPU's name."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where metrics go beside metrics.jsonl; each needs its extra, as in `pip install llmdata[tensorboard]`."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of weights, dropout and samples."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, given: Any) -> Any:
        preset = _preset(given)
        if preset is None:
            return given
        merged = {**preset.settings, **given}
        for key, defaults in preset.settings.items():
            if isinstance(defaults, dict) and isinstance(given.get(key), dict):
                merged[key] = {**defaults, **given[key]}
        if isinstance(given.get("loop"), dict) and given["loop"].get("steps", given["loop"].get("tokens")) is not None:
            merged["loop"] = given["loop"]
        return merged

    @model_validator(mode="after")
    def _whole_sequences(self) -> Self:
        names = _named()
        if isinstance(self.model, str) and self.model not in names:
            close = difflib.get_close_matches(self.model, names, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"there is no model preset {self.model!r}{hint}; there are: {', '.join(names)}")
        shape = self.shape
        if isinstance(shape, NgramConfig):
            _refuse_training(self)
            return self
        if isinstance(shape, MLPConfig):
            for name, idle in (
                ("init", self.init is not None),
                ("recompute", self.recompute),
                ("optim.name", self.optim.name == "muon"),
            ):
                if idle:
                    raise ValueError(f"{name} is for decoders; leave it out for the model mlp")
        context = shape.context
        if self.data.batch_tokens % context:
            below = max(context, self.data.batch_tokens // context * context)
            raise ValueError(
                f"data.batch_tokens {self.data.batch_tokens} has to be a multiple of the context {context}, say {below}"
            )
        return self

    @property
    def shape(self) -> Shape:
        return _named()[self.model].model if isinstance(self.model, str) else self.model

    @property
    def architecture(self) -> ModelConfig:
        """The shape of the decoder. Raises ConfigError if the model is a baseline."""
        shape = self.shape
        if not isinstance(shape, ModelConfig):
            raise ConfigError(f"train.model is {shape.kind}, a baseline; this is for decoders, as {', '.join(PRESETS)}")
        return shape

    @property
    def steps(self) -> int:
        """Optimiser steps of the run; counting n-grams is one."""
        if isinstance(self.shape, NgramConfig):
            return 1
        if self.loop.tokens is not None:
            return -(-self.loop.tokens // self.data.batch_tokens)
        return self.loop.steps or 2000


class Preset(Section):
    """A model by name, and the settings it was published with."""

    model: ModelConfig
    settings: dict[str, Any] = {}


class Baseline(Section):
    """A baseline by its kind, and the settings that go with it."""

    model: MLPConfig | NgramConfig
    settings: dict[str, Any] = {}


BASELINES: dict[str, Baseline] = {
    "ngram": Baseline(model=NgramConfig(), settings={"eval_tokens": None}),
    "mlp": Baseline(model=MLPConfig(), settings={"optim": {"lr": 8e-3}}),
}


def _named() -> dict[str, Preset | Baseline]:
    return {**PRESETS, **BASELINES}


def _preset(given: Any) -> Preset | Baseline | None:
    """Where settings that are not given come from: a preset by its name, a baseline by its kind."""
    model = given.get("model", "demo") if isinstance(given, dict) else None
    name = model.get("kind") if isinstance(model, dict) else getattr(model, "kind", model)
    return _named().get(str(name))


def _refuse_training(config: TrainConfig) -> None:
    """Settings of training in steps, and of a part of the validation split, say nothing about counting."""
    counts = {"model", "loop", "sample_prompts", "sample_tokens", "sample_temperature", "seed"}
    given = [
        name
        for name, field in type(config).model_fields.items()
        if name not in counts and getattr(config, name) != (None if name == "eval_tokens" else field.default)
    ]
    if config.loop != LoopConfig(tokens=config.loop.tokens):
        given.append("loop (but for loop.tokens)")
    if given:
        raise ValueError(
            f"an n-gram model is counted, not trained in steps, and measured on the whole validation split: "
            f"leave out {', '.join(given)}"
        )


def _gpt(layers: int, heads: int, width: int, lr: float, batch: int, tokens: int, context: int = 1024) -> Preset:
    """GPT-2's sizes with GPT-3's rates: GPT-2's own were never published (arXiv 2005.14165, table 2.1)."""
    model = ModelConfig(
        layers=layers, heads=heads, width=width, context=context, bias=True, activation="gelu_tanh", vocab_size=50_257
    )
    return Preset(model=model, settings=_settings(lr, batch, tokens))


def _llama(
    layers: int, heads: int, kv_heads: int, width: int, ffn: int, lr: float, batch: int, tokens: int, **other: Any
) -> Preset:
    """Llama 3's sizes (arXiv 2407.21783, table 3) and smaller ones of the same kind."""
    shape = {"context": 8192, "rope_theta": 500_000.0, "tied": False, "vocab_size": 128_256} | other
    model = ModelConfig(
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        width=width,
        ffn=ffn,
        norm="rmsnorm",
        position="rope",
        activation="swiglu",
        **shape,
    )
    return Preset(model=model, settings=_settings(lr, batch, tokens))


def _settings(lr: float, batch: int, tokens: int) -> dict[str, Any]:
    return {
        "optim": {"lr": lr, "warmup": 700},
        "data": {"batch_tokens": batch},
        "loop": {"steps": -(-tokens // batch)},
        "eval_tokens": 10_000_000,
        "eval_every": 250,
        "checkpoint_every": 1000,
    }


_B = 1_000_000_000


def decoder_shape(model: dict[str, Any], source: str) -> ModelConfig:
    """The shape in the `model.json` of `source`; raises ConfigError if that is a baseline."""
    if "kind" in model:
        raise ConfigError(f"{source}: a baseline ({model['kind']}), which this cannot be done with; only with decoders")
    return ModelConfig.model_validate(model)


PRESETS: dict[str, Preset] = {
    # The best of what 200 to 400 steps on SQLAlchemy's manual showed: with Muon the loss is a whole nat lower than with
    # AdamW at the same number of tokens, for a fifth more time a step.
    "demo": Preset(
        model=ModelConfig(heads=2, position="rope"),
        settings={
            "optim": {"name": "muon", "lr": 8e-3, "newton_schulz": 3},
            "loop": {"steps": 1200},
            "eval_tokens": 32_768,
        },
    ),
    "gpt2-124m": _gpt(12, 12, 768, 6e-4, 2**19, 10 * _B),
    "gpt2-355m": _gpt(24, 16, 1024, 3e-4, 2**19, 10 * _B),
    "gpt2-774m": _gpt(36, 20, 1280, 2.5e-4, 2**19, 15 * _B),
    "gpt2-1558m": _gpt(48, 25, 1600, 2e-4, 2**20, 30 * _B),
    # GPT-3 (arXiv 2005.14165, table 2.1). The table's XL has 24 heads of 128 on width 2048, its 13B a width of 5140:
    # neither divides; 16 heads, and 5120, do.
    "gpt3-small": _gpt(12, 12, 768, 6e-4, 2**19, 300 * _B, 2048),
    "gpt3-medium": _gpt(24, 16, 1024, 3e-4, 2**19, 300 * _B, 2048),
    "gpt3-large": _gpt(24, 16, 1536, 2.5e-4, 2**19, 300 * _B, 2048),
    "gpt3-xl": _gpt(24, 16, 2048, 2e-4, 2**20, 300 * _B, 2048),
    "gpt3-2.7b": _gpt(32, 32, 2560, 1.6e-4, 2**20, 300 * _B, 2048),
    "gpt3-6.7b": _gpt(32, 32, 4096, 1.2e-4, 2**21, 300 * _B, 2048),
    "gpt3-13b": _gpt(40, 40, 5120, 1e-4, 2**21, 300 * _B, 2048),
    "gpt3-175b": _gpt(96, 96, 12288, 6e-5, 2**22, 300 * _B, 2048),
    "llama-15m": _llama(
        6, 6, 6, 288, 768, 1e-3, 2**17, _B, context=256, rope_theta=10_000.0, tied=True, vocab_size=None
    ),
    "llama-110m": _llama(
        12, 12, 12, 768, 2048, 6e-4, 2**19, 5 * _B, context=1024, rope_theta=10_000.0, tied=True, vocab_size=None
    ),
    "llama-3.2-1b": _llama(
        16, 32, 8, 2048, 8192, 3e-4, 2**21, 100 * _B,
        context=131_072, tied=True, rope_scaling=RopeScaling(factor=32.0),
    ),
    "llama-3.2-3b": _llama(
        28, 24, 8, 3072, 8192, 3e-4, 2**21, 200 * _B,
        context=131_072, tied=True, rope_scaling=RopeScaling(factor=32.0),
    ),
    "llama-3-8b": _llama(32, 32, 8, 4096, 14336, 3e-4, 2**22, 15_000 * _B),
    "llama-3-70b": _llama(80, 64, 8, 8192, 28672, 1.5e-4, 2**22, 15_000 * _B),
}  # fmt: skip
