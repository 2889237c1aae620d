"""One decoder for the GPT-2 and the Llama 3 families.

Letters in comments: B sequences, T positions, C width, H heads, K key/value heads, D width of a head, V vocabulary.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name everybody knows it by)
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.utils.checkpoint import checkpoint

from llmdata.train import kernels
from llmdata.train.config import ModelConfig, RopeScaling
from llmdata.train.plan import flops_per_token

Mask = Tensor | BlockMask
"""Of what each position sees: (B, 1, T, T), or the first one of it (B, T) where attention is `fused`."""

VOCAB_MULTIPLE = 128
"""Rows of the embedding are padded to a multiple of this: matrix kernels are fastest on whole tiles."""


@dataclass(slots=True)
class Cache:
    """Keys and values of the positions already seen, of every layer: each (layers, B, K, context, D)."""

    keys: Tensor
    values: Tensor
    length: int = 0


def fused(x: Tensor, cache: Cache | None) -> bool:
    """Whether attention is one function in C."""
    return cache is None and torch.is_grad_enabled() and kernels.available(x)


class Attention(nn.Module):
    """Causal self-attention with grouped key/value heads (arXiv 2305.13245; all heads have their own in GPT-2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = config.heads, config.key_value_heads, config.head_width
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.width, (self.heads + 2 * self.kv_heads) * self.head_width, bias=config.bias)
        self.out = nn.Linear(self.heads * self.head_width, config.width, bias=config.bias)

    def forward(
        self, x: Tensor, rope: Tensor | None, mask: Mask | None, cache: Cache | None = None, layer: int = 0
    ) -> Tensor:
        batch, length, _ = x.shape
        qkv = kernels.linear(self.qkv, x)
        dropout = self.dropout if self.training else 0.0
        if fused(x, cache) and not isinstance(mask, BlockMask):
            return kernels.linear(self.out, kernels.attention(qkv, self.heads, self.kv_heads, rope, mask, dropout))
        split = [self.heads * self.head_width, self.kv_heads * self.head_width, self.kv_heads * self.head_width]
        q, k, v = torch.split(qkv, split, dim=-1)  # (B, T, H D), (B, T, K D) twice
        q = q.view(batch, length, self.heads, self.head_width).transpose(1, 2)  # (B, H, T, D)
        k = k.view(batch, length, self.kv_heads, self.head_width).transpose(1, 2)  # (B, K, T, D)
        v = v.view(batch, length, self.kv_heads, self.head_width).transpose(1, 2)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        if cache is not None:
            end = cache.length + length
            cache.keys[layer, :batch, :, cache.length : end] = k
            cache.values[layer, :batch, :, cache.length : end] = v
            k, v = cache.keys[layer, :batch, :, :end], cache.values[layer, :batch, :, :end]
        grouped = self.kv_heads != self.heads
        if isinstance(mask, BlockMask):
            # Copies in plain order: compiled on a CPU by PyTorch 2.13 it misreads what `rotate` leaves.
            q, k, v = (z.clone(memory_format=torch.contiguous_format) for z in (q, k, v))
            y = flex_attention(q, k, v, block_mask=mask, enable_gqa=grouped)
        else:
            y = F.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=mask,
                is_causal=mask is None and length > 1,
                dropout_p=dropout,
                enable_gqa=grouped,
            )  # (B, H, T, D)
        return kernels.linear(self.out, y.transpose(1, 2).reshape(batch, length, -1))


