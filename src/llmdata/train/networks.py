"""The networks that the training loop can train."""

from __future__ import annotations

from llmdata.train.config import MLPConfig, ModelConfig
from llmdata.train.mlp import MLP
from llmdata.train.model import Decoder

Network = Decoder | MLP


def build(shape: ModelConfig | MLPConfig, vocab_size: int) -> Network:
    """The network of that shape, its parameters not yet initialised."""
    return MLP(shape, vocab_size) if isinstance(shape, MLPConfig) else Decoder(shape, vocab_size)
