"""A trained model in Hugging Face's folder is the same model: the real library says so."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from llmdata.engine.session import Session
from llmdata.errors import ChangedError, ConfigError, InputError
from llmdata.storage.place import Place
from llmdata.train import Sampling, generate, train
from llmdata.train.config import ModelConfig
from llmdata.train.hf import config_of, export, load_hf
from llmdata.train.metrics import read_lines
from llmdata.train.sampling import load_model
from tests.train.corpus import tiny, write_tokens

pytest.importorskip("transformers")

LLAMA = {"norm": "rmsnorm", "position": "rope", "activation": "swiglu", "norm_eps": 1e-6}
STRETCH = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_context": 16}
SHAPES = {
    "gpt2": {"bias": True, "activation": "gelu_tanh"},
    "gpt2 without biases": {},
    "gpt2 untied": {"bias": True, "tied": False},
    "gpt2 as wide as its vocabulary": {"width": 128, "ffn": 64},
    "llama": {**LLAMA, "kv_heads": 2, "tied": False, "heads": 4},
    "llama tied, stretched": {**LLAMA, "rope_theta": 500_000.0, "rope_scaling": STRETCH},
    "llama with biases": {**LLAMA, "bias": True, "ffn": 48},
    "neox": {"position": "rope", "bias": True, "tied": False},
    "neox, as the demo": {"position": "rope", "rope_theta": 5000.0, "activation": "gelu_tanh"},
}


def trained(tokens: Place, out: Place, shape: dict[str, Any]) -> None:
    # Enough steps that no weight is still what it was made as, at which norms and biases are ones and zeros.
    train(tokens, out, tiny(model=shape, loop={"steps": 12}, eval_every=12, checkpoint_every=12), Session())


@pytest.mark.parametrize("name", SHAPES)
def test_transformers_loads_the_same_model(tokens: Place, out: Place, name: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trained(tokens, out, SHAPES[name])
    folder = out.parent / "hf"
    export(out, folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder.path).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder.path)
    ours, encoding, eot = load_model(out)
    prompt = "the cat sees"
    assert tokenizer(prompt).input_ids == encoding.encode(prompt)
    assert tokenizer.eos_token_id == eot
    ids = torch.tensor([[eot, *encoding.encode("the cat sees the dog again.")]])
    with torch.no_grad():
        expected, found = ours.head(ours(ids)), theirs(ids).logits
    assert found.shape == expected.shape == (1, ids.shape[1], encoding.n_vocab)  # no padding
    assert (found - expected).abs().max() < 1e-4

    written = generate(out, [prompt], Sampling(max_tokens=12, temperature=0))[0]
    start = torch.tensor([[eot, *encoding.encode(prompt)]])
    text = theirs.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=12, do_sample=False)
    assert tokenizer.decode(text[0, start.shape[1] :], skip_special_tokens=True) == written


@pytest.mark.parametrize("name", SHAPES)
def test_import_gives_back_what_was_exported(tokens: Place, out: Place, name: str) -> None:
    trained(tokens, out, SHAPES[name])
    folder = out.parent / "hf"
    export(out, folder)
    config, vocab_size, tensors = load_hf(folder)
    from llmdata.train.model import Decoder

    again = Decoder(config, vocab_size)
    missing, unexpected = again.load_state_dict(tensors)
    assert not missing
    assert not unexpected
    ours, encoding, eot = load_model(out)
    ids = torch.tensor([[eot, *encoding.encode("the hen sees the pig")]])
    with torch.no_grad():
        assert (again.head(again(ids)) - ours.head(ours(ids))).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox"])
def test_models_that_transformers_saved_are_read(tmp_path: Any, kind: str) -> None:
    import transformers

    torch.manual_seed(0)
    if kind == "gpt2":
        config: Any = transformers.GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=2, n_positions=64)
    elif kind == "llama":
        scaling = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0}
        scaling |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 16}
        config = transformers.LlamaConfig(
            vocab_size=99, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64, rope_parameters=scaling,
        )  # fmt: skip
    else:
        config = transformers.GPTNeoXConfig(
            vocab_size=99, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=64, use_parallel_residual=False, hidden_act="gelu",
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
        )  # fmt: skip
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in theirs.parameters():  # so that biases and norms count
        parameter.data += 0.05 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    shape, vocab_size, tensors = load_hf(Place.of(tmp_path))
    from llmdata.train.model import Decoder

    ours = Decoder(shape, vocab_size).eval()
    ours.load_state_dict(tensors)
    ids = torch.randint(0, 99, (2, 40))
    with torch.no_grad():
        assert (ours.head(ours(ids)) - theirs(ids).logits).abs().max() < 1e-4


def test_training_goes_on_from_an_exported_model(tokens: Place, out: Place, tmp_path: Any) -> None:
    trained(tokens, out, SHAPES["llama"])
    folder = Place.of(tmp_path / "hf")
    export(out, folder)
    config = tiny(init=folder.path, loop={"steps": 4}, optim={"lr": 1e-3}, eval_every=2)
    again = Place.of(tmp_path / "again")
    assert train(tokens, again, config, Session()).fresh
    before, after = (list(read_lines(place / "metrics.jsonl")) for place in (out, again))
    assert after[0]["val_loss"] == pytest.approx(before[-1]["val_loss"], rel=1e-6)
    assert after[-1]["val_loss"] < after[0]["val_loss"]
    assert (again / "model.json").read_json()["model"]["norm"] == "rmsnorm"
    assert not train(tokens, again, config, Session()).fresh
    with pytest.raises(ChangedError, match="init"):
        train(tokens, again, config.model_copy(update={"init": None}), Session())


def test_a_model_with_another_tokenizer_is_refused(tokens: Place, out: Place, tmp_path: Any) -> None:
    trained(tokens, out, SHAPES["llama"])
    folder, others = Place.of(tmp_path / "hf"), Place.of(tmp_path / "others")
    export(out, folder)
    write_tokens(others, ["quartz and zephyr, jolly foxes, bright vixens jump"] * 40)
    with pytest.raises(InputError, match="tokenizer"):
        train(others, Place.of(tmp_path / "again"), tiny(init=folder.path), Session())


def test_bfloat16_and_a_second_export_over_the_first(tokens: Place, out: Place) -> None:
    trained(tokens, out, SHAPES["llama"])
    folder = out.parent / "hf"
    export(out, folder)
    size = (folder / "model.safetensors").size()
    export(out, folder, dtype="bfloat16")
    assert (folder / "model.safetensors").size() < 0.6 * size
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(folder.path).dtype == torch.bfloat16


def test_what_cannot_be_exported_or_read_is_said(tokens: Place, out: Place, tmp_path: Any) -> None:
    trained(tokens, out, {"norm": "rmsnorm"})
    with pytest.raises(ConfigError, match=r"no architecture of transformers has rmsnorm, learned positions, gelu"):
        export(out, Place.of(tmp_path / "hf"))
    other = Place.of(tmp_path / "other")
    (other / "thesis.txt").write_bytes(b"dear")
    trained(tokens, Place.of(tmp_path / "good"), {})
    with pytest.raises(ConfigError, match="not empty"):
        export(Place.of(tmp_path / "good"), other)
    with pytest.raises(InputError, match=r"config.json is missing"):
        config_of(other)
    (other / "config.json").write_json({"model_type": "mamba"})
    with pytest.raises(ConfigError, match="mamba"):
        config_of(other)


def test_every_llama_preset_survives_its_own_config(tmp_path: Any) -> None:
    from llmdata.train.config import PRESETS
    from llmdata.train.hf import family_of, hf_config

    for preset in PRESETS.values():
        if preset.model.vocab_size is None:
            continue
        folder = Place.of(tmp_path)
        (folder / "config.json").write_json(hf_config(family_of(preset.model), preset.model, 1000, 0))
        config, vocab_size = config_of(folder)
        given = preset.model.model_dump()
        same = {"ffn": preset.model.ffn_width, "kv_heads": config.kv_heads, "vocab_size": None}
        if config.kv_heads is not None:
            assert config.kv_heads == preset.model.key_value_heads
        assert config == ModelConfig.model_validate(given | same)
        assert vocab_size == 1000


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed")
def test_lm_evaluation_harness_scores_it(tokens: Place, out: Place, tmp_path: Any) -> None:
    import json

    import lm_eval
    from lm_eval.tasks import TaskManager

    train(tokens, out, tiny(loop={"steps": 150}, eval_every=150, checkpoint_every=150), Session())
    folder = out.parent / "hf"
    export(out, folder)
    rows = [{"text": "the cat sees the", "right": " dog", "wrong": " xqz"} for _ in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "animals",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "text",
        "doc_to_choice": "{{[right, wrong]}}",
        "doc_to_target": 0,
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }
    found = lm_eval.simple_evaluate(
        model="hf", model_args=f"pretrained={folder.path}", tasks=[task], task_manager=TaskManager(), device="cpu"
    )
    assert found["results"]["animals"]["acc,none"] == 1.0
