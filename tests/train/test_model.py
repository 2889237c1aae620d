"""The decoder: published sizes, numbers against plain formulas, cache and masks that change nothing."""

from __future__ import annotations

import math
import os
import signal

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torch.nn.attention.flex_attention import BlockMask

from llmdata.errors import LlmdataError
from llmdata.train.config import PRESETS, ModelConfig, RopeScaling
from llmdata.train.model import Decoder, block_mask, cross_entropy, rope_table
from llmdata.train.optim import Flat
from llmdata.train.replicas import Replicas

PUBLISHED = {
    "gpt2-124m": 124_439_808,
    "gpt2-355m": 354_823_168,
    "gpt2-774m": 774_030_080,
    "gpt2-1558m": 1_557_611_200,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
}
GPT = ModelConfig(layers=2, heads=4, width=64, context=48, bias=True)
LLAMA = ModelConfig(
    layers=2,
    heads=4,
    kv_heads=2,
    width=64,
    context=48,
    norm="rmsnorm",
    position="rope",
    activation="swiglu",
    tied=False,
)


def made(config: ModelConfig, vocabulary: int = 300) -> Decoder:
    model = Decoder(config, vocabulary)
    model.initialise(torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in model.parameters():  # larger than at the start, so that mistakes show
            if parameter.ndim == 2:
                parameter.mul_(5)
    return model.eval()


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_as_published(name: str) -> None:
    model = PRESETS[name].model
    assert model.vocab_size is not None
    with torch.device("meta"):
        assert Decoder(model, model.vocab_size).parameter_count() == PUBLISHED[name]


def test_initial_loss_of_gpt2_is_that_of_guessing() -> None:
    config = PRESETS["gpt2-124m"].model.model_copy(update={"layers": 2})
    model = Decoder(config, 50_257)
    model.initialise(torch.Generator().manual_seed(0))
    ids = torch.randint(0, 50_257, (2, 129), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = cross_entropy(model(ids[:, :-1]).flatten(0, 1), model.head_weight, ids[:, 1:].flatten())
    assert 10.9 <= loss.item() <= 11.1


@pytest.mark.parametrize("config", [GPT, LLAMA], ids=["gpt", "llama"])
def test_no_position_sees_a_later_one(config: ModelConfig) -> None:
    model = made(config)
    ids = torch.randint(0, 300, (1, 40))
    other = ids.clone()
    other[:, 25:] = torch.randint(0, 300, (1, 15))
    with torch.no_grad():
        a, b = model(ids), model(other)
    torch.testing.assert_close(a[:, :25], b[:, :25])
    assert not torch.allclose(a[:, 25:], b[:, 25:])


@pytest.mark.parametrize("config", [GPT, LLAMA], ids=["gpt", "llama"])
def test_cache_gives_the_same_logits(config: ModelConfig) -> None:
    model = made(config)
    ids = torch.randint(0, 300, (3, 40))
    with torch.no_grad():
        whole = model.head(model(ids))
        cache = model.new_cache(3)
        parts = [
            model.head(model(ids[:, a:b], cache=cache))
            for a, b in ((0, 7), (7, 8), (8, 21), *((i, i + 1) for i in range(21, 40)))
        ]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", [GPT, LLAMA], ids=["gpt", "llama"])
def test_masked_documents_fare_packed_as_alone(config: ModelConfig) -> None:
    eot, model = 299, made(config)
    documents = [torch.cat([torch.tensor([eot]), torch.randint(0, 299, (n,))]) for n in (9, 1, 20, 12)]
    with torch.no_grad():
        packed = model(torch.cat(documents)[None], eot)
        alone = torch.cat([model(document[None], eot) for document in documents], dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-4)


def test_cross_entropy_is_that_of_torch_with_its_gradients() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(90, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    targets = torch.randint(0, 50, (90,))
    for rows in (0, 7, 90, 1000):
        ours, theirs = cross_entropy(hidden, weight, targets, rows), F.cross_entropy(hidden @ weight.T, targets)
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(
            torch.autograd.grad(3 * ours, (hidden, weight)), torch.autograd.grad(3 * theirs, (hidden, weight))
        )


def test_padding_of_the_vocabulary_gets_neither_probability_nor_gradient() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(9, 16, requires_grad=True), torch.randn(64, 16, requires_grad=True)
    targets = torch.randint(0, 50, (9,))
    ours, theirs = (
        cross_entropy(hidden, weight, targets, vocabulary=50),
        F.cross_entropy(hidden @ weight[:50].T, targets),
    )
    torch.testing.assert_close(ours, theirs)
    gradient = torch.autograd.grad(ours, weight)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs, weight)[0])
    assert not gradient[50:].any()


def test_logits_do_not_bound_the_batch() -> None:
    """Peak memory of loss and gradient stays far below the logits of the whole batch: 1.6 GB here."""
    resource = pytest.importorskip("resource")
    hidden, weight = torch.randn(8000, 8, requires_grad=True), torch.randn(50_000, 8, requires_grad=True)
    targets = torch.randint(0, 50_000, (8000,))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cross_entropy(hidden, weight, targets).backward()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kB"


def test_processes_with_a_share_of_the_batch_each_make_the_same_gradient() -> None:
    batches = torch.randint(0, 300, (2, 5, 33))
    found = []
    for threads in (1, 3):
        torch.manual_seed(1)
        model = made(LLAMA).train()

        def add(part: Decoder, share: torch.Tensor) -> torch.Tensor:
            hidden = part(share[:, :-1]).flatten(0, 1)
            loss = cross_entropy(hidden, part.head_weight, share[:, 1:].flatten()) * (len(share) / 5)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        layout = Flat(model, muon=False)
        replicas = Replicas(model, layout.gradient, threads, sequences=5, add=add)
        for batch in batches:
            layout.clear()
            loss = replicas.add_gradient(batch.numpy(), None)
            layout.values.add_(layout.gradient, alpha=-0.1)  # all of them see what one changes
        replicas.close()
        found.append((loss, layout.gradient.clone()))
    torch.set_num_threads(1)
    torch.testing.assert_close(found[0], found[1])


def test_a_process_with_a_share_that_is_killed_is_told_of() -> None:
    model = made(LLAMA).train()

    def add(part: Decoder, share: torch.Tensor) -> torch.Tensor:
        if share[0, 0] == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(())

    replicas = Replicas(model, Flat(model, muon=False).gradient, 2, sequences=2, add=add)
    with pytest.raises(LlmdataError, match="ended \\(SIGKILL\\)"):
        replicas.add_gradient(np.array([[0, 0], [7, 7]]), None)


def test_processes_with_a_share_draw_numbers_of_their_own_from_one_seed() -> None:
    model = made(LLAMA).train()
    replicas = Replicas(model, Flat(model, muon=False).gradient, 2, 2, add=lambda part, share: torch.rand(()))
    drawn = []
    for seed in (5, 5, 6):
        first = torch.manual_seed(seed).get_state()
        second = replicas.add_gradient(np.zeros((2, 9), dtype=np.int64), seed)
        torch.set_rng_state(first)
        drawn.append((torch.rand(()), second))
    replicas.close()
    values = [(float(first), float(both - first)) for first, both in drawn]
    assert values[0] == values[1]
    assert len({value for pair in values for value in pair}) == 4


def test_tied_embedding_gathers_both_gradients() -> None:
    config = ModelConfig(layers=1, heads=2, width=16, context=16)
    model = made(config, 40)
    ids = torch.randint(0, 40, (2, 9))
    hidden = model(ids[:, :-1])
    ours = torch.autograd.grad(
        cross_entropy(hidden.flatten(0, 1), model.head_weight, ids[:, 1:].flatten()),
        model.embedding.weight,
        retain_graph=True,
    )
    theirs = torch.autograd.grad(
        F.cross_entropy(F.linear(hidden, model.embedding.weight).flatten(0, 1), ids[:, 1:].flatten()),
        model.embedding.weight,
    )
    torch.testing.assert_close(ours, theirs)


def test_recompute_and_micro_batches_change_no_gradient() -> None:
    model = made(LLAMA).train()
    ids = torch.randint(0, 300, (2, 33))

    def gradients() -> list[torch.Tensor]:
        hidden = model(ids[:, :-1])
        loss = cross_entropy(hidden.flatten(0, 1), model.head_weight, ids[:, 1:].flatten())
        return list(torch.autograd.grad(loss, list(model.parameters())))

    plain = gradients()
    model.recompute = True
    torch.testing.assert_close(gradients(), plain)


def test_rope_scaling_is_llama_3s() -> None:
    """Fast waves stay, slow ones turn `factor` times slower, as Llama 3.1's `apply_scaling` does."""
    plain = ModelConfig(heads=1, width=128, context=8, position="rope", rope_theta=500_000.0)
    scaled = plain.model_copy(update={"rope_scaling": RopeScaling(factor=8.0)})
    angle = [torch.atan2(*rope_table(config)[:, 1].flip(0)) for config in (plain, scaled)]
    wavelength = 2 * math.pi / angle[0]
    torch.testing.assert_close(angle[1][wavelength < 2048], angle[0][wavelength < 2048])
    torch.testing.assert_close(angle[1][wavelength > 8192], angle[0][wavelength > 8192] / 8)
    between = (wavelength > 2048) & (wavelength < 8192)
    assert between.any()
    assert ((angle[1] < angle[0]) & (angle[1] > angle[0] / 8))[between].all()


@pytest.mark.parametrize("length", [40, 128, 300])
def test_block_masks_let_a_token_see_its_document_so_far(length: int) -> None:
    """FlexAttention's mask, made block by block, is the one that PyTorch makes from the whole matrix."""
    from torch.nn.attention.flex_attention import create_block_mask

    generator = torch.Generator().manual_seed(length)
    documents = (torch.rand(3, length, generator=generator) < 0.01).cumsum(1)
    documents[2] = 0
    made = block_mask(documents)
    whole = create_block_mask(made.mask_mod, 3, None, length, length, device="cpu")
    blocks = made.kv_indices.shape[-1]

    def covered(mask: BlockMask) -> list[torch.Tensor]:
        found = []
        for counts, indices in ((mask.kv_num_blocks, mask.kv_indices), (mask.full_kv_num_blocks, mask.full_kv_indices)):
            assert counts is not None
            assert indices is not None
            dense = torch.zeros(3, blocks, blocks + 1, dtype=torch.int)
            places = torch.where(torch.arange(blocks) < counts[:, 0, :, None], indices[:, 0], blocks)
            found.append(dense.scatter(2, places.long(), 1)[..., :blocks])
        return found

    torch.testing.assert_close(covered(made), covered(whole))


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("config", [GPT, LLAMA], ids=["gpt", "llama"])
def test_flexible_attention_is_the_dense_one(config: ModelConfig) -> None:
    model = made(config.model_copy(update={"context": 160}))
    ids = torch.randint(0, 300, (2, 150))
    with torch.no_grad():
        dense = model(ids, 7)
        model.flexible = True
        model.train()
        torch.testing.assert_close(model(ids, 7), dense, rtol=1e-4, atol=1e-4)