class GeluMLP(nn.Module):
    """GPT-2's feed-forward layer, with either form of GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.up = nn.Linear(config.width, config.ffn_width, bias=config.bias)
        self.out = nn.Linear(config.ffn_width, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        approximate = "tanh" if self.activation == "gelu_tanh" else "none"
        return kernels.linear(self.out, F.gelu(kernels.linear(self.up, x), approximate=approximate))


class SwiGLU(nn.Module):
    """Gated feed-forward layer (arXiv 2002.05202). Gate and up projection are one matrix: one call, same numbers."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.width, 2 * config.ffn_width, bias=config.bias)
        self.out = nn.Linear(config.ffn_width, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = kernels.linear(self.gate_up, x).chunk(2, dim=-1)
        return kernels.linear(self.out, F.silu(gate) * up)


class Dropout(nn.Dropout):
    """In C where that may be."""

    def forward(self, x: Tensor) -> Tensor:
        return kernels.dropout(x, self.p) if self.training else x


class Block(nn.Module):
    """One layer: attention and feed-forward, each on the normalised stream and added to it (pre-norm)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = _norm(config)
        self.attention = Attention(config)
        self.mlp_norm = _norm(config)
        self.mlp = SwiGLU(config) if config.activation == "swiglu" else GeluMLP(config)
        self.drop = Dropout(config.dropout) if config.dropout else nn.Identity()
        self.activation, self.dropout = config.activation, config.dropout

    def forward(
        self, x: Tensor, rope: Tensor | None, mask: Mask | None, cache: Cache | None = None, layer: int = 0
    ) -> Tensor:
        done = None if cache is not None or isinstance(mask, BlockMask) else self._attend_in_one(x, rope, mask)
        x = x + self.drop(self.attention(self.attention_norm(x), rope, mask, cache, layer)) if done is None else done
        done = self._feed_forward_in_one(x)
        out: Tensor = x + self.drop(self.mlp(self.mlp_norm(x))) if done is None else done
        return out

    def _attend_in_one(self, x: Tensor, rope: Tensor | None, first: Tensor | None) -> Tensor | None:
        attention, dropout = self.attention, self.dropout if self.training else 0.0
        layers = self.attention_norm, attention.qkv, attention.out
        return kernels.attention_branch(*layers, x, attention.heads, attention.kv_heads, rope, first, dropout)

    def _feed_forward_in_one(self, x: Tensor) -> Tensor | None:
        up = self.mlp.gate_up if isinstance(self.mlp, SwiGLU) else self.mlp.up
        dropout = self.dropout if self.training else 0.0
        return kernels.feed_forward(self.mlp_norm, up, self.mlp.out, x, self.activation, dropout)


class Decoder(nn.Module):
    """Token ids to hidden states (`forward`), and from there to logits (`head`) or to a loss (`cross_entropy`)."""

    rope: Tensor | None

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        rows = -(-vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
        self.embedding = nn.Embedding(rows, config.width)
        self.positions = nn.Embedding(config.context, config.width) if config.position == "learned" else None
        self.drop = Dropout(config.dropout) if config.dropout else nn.Identity()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = _norm(config)
        self.unembedding = None if config.tied else nn.Linear(config.width, rows, bias=False)
        self.register_buffer("rope", rope_table(config) if config.position == "rope" else None, persistent=False)
        self.recompute = False
        self.flexible = False
        """Mask documents by FlexAttention in training: it skips whole blocks, if compiled, but has no dropout."""

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """GPT-2's: normal with standard deviation 0.02, and less by √(2 layers) where a branch joins the stream."""
        for name, parameter in self.named_parameters():
            self.fill(name, parameter, generator)

    def fill(self, name: str, values: Tensor, generator: torch.Generator | None = None) -> None:
        """Initial values of the parameter `name`, into `values`."""
        if values.ndim == 2:
            std = 0.02 / math.sqrt(2 * self.config.layers) if name.endswith("out.weight") else 0.02
            values.normal_(0.0, std, generator=generator)
        elif name.endswith("bias"):
            values.zero_()
        else:
            values.fill_(1.0)

    def reset_rope(self) -> None:
        """Fill the table of rotary positions in again, after the model was made without memory (on `meta`)."""
        if self.rope is not None:
            self.rope = rope_table(self.config).to(self.embedding.weight.device)

    def parameter_count(self) -> int:
        """Parameters as papers count them: the vocabulary without its padding."""
        padding = self.embedding.num_embeddings - self.vocab_size
        matrices = 1 if self.unembedding is None else 2
        return sum(p.numel() for p in self.parameters()) - matrices * padding * self.config.width

    def training_flops(self) -> float:
        """FLOPs of a token in training, attention's included."""
        return flops_per_token(self.parameter_count(), self.config)[1]

    def forward(self, ids: Tensor, eot: int | None = None, cache: Cache | None = None) -> Tensor:
        """Hidden states (B, T, C) of `ids` (B, T).

        With `eot`, a document sees nothing before the end-of-text token it starts with, and its positions count
        from there, so that it fares packed as it does alone. With `cache`, `ids` go on where the cache ends.
        """
        start, length = (cache.length if cache else 0), ids.shape[1]
        mask: Mask | None = None
        positions = torch.arange(start, start + length, device=ids.device)  # (T,)
        if eot is not None:
            starts = ids == eot
            documents = starts.cumsum(1)  # (B, T)
            first = torch.where(starts, positions, 0).cummax(1).values  # (B, T)
            if self.flexible and self.training and not self.config.dropout:
                mask = block_mask(documents)
            elif fused(self.embedding.weight, cache):
                mask = first
            else:
                mask = (documents[:, None, :, None] == documents[:, None, None, :]).tril()  # (B, 1, T, T)
            positions = positions - first
        elif start and length > 1:
            mask = torch.ones(length, start + length, dtype=torch.bool, device=ids.device).tril(start)
        x = self.embedding(ids)
        if self.positions is not None:
            x = x + self.positions(positions)
        x = self.drop(x)
        # Rotary positions are relative, so a document's own count makes no difference to it.
        rope = None if self.rope is None else self.rope[:, start : start + length]
        for layer, block in enumerate(self.blocks):
            if self.recompute and self.training:
                x = checkpoint(block, x, rope, mask, use_reentrant=False, preserve_rng_state=self.config.dropout > 0)
            else:
                x = block(x, rope, mask, cache, layer)
        if cache is not None:
            cache.length += length
        hidden: Tensor = self.norm(x)
        return hidden

    @property
    def head_weight(self) -> Tensor:
        """The matrix (V, C) that turns hidden states into logits."""
        return self.embedding.weight if self.unembedding is None else self.unembedding.weight

    def head(self, hidden: Tensor) -> Tensor:
        """Logits over the vocabulary, without its padding."""
        return F.linear(hidden, self.head_weight)[..., : self.vocab_size].float()

    @property
    def device(self) -> torch.device:
        return self.head_weight.device

    @property
    def context(self) -> int:
        return self.config.context

    def next_logits(self, ids: Tensor, cache: Cache) -> Tensor:
        """Logits (B, V) of the token after what `cache` has read and `ids` (B, T)."""
        return self.head(self(ids, cache=cache)[:, -1])

    def new_cache(self, batch: int) -> Cache:
        """An empty cache for `batch` sequences of up to `context` positions."""
        config, weight = self.config, self.embedding.weight
        shape = (config.layers, batch, config.key_value_heads, config.context, config.head_width)
        dtype = torch.get_autocast_dtype(weight.device.type) if torch.is_autocast_enabled(weight.device.type) else None
        keys = torch.empty(shape, device=weight.device, dtype=dtype or weight.dtype)
        return Cache(keys, torch.empty_like(keys))


def block_mask(documents: Tensor) -> BlockMask:
    """Causal attention within documents, for FlexAttention; `documents` (B, T) are numbers that never fall along T.

    Made from the first and last document of each block of positions: no (T, T) matrix comes into being.
    """
    batch, length = documents.shape
    size = 128
    blocks = -(-length // size)
    filler = documents[:, -1:].expand(batch, blocks * size - length)  # `F.pad` repeats no integers on a GPU
    padded = torch.cat([documents, filler], dim=1).view(batch, blocks, size)
    low, high = padded[..., 0], padded[..., -1]  # (B, blocks)
    query, key = torch.meshgrid(*[torch.arange(blocks, device=documents.device)] * 2, indexing="ij")
    some = (query >= key) & (low[:, :, None] <= high[:, None, :])  # (B, query blocks, key blocks)
    full = (query > key) & ((query + 1) * size <= length) & (low[:, None, :] == high[:, :, None])

    def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q >= k) & (documents[b, q] == documents[b, k])

    def listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
        order = chosen.int().argsort(dim=-1, descending=True, stable=True).int()
        return chosen.sum(-1, dtype=torch.int32)[:, None], order[:, None]

    mask: BlockMask = BlockMask.from_kv_blocks(
        *listed(some & ~full), *listed(full), BLOCK_SIZE=size, mask_mod=sees, seq_lengths=(length, length)
    )
    return mask


def cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    rows: int = 0,
    vocabulary: int | None = None,
    compiled: bool = False,
) -> Tensor:
    """Mean loss in nats of `targets` (N,) given `hidden` (N, C) and the head's `weight` (V, C).

    Rows of `weight` from `vocabulary` on are padding, which gets neither probability nor gradient. Works on `rows`
    positions at a time (0: by `_chunk`), so that logits never bound the batch. `compiled`: what lies between the
    products is one kernel by torch.compile.
    """
    learning = torch.is_grad_enabled()  # which `forward` cannot ask: within it, it is not
    loss: Tensor = _CrossEntropy.apply(hidden, weight, targets, rows, vocabulary, learning, compiled)  # type: ignore[no-untyped-call]
    return loss


