"""`train` of an n-gram model: count, measure, write a text; the same files as of a run of the loop.

A kill costs what was counted: a run begins again, and ends in the same bytes.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from llmdata.engine.session import Session
from llmdata.errors import ConfigError
from llmdata.storage.place import Place
from llmdata.storage.token_index import TokenIndex
from llmdata.train.config import NgramConfig, TrainConfig
from llmdata.train.data import TokenText, own_tokenizer
from llmdata.train.metrics import Log
from llmdata.train.ngram import NgramModel, count
from llmdata.train.run import METRICS, SAMPLES, TrainResult
from llmdata.train.sampling import CHECKPOINTS, MODEL, Sampling, complete

STEP = "step-000001"
CHUNK = 1 << 20
"""Tokens whose probabilities are looked up at a time."""


class Counting:
    """One run. `run` is its only use from outside."""

    def __init__(self, tokens: Place, index: TokenIndex, out: Place, config: TrainConfig, session: Session) -> None:
        shape = config.shape
        assert isinstance(shape, NgramConfig)
        order = shape.order or (6 if index.vocab_size < 1000 else 5)
        self.shape = shape.model_copy(update={"order": order})
        self.index, self.out, self.config, self.session, self.order = index, out, config, session, order
        self.train, self.val = (TokenText.of(tokens, index, split) for split in ("train", "val"))
        if len(self.train) < 2:
            raise ConfigError(f"{tokens}: the training split has {len(self.train)} tokens, nothing to count")
        self.encoding = own_tokenizer(tokens, index, out)

    def run(self) -> TrainResult:
        import torch

        from llmdata.train.checkpoint import write_safetensors

        began = time.perf_counter()
        self.session.progress.start("train", self.order, "orders")
        self.session.progress.advance("train", 1)  # single tokens
        model, counted = self._count()
        seconds = time.perf_counter() - began
        parameters = model.parameter_count()
        about = {
            "preset": None,
            "parameters": parameters,
            "vocab_size": self.index.vocab_size,
            "eot": self.index.eot,
            "tokenizer_digest": self.index.tokenizer_digest,
            "model": self.shape.model_dump(mode="json"),
        }
        (self.out / MODEL).write_json(about)
        # The training text's last million tokens are as many as say how well it knows what it has seen.
        loss = mean_loss(model, self.train, max(1, counted - CHUNK), counted)
        measured = self._evaluate(model)
        rate = round(counted / max(seconds, 1e-9), 1)
        times = {"seconds": round(seconds, 3), "tokens_per_second": rate}
        # Before anything is counted, all tokens are as likely.
        before = {"step": 0, "tokens": 0, **self._measures(math.log(self.index.vocab_size))}
        after = {"step": 1, "tokens": counted, "loss": loss, **measured, **times}
        Log(self.out / METRICS, -1).append([before, after])
        texts = self._sample(model)
        checkpoint = (self.out / CHECKPOINTS).mkdir() / STEP
        write_safetensors(checkpoint / "model.safetensors", {k: torch.from_numpy(v) for k, v in model.arrays().items()})
        state = {"step": 1, "val_loss": measured.get("val_loss"), "measured": measured}
        (checkpoint / "state.json").write_json(state)  # last: a folder that has it is whole
        facts = {"loss": loss} | ({"val_loss": measured["val_loss"]} if measured else {})
        self.session.progress.finish("train", **facts)
        return TrainResult(
            steps=1,
            tokens=counted,
            parameters=parameters,
            loss=loss,
            val_loss=measured.get("val_loss"),
            perplexity=measured.get("val_perplexity"),
            bits_per_byte=measured.get("bits_per_byte"),
            seconds=round(seconds, 3),
            tokens_per_second=rate,
            checkpoint=f"{CHECKPOINTS}/{STEP}",
            sample_before=None,
            sample_after=texts[0] if texts else None,
        )

    def _count(self) -> tuple[NgramModel, int]:
        """The model, and of how many tokens: the training split once at most."""
        tokens = min(len(self.train), self.config.loop.tokens or len(self.train))
        text = self.train.windows([0], tokens)[0]

        def counted(length: int) -> None:
            self.session.progress.advance("train", 1)
            self.session.stop.check()

        index, discounts = self.index, self.shape.discounts
        return count(text, index.vocab_size, index.eot, self.order, discounts, counted), tokens

    def _evaluate(self, model: NgramModel) -> dict[str, float]:
        """As the loop measures, on the same tokens: all of the validation split but its first."""
        return self._measures(mean_loss(model, self.val, 1, len(self.val)) if len(self.val) > 1 else 0.0)

    def _measures(self, loss: float) -> dict[str, float]:
        """A loss on the validation split as it is told; nothing if there is no such split."""
        split = self.index.splits.get("val")
        if split is None or len(self.val) < 2:
            return {}
        measured = {"val_loss": loss, "val_perplexity": math.exp(min(loss, 700))}
        if split.bytes:
            measured["bits_per_byte"] = loss / math.log(2) * split.tokens / split.bytes
        return measured

    def _sample(self, model: NgramModel) -> list[str]:
        config, prompts = self.config, self.config.sample_prompts
        lines: list[dict[str, Any]] = []
        if config.sample_tokens and prompts:
            sampling = Sampling(config.sample_tokens, config.sample_temperature, seed=config.seed)
            texts = complete(model, self.encoding, self.index.eot, prompts, sampling)
            lines = [{"step": 1, "prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)]
        Log(self.out / SAMPLES, -1).append(lines)
        return [line["prompt"] + line["text"] for line in lines]


def mean_loss(model: NgramModel, text: TokenText, start: int, end: int) -> float:
    """Mean nats of the tokens [start, end) of `text`, each given those before it, over no window's border."""
    total = 0.0
    for first in range(start, end, CHUNK):
        last = min(end, first + CHUNK)
        before = min(first, model.order - 1) or 1
        logs = model.log_probabilities(text.windows([first - before], last - first + before)[0])
        total -= float(np.sum(logs[before - 1 :]))
    return total / (end - start)
