"""Bengio's neural probabilistic language model, a baseline that is trained by the same loop as the decoder.

Bengio, Ducharme, Vincent and Jauvin, "A Neural Probabilistic Language Model", JMLR 3 (2003), equations 5 and 6: with
x = (C(w₋ₙ), …, C(w₋₁)), the vectors of the last n tokens one behind the other,

    y = b + W x + U tanh(d + H x),    P(w | the last n tokens) = softmax(y)_w

W, the direct connections, is optional there and here. Letters in comments: B sequences, T positions, n `window`,
M width of a token's vector, H hidden units, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from llmdata.train.config import MLPConfig


@dataclass(slots=True)
class Tail:
    """The last tokens (B, n) of the texts read so far, which is all that the next token depends on."""

    ids: Tensor
    length: int = 0


class MLP(nn.Module):
    """Token ids to hidden states (`forward`), and from there to logits (`head`): what a `Decoder` does."""

    def __init__(self, config: MLPConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        inputs = config.window * config.embedding
        self.embedding = nn.Embedding(vocab_size + 1, config.embedding)  # the last stands where no token is
        self.hidden = nn.Linear(inputs, config.hidden)
        # U, W and b in one matrix: hidden states end in the tokens' vectors, if direct, and in a 1.
        self.output = nn.Linear(config.hidden + (inputs if config.direct else 0) + 1, vocab_size, bias=False)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Vectors of 0.3 an element, tanh nearly a line, and all tokens nearly as likely.

        The paper says only that vectors begin at random. From long ones a rare token's few updates lead nowhere (at 1,
        0.35 nats worse than at 0.1 after 300 steps with 4,096 tokens); short ones keep the tanh layer linear
        for long (at 0.1, 0.16 nats worse than at 0.3 after 400 steps with characters).
        """
        self.embedding.weight.normal_(0.0, 0.3, generator=generator)
        self.hidden.weight.normal_(0.0, 5 / 3 / math.sqrt(self.hidden.in_features), generator=generator)
        self.hidden.bias.zero_()
        self.output.weight.normal_(0.0, 0.1 / math.sqrt(self.output.in_features), generator=generator)

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def training_flops(self) -> float:
        """FLOPs of a token in training: 6 for each element of the two matrices; vectors are looked up."""
        return 6.0 * (self.hidden.weight.numel() + self.output.weight.numel())

    def forward(self, ids: Tensor, eot: int | None = None, cache: Tail | None = None) -> Tensor:
        """Hidden states (B, T, C) of `ids` (B, T).

        With `eot`, a document sees nothing before the end-of-text token it starts with. With `cache`, `ids` go on
        where the cache ends.
        """
        window, nothing = self.config.window, self.vocab_size
        before = ids.new_full((ids.shape[0], window), nothing) if cache is None or not cache.length else cache.ids
        text = torch.cat([before, ids], dim=1)  # (B, n + T)
        if cache is not None:
            cache.ids, cache.length = text[:, -window:], cache.length + ids.shape[1]
        seen = text[:, 1:].unfold(1, window, 1)  # (B, T, n): each token and the n − 1 before it
        if eot is not None:
            documents = (text == eot).cumsum(1)[:, 1:]
            own = documents.unfold(1, window, 1) == documents[:, window - 1 :, None]
            seen = torch.where(own, seen, nothing)
        x = self.embedding(seen).flatten(2)  # (B, T, n M)
        parts = [torch.tanh(self.hidden(x))]
        if self.config.direct:
            parts.append(x)
        hidden = torch.cat(parts, dim=-1)
        return F.pad(hidden, (0, 1), value=1.0)

    @property
    def head_weight(self) -> Tensor:
        """The matrix (V, C) that turns hidden states into logits."""
        return self.output.weight

    def head(self, hidden: Tensor) -> Tensor:
        """Logits over the vocabulary."""
        return F.linear(hidden, self.head_weight).float()

    @property
    def device(self) -> torch.device:
        return self.head_weight.device

    @property
    def context(self) -> int:
        return self.config.context

    def next_logits(self, ids: Tensor, cache: Tail) -> Tensor:
        """Logits (B, V) of the token after what `cache` has read and `ids` (B, T)."""
        return self.head(self(ids, cache=cache)[:, -1])

    def new_cache(self, batch: int) -> Tail:
        """An empty cache for `batch` sequences."""
        return Tail(torch.empty(batch, 0, dtype=torch.long, device=self.embedding.weight.device))