def _chunk(vocabulary: int, on_gpu: bool, compiled: bool) -> int:
    """Positions whose logits are made at a time.

    A million logits stay in a CPU's caches. On a GPU the sum of the weight's gradient is read and written once a chunk,
    so that large ones pay: 64 million logits, three times over in float32, or 256 million in bfloat16 if compiled. A
    power of two, for whole tiles and few shapes to compile.
    """
    if not on_gpu:
        return max(64, (1 << 20) // vocabulary)
    return 1 << max(6, ((1 << (28 if compiled else 26)) // vocabulary).bit_length() - 1)


def logits_gradient(logits: Tensor, targets: Tensor, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Loss of `targets` (N, 1) in sum, given `logits` (N, V), and its gradient, in the logits' precision.

    To be compiled: as it stands it goes over memory a dozen times.
    """
    columns = torch.arange(logits.shape[1], device=logits.device)
    log_p = F.log_softmax(torch.where(columns < vocabulary, logits.float(), -math.inf), dim=-1)
    p = log_p.exp()
    return -log_p.gather(1, targets).sum(), torch.where(columns == targets, p - 1, p).to(logits.dtype)


@functools.cache
def _compiled_gradient() -> Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]:
    return torch.compile(logits_gradient, dynamic=False)


class _CrossEntropy(torch.autograd.Function):
    """The head and its loss in one, with the gradient made in the forward pass.

    Logits of a chunk turn in place into their own gradient (softmax minus one-hot), while they are in cache: two
    passes over memory less than autograd's, and none of the logits are kept. The plain backward of a scalar loss is
    that gradient times a number.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        rows: int,
        vocabulary: int | None,
        learning: bool,
        compiled: bool,
    ) -> Tensor:
        # A GPU is fastest on whole tiles, padding included; a CPU does without the padding's share of the work.
        used = weight.shape[0] if weight.is_cuda or vocabulary is None else vocabulary
        count = targets.numel()
        need = learning and any(ctx.needs_input_grad[:2])
        compiled = compiled and need
        rows = rows or _chunk(used, weight.is_cuda, compiled)
        if torch.is_autocast_enabled(weight.device.type):
            dtype = torch.get_autocast_dtype(weight.device.type)
            hidden_used, weight_used = hidden.to(dtype), weight[:used].to(dtype)
        else:
            hidden_used, weight_used = hidden, weight[:used]
        in_c = kernels.usable(hidden_used) and hidden_used.is_contiguous()
        multiply = kernels.product if in_c else torch.matmul
        loss = torch.zeros((), device=weight.device, dtype=torch.float32)
        d_hidden = torch.empty_like(hidden) if need else None
        d_weight = torch.zeros_like(weight) if need else None
        with torch.autocast(weight.device.type, enabled=False):
            for start in range(0, count, rows):
                part, target = hidden_used[start : start + rows], targets[start : start + rows, None]
                logits = multiply(part, weight_used.T)  # (rows, V)
                d_logits: Tensor | None = None
                if compiled:
                    added, d_logits = _compiled_gradient()(logits, target, vocabulary or used)
                else:
                    logits = logits.float()
                    if vocabulary is not None and vocabulary < used:
                        logits[:, vocabulary:] = -math.inf
                    log_p = F.log_softmax(logits, dim=-1)
                    added = -log_p.gather(1, target).sum()
                    if need:
                        d_logits = log_p.exp_()
                        d_logits.scatter_add_(1, target, torch.full_like(target, -1, dtype=d_logits.dtype))
                        d_logits = d_logits.to(weight_used.dtype)
                loss += added
                if d_logits is not None and d_hidden is not None and d_weight is not None:
                    if in_c:
                        kernels.product(d_logits, weight_used, d_hidden[start : start + rows])
                        kernels.product(d_logits.T, part, d_weight[:used], add=True)
                        continue
                    d_hidden[start : start + rows] = d_logits @ weight_used
                    if d_logits.dtype == d_weight.dtype:
                        d_weight[:used].addmm_(d_logits.T, part)
                    else:
                        d_weight[:used] += d_logits.T @ part
        if need:
            ctx.save_for_backward(d_hidden, d_weight)
        ctx.count = count
        return loss / count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight = ctx.saved_tensors
        scale = grads[0] / ctx.count
        return d_hidden * scale, d_weight * scale, None, None, None, None, None


def rope_table(config: ModelConfig) -> Tensor:
    """Cosines and sines of rotary positions (arXiv 2104.09864), (2, context, D/2) in float32."""
    half = torch.arange(0, config.head_width, 2, dtype=torch.float32, device="cpu")
    frequencies = config.rope_theta ** (-half / config.head_width)  # radians a position
    if config.rope_scaling is not None:
        frequencies = _scaled(frequencies, config.rope_scaling)
    angles = torch.outer(torch.arange(config.context, dtype=torch.float32, device="cpu"), frequencies)
    return torch.stack([angles.cos(), angles.sin()])


def _scaled(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Llama 3.1's stretch for long contexts: slow waves by `factor`, fast ones not at all, a ramp between."""
    turns = scaling.original_context * frequencies / (2 * math.pi)  # how often a wave turns within the old context
    ramp = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = ramp.clamp(0, 1)
    return frequencies * (keep + (1 - keep) / scaling.factor)


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + D/2]) of `x` (B, H, T, D) by its position's angle."""
    cos, sin = rope[0].to(x.dtype), rope[1].to(x.dtype)  # (T, D/2)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def _norm(config: ModelConfig) -> kernels.Norm:
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.width, eps=config.norm_eps)
    return nn.LayerNorm(config.width, eps=config.norm_eps, bias=config.bias)
