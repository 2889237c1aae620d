"""Training a decoder on token shards, and writing text with it."""

import os

# Has to be set before torch loads OpenMP, whose threads otherwise spin for a millisecond where they meet: with another
# process on the cores a step of the demo's model then takes 1,300 ms instead of 170; with none, 74 instead of 78.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from llmdata.train.config import TrainConfig
from llmdata.train.run import TrainResult, train
from llmdata.train.sampling import Sampling, generate

__all__ = ["Sampling", "TrainConfig", "TrainResult", "generate", "train"]
