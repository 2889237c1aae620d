"""Training a decoder on token shards, and writing text with it."""

from llmdata.train.config import TrainConfig
from llmdata.train.run import TrainResult, train
from llmdata.train.sampling import Sampling, generate

__all__ = ["Sampling", "TrainConfig", "TrainResult", "generate", "train"]
