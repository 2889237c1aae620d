"""Writing text with a trained model: greedy or sampled, batched, with a cache of keys and values."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from llmdata.errors import ConfigError, InputError
from llmdata.storage.place import Place

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from llmdata.storage.encoding import Encoding

MODEL, CHECKPOINTS, TOKENIZER = "model.json", "checkpoints", "tokenizer"


class LanguageModel(Protocol):
    """What text is written with: a decoder, Bengio's MLP, an n-gram model."""

    @property
    def device(self) -> torch.device: ...

    @property
    def context(self) -> int:
        """Tokens that it can read before its cache is full."""

    def new_cache(self, batch: int) -> Any:
        """What remembers `batch` texts; its `length` is how many tokens it has read of each, and 0 empties it."""

    def next_logits(self, ids: Tensor, cache: Any) -> Tensor:
        """Logits (B, V) of the token after what `cache` has read and `ids` (B, T), which it reads."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. The defaults draw from the model's own distribution."""

    max_tokens: int = 128
    """Tokens written at most; the end-of-text token ends a text before."""
    temperature: float = 1.0
    """0 takes the likeliest token each time."""
    top_k: int = 0
    """Only the k likeliest tokens; 0: all."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this much probability (arXiv 1904.09751)."""
    min_p: float = 0.0
    """Only tokens at least this likely relative to the likeliest (arXiv 2407.01082)."""
    seed: int = 0
    """Row i of a batch draws from seed + i, whatever the other rows do."""

    def __post_init__(self) -> None:
        for name, good, allowed in (
            ("max_tokens", self.max_tokens >= 0, "at least 0"),
            ("temperature", 0 <= self.temperature < float("inf"), "at least 0 and finite"),
            ("top_k", self.top_k >= 0, "at least 0"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "between 0 and 1"),
            ("seed", 0 <= self.seed < 1 << 63, "at least 0 and below 2^63"),
        ):
            if not good:
                raise ConfigError(f"{name} has to be {allowed}, not {getattr(self, name)}")


def generate(
    run: Place,
    prompts: Sequence[str],
    sampling: Sampling = Sampling(),
    *,
    checkpoint: str = "last",
    device: str = "auto",
    stream: Callable[[int, str], None] | None = None,
) -> list[str]:
    """What the model in `run` writes after each of `prompts` (without the prompt).

    `run` is a model folder, a work folder with `model` in it, or a checkpoint; `checkpoint` is last, best or a step.
    `stream(i, piece)` is called with each piece of text of prompt i as soon as it is whole characters.
    Raises InputError if there is no model.
    """
    model, encoding, eot = load_model(run, checkpoint, device)
    return complete(model, encoding, eot, prompts, sampling, stream)


def load_model(run: Place, checkpoint: str = "last", device: str = "auto") -> tuple[LanguageModel, Encoding, int]:
    """The model in `run`, its encoding, and the id of its end-of-text token."""
    folder, found = find_checkpoint(run, checkpoint)
    from llmdata.storage.encoding import load_encoding
    from llmdata.train.checkpoint import read_tensors
    from llmdata.train.config import MLPConfig, ModelConfig
    from llmdata.train.device import choose_device

    about = (folder / MODEL).read_json()
    shape, vocab_size, eot = about["model"], about["vocab_size"], about["eot"]
    tensors, encoding = read_tensors(found / "model.safetensors"), load_encoding(folder / TOKENIZER)
    if shape.get("kind") == "ngram":
        from llmdata.train.ngram import NgramModel

        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        return NgramModel.of_arrays(vocab_size, eot, arrays), encoding, eot
    from llmdata.train.networks import build

    kind = MLPConfig if shape.get("kind") == "mlp" else ModelConfig
    model = build(kind.model_validate(shape), vocab_size)
    model.load_state_dict(tensors)
    return model.to(choose_device(device)).eval(), encoding, eot


def find_checkpoint(run: Place, checkpoint: str = "last") -> tuple[Place, Place]:
    """The model folder that `run` means, and its checkpoint `checkpoint` (last, best, or a step)."""
    if run.parent.name == CHECKPOINTS and (run.parent.parent / MODEL).exists():
        return run.parent.parent, run
    folder = next((place for place in (run, run / "model") if (place / MODEL).exists()), None)
    if folder is None:
        raise InputError(
            f"{run}: no trained model here ({MODEL} is missing, also in {run / 'model'}); `llmdata train` makes one, "
            "as does `llmdata run` where the recipe has a section train"
        )
    from llmdata.train.checkpoint import best_of, checkpoints, step_of

    found = checkpoints(folder / CHECKPOINTS)
    if not found:
        raise InputError(f"{folder}: training has not written a checkpoint yet")
    chosen = found[-1] if checkpoint == "last" else best_of(found) if checkpoint == "best" else None
    if checkpoint.isdecimal():
        chosen = next((place for place in found if step_of(place) == int(checkpoint)), None)
    if chosen is None:
        there = ", ".join(str(step_of(place)) for place in found)
        raise InputError(
            f"{folder}: no checkpoint {checkpoint!r}; there are last, best (where validated) and steps {there}"
        )
    return folder, chosen


def complete(
    model: LanguageModel,
    encoding: Encoding,
    eot: int,
    prompts: Sequence[str],
    sampling: Sampling,
    stream: Callable[[int, str], None] | None = None,
) -> list[str]:
    """The texts that follow `prompts`, each the start of a document."""
    decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in prompts]
    texts = [""] * len(prompts)

    def emit(row: int, token: int | None) -> None:
        piece = decoders[row].decode(b"" if token is None else _bytes_of(encoding, token), final=token is None)
        texts[row] += piece
        if stream is not None and piece:
            stream(row, piece)

    continue_ids(model, [[eot, *encoding.encode(prompt)] for prompt in prompts], sampling, eot, emit)
    return texts


def continue_ids(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    eot: int | None,
    emit: Callable[[int, int | None], None],
) -> None:
    """Call `emit(row, token)` for each token after each of `prompts`, and `emit(row, None)` at a row's end.

    Rows go forward together, one position a step; a row still inside its prompt takes the prompt's token. When the
    context is full, the older half is forgotten and the newer half read again.
    """
    import torch

    texts = [list(prompt) for prompt in prompts]
    live = set(range(len(texts))) if sampling.max_tokens else set()
    for row in set(range(len(texts))) - live:
        emit(row, None)
    if not live:
        return
    device, context = model.device, model.context
    generators = [torch.Generator().manual_seed(sampling.seed + row) for row in range(len(texts))]
    fed, end = 0, min(map(len, texts))  # positions fed to the cache, positions known of every row
    with torch.inference_mode():
        cache = model.new_cache(len(texts))
        while live:
            if cache.length + end - fed > context:
                fed = end - (context // 2 if end - fed < context else context)
                cache.length = 0
            ids = torch.tensor([text[fed:end] for text in texts], device=device)
            logits = model.next_logits(ids, cache)
            fed = end
            writing = [row in live and end >= len(text) for row, text in enumerate(texts)]
            # Drawn only where it is used, so that a row's text does not depend on the prompts beside it.
            draws = [
                float(torch.rand((), generator=generators[row])) if now else 0.0 for row, now in enumerate(writing)
            ]
            chosen = choose(logits, sampling, torch.tensor(draws, device=device)).tolist()
            for row, token in enumerate(chosen):
                if end < len(texts[row]):
                    continue  # inside the prompt
                texts[row].append(token)
                if not writing[row]:
                    continue
                if token != eot:
                    emit(row, token)
                if token == eot or len(texts[row]) == len(prompts[row]) + sampling.max_tokens:
                    live.discard(row)
                    emit(row, None)
            end += 1


def choose(logits: Tensor, sampling: Sampling, draws: Tensor) -> Tensor:
    """The next token of each row of `logits` (B, V), given a number from [0, 1) for each."""
    import torch

    if sampling.temperature == 0:
        return logits.argmax(-1)
    # Less the largest first: divided by next to nothing, logits would be infinite.
    scaled = (logits - logits.amax(-1, keepdim=True)) / max(sampling.temperature, 1e-30)
    p, tokens = torch.softmax(scaled, dim=-1).sort(dim=-1, descending=True, stable=True)
    before = p.cumsum(-1) - p
    keep = (before < sampling.top_p) & (p >= sampling.min_p * p[:, :1])
    if sampling.top_k:
        keep[:, sampling.top_k :] = False
    keep[:, 0] = True
    mass = (p * keep).cumsum(-1)
    place = torch.searchsorted(mass, draws[:, None].to(mass.dtype) * mass[:, -1:], right=True)
    last = keep.sum(-1, keepdim=True) - 1
    chosen: Tensor = tokens.gather(-1, torch.minimum(place, last)).squeeze(-1)
    return chosen


def _bytes_of(encoding: Any, token: int) -> bytes:
    try:
        found: bytes = encoding.token_bytes(token)
    except ValueError:  # a hole in the vocabulary, which a model that has learned little may hit
        return "\N{REPLACEMENT CHARACTER}".encode()
    return found
