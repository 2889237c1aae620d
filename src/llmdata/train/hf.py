"""Hugging Face folders: a trained model as `transformers` loads it, and back, as GPT-2, Llama or GPT-NeoX.

Which of them a model is follows from its shape: GPT-2 has learned positions, Llama RMSNorm and SwiGLU, GPT-NeoX layer
norms and rotary positions. All three turn rotary pairs (i, i + D/2), as ours does. Every parameter of ours is one of
theirs or several of theirs, one below the other; `Link` says which. Letters as in `model.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from llmdata.config import parse
from llmdata.errors import ConfigError, InputError
from llmdata.storage.encoding import load_encoding
from llmdata.storage.manifest import sha256_of
from llmdata.storage.place import Place
from llmdata.storage.token_index import TokenIndex
from llmdata.train.checkpoint import read_tensors, write_safetensors
from llmdata.train.config import ModelConfig, RopeScaling, TrainConfig, decoder_shape
from llmdata.train.model import VOCAB_MULTIPLE
from llmdata.train.sampling import MODEL, TOKENIZER, find_checkpoint

Family = Literal["gpt2", "llama", "gpt_neox"]
WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"
_CLASSES = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "gpt_neox": "GPTNeoXForCausalLM"}
_VOCABULARY = ("embedding.weight", "unembedding.weight")
_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new"}


@dataclass(frozen=True, slots=True)
class Link:
    """Our parameter `ours` is `theirs`, rows below rows.

    conv: GPT-2's matrices are stored transposed (its Conv1D); heads: GPT-NeoX's rows of queries, keys and values
    alternate by head. Where ours has no bias and theirs cannot be without, zeros are the same model.
    """

    ours: str
    theirs: tuple[str, ...]
    how: Literal["plain", "conv", "heads"] = "plain"


def export(run: Place, out: Place, *, checkpoint: str = "last", dtype: str = "float32") -> dict[str, Any]:
    """Write the model in `run` as a folder that `AutoModelForCausalLM` and `AutoTokenizer` load; returns its config.

    The vocabulary's padding is cut off. `dtype` is float32 (the weights as trained) or bfloat16. Raises ConfigError
    where no architecture of `transformers` has this shape, or `out` holds something else.
    """
    folder, found = find_checkpoint(run, checkpoint)
    about = (folder / MODEL).read_json()
    model = decoder_shape(about["model"], str(folder))
    strange = out.exists() and any(not place.name.startswith(".") for place in out.children("*"))
    if strange and not (out / "tokenizer.json").exists():
        raise ConfigError(f"{out}: not empty, and not a model's folder; give another --out")
    family = family_of(model)
    tensors = to_hf(family, model, read_tensors(found / "model.safetensors"), about["vocab_size"])
    kind = {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    config = hf_config(family, model, about["vocab_size"], about["eot"]) | {"torch_dtype": dtype}
    for old in (SHARDS, "config.json"):  # config.json comes last: a folder with one is whole
        (out / old).remove()
    for file in (folder / TOKENIZER).walk():
        (out / file.name).write_bytes(file.read_bytes())
    settings = (out / "tokenizer_config.json").read_json()
    (out / "tokenizer_config.json").write_json(settings | {"model_max_length": model.context})
    ends = {"bos_token_id": about["eot"], "eos_token_id": about["eot"], "pad_token_id": about["eot"]}
    (out / "generation_config.json").write_json(ends)
    write_safetensors(out / WEIGHTS, {name: tensor.to(kind) for name, tensor in tensors.items()}, {"format": "pt"})
    (out / "config.json").write_json(config)
    return config


def load_hf(folder: Place) -> tuple[ModelConfig, int, dict[str, Tensor]]:
    """Shape, vocabulary and parameters (named as ours, in float32) of the Hugging Face model in `folder`.

    Raises InputError where there is none, ConfigError where its architecture is not one that ours can be.
    """
    config, vocab_size = config_of(folder)
    tensors: dict[str, Tensor] = {}
    for name in _weight_files(folder):
        tensors |= read_tensors(folder / name)
    family = family_of(config)
    body = {"gpt2": "transformer.", "llama": "model.", "gpt_neox": "gpt_neox."}[family]
    prefixed = any(name.startswith(body) for name in tensors)  # GPT-2's own files have no prefix
    named = {name if prefixed or name.startswith("lm_head") else body + name: value for name, value in tensors.items()}
    return config, vocab_size, from_hf(family, config, named, vocab_size, folder)


def beginning(config: TrainConfig, folder: Place, index: TokenIndex) -> tuple[TrainConfig, list[str]]:
    """`config` with the shape of the Hugging Face model in `folder`, and the sha256 of the files with its weights.

    Raises InputError where its tokenizer is not the one that the tokens of `index` were made with.
    """
    shape, vocab_size = config_of(folder)
    if (folder / "tokenizer.json").exists():  # without one, that the vocabulary is large enough is all that is known
        digest = load_encoding(folder).digest
        if digest != index.tokenizer_digest:
            raise InputError(
                f"{folder}: its tokenizer ({digest[:12]}…) is not the one that the tokens were made with "
                f"({index.tokenizer_digest[:12]}…): tokenize with `--tokenizer {folder}`"
            )
    given = config.model_dump() | {"model": shape.model_dump() | {"vocab_size": vocab_size}}
    source = f"model: the shape of {folder}"
    return parse(TrainConfig, json.dumps(given), source), [sha256_of(folder / name) for name in _weight_files(folder)]


def config_of(folder: Place) -> tuple[ModelConfig, int]:
    """Shape and vocabulary of the Hugging Face model in `folder`, from its `config.json`; errors as `load_hf`."""
    path = folder / "config.json"
    if not path.exists():
        raise InputError(f"{folder}: no Hugging Face model (config.json is missing); `llmdata export` makes one")
    theirs = path.read_json()
    family = theirs.get("model_type")
    if family == "gpt2":
        _refuse(path, theirs, {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False})
        shape = {
            "layers": theirs["n_layer"],
            "heads": theirs["n_head"],
            "width": theirs["n_embd"],
            "context": theirs["n_positions"],
            "ffn": theirs.get("n_inner"),
            "norm_eps": theirs.get("layer_norm_epsilon", 1e-5),
            "activation": _activation(path, theirs.get("activation_function", "gelu_new")),
            "bias": True,
            "tied": theirs.get("tie_word_embeddings", True),
        }
    elif family in ("llama", "gpt_neox"):
        shape = {
            "layers": theirs["num_hidden_layers"],
            "heads": theirs["num_attention_heads"],
            "width": theirs["hidden_size"],
            "context": theirs["max_position_embeddings"],
            "ffn": theirs["intermediate_size"],
            "position": "rope",
            "tied": theirs.get("tie_word_embeddings", False),
            **_rope(path, theirs),
        }
        if family == "llama":
            _refuse(path, theirs, {"head_dim": shape["width"] // shape["heads"], "hidden_act": "silu"})
            _refuse(path, theirs, {"mlp_bias": theirs.get("attention_bias", False)})
            shape |= {
                "kv_heads": theirs.get("num_key_value_heads"),
                "norm": "rmsnorm",
                "norm_eps": theirs.get("rms_norm_eps", 1e-6),
                "activation": "swiglu",
                "bias": theirs.get("attention_bias", False),
            }
        else:
            _refuse(path, {"use_parallel_residual": True} | theirs, {"use_parallel_residual": False})
            _refuse(path, theirs, {"attention_bias": True})
            shape |= {
                "norm_eps": theirs.get("layer_norm_eps", 1e-5),
                "activation": _activation(path, theirs.get("hidden_act", "gelu")),
                "bias": True,
            }
    else:
        raise ConfigError(f"{path}: model_type {family!r}; ours can be gpt2, llama or gpt_neox")
    return ModelConfig.model_validate(shape), int(theirs["vocab_size"])


def family_of(config: ModelConfig) -> Family:
    """The architecture of `transformers` that has this shape; raises ConfigError if none has."""
    grouped = config.key_value_heads != config.heads
    shape = (config.norm, config.position, config.activation == "swiglu")
    if shape == ("rmsnorm", "rope", True):
        return "llama"
    if shape == ("layernorm", "learned", False) and not grouped:
        return "gpt2"
    if shape == ("layernorm", "rope", False) and not grouped:
        return "gpt_neox"
    raise ConfigError(
        f"no architecture of transformers has {config.norm}, {config.position} positions, {config.activation}"
        f"{' and grouped heads' if grouped else ''} together. There are: rmsnorm, rope, swiglu (Llama); layernorm, "
        "learned, gelu or gelu_tanh (GPT-2); layernorm, rope, gelu or gelu_tanh (GPT-NeoX), both without kv_heads"
    )


def hf_config(family: Family, config: ModelConfig, vocab_size: int, eot: int) -> dict[str, Any]:
    """`config.json` of the model."""
    common: dict[str, Any] = {
        "architectures": [_CLASSES[family]],
        "model_type": family,
        "vocab_size": vocab_size,
        "tie_word_embeddings": config.tied,
        "bos_token_id": eot,
        "eos_token_id": eot,
    }
    if family == "gpt2":
        return common | {
            "n_layer": config.layers,
            "n_head": config.heads,
            "n_embd": config.width,
            "n_positions": config.context,
            "n_inner": config.ffn_width,
            "activation_function": _ACTIVATIONS[config.activation],
            "layer_norm_epsilon": config.norm_eps,
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout),
        }
    common |= {
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "hidden_size": config.width,
        "intermediate_size": config.ffn_width,
        "max_position_embeddings": config.context,
        "attention_dropout": config.dropout,
        # transformers 4 reads rope_theta and rope_scaling (GPT-NeoX: rotary_emb_base), 5 reads them too.
        "rope_scaling": _rope_scaling(config.rope_scaling),
    }
    if family == "llama":
        return common | {
            "num_key_value_heads": config.key_value_heads,
            "head_dim": config.head_width,
            "hidden_act": "silu",
            "rms_norm_eps": config.norm_eps,
            "rope_theta": config.rope_theta,
            "attention_bias": config.bias,
            "mlp_bias": config.bias,
        }
    return common | {
        "hidden_act": _ACTIVATIONS[config.activation],
        "layer_norm_eps": config.norm_eps,
        "rotary_emb_base": config.rope_theta,
        "rotary_pct": 1.0,
        "use_parallel_residual": False,
        "attention_bias": True,
        "hidden_dropout": config.dropout,
    }


def to_hf(family: Family, config: ModelConfig, ours: Mapping[str, Tensor], vocab_size: int) -> dict[str, Tensor]:
    """Our parameters as `family` has them."""
    theirs: dict[str, Tensor] = {}
    for link in links(family, config):
        rows = [vocab_size] if link.ours in _VOCABULARY else _rows(config, link)
        value = ours.get(link.ours)
        if value is None:  # theirs cannot be without this bias
            value = torch.zeros(sum(rows))
        value = value[: sum(rows)]
        if link.how == "heads":
            value = value.reshape(3, config.heads, config.head_width, *value.shape[1:]).transpose(0, 1).flatten(0, 2)
        for name, part in zip(link.theirs, torch.split(value, rows), strict=True):
            theirs[name] = (part.T if link.how == "conv" else part).contiguous()
    return theirs


def from_hf(
    family: Family, config: ModelConfig, theirs: Mapping[str, Tensor], vocab_size: int, source: Place
) -> dict[str, Tensor]:
    """Parameters of `family` as ours; the vocabulary is padded with zeros. Raises InputError if one is missing."""
    ours: dict[str, Tensor] = {}
    for link in links(family, config):
        missing = [name for name in link.theirs if name not in theirs]
        if missing:
            raise InputError(f"{source}: the weights have no {missing[0]}; the download may be incomplete")
        parts = [theirs[name].float() for name in link.theirs]
        value = torch.cat([part.T if link.how == "conv" else part for part in parts])
        if link.how == "heads":
            value = value.reshape(config.heads, 3, config.head_width, *value.shape[1:]).transpose(0, 1).flatten(0, 2)
        if link.ours in _VOCABULARY:
            padding = -vocab_size % VOCAB_MULTIPLE
            value = torch.cat([value, value.new_zeros(padding, config.width)])
        ours[link.ours] = value.contiguous()
    return ours


def links(family: Family, config: ModelConfig) -> list[Link]:
    """Which parameters of `family` each of ours is."""
    found: list[Link] = []
    if family == "llama":
        found += [Link("embedding.weight", ("model.embed_tokens.weight",)), Link("norm.weight", ("model.norm.weight",))]
        kinds = ("weight", "bias") if config.bias else ("weight",)
        for i in range(config.layers):
            us, them = f"blocks.{i}.", f"model.layers.{i}."
            found.append(Link(us + "attention_norm.weight", (them + "input_layernorm.weight",)))
            found.append(Link(us + "mlp_norm.weight", (them + "post_attention_layernorm.weight",)))
            for kind in kinds:
                qkv = tuple(f"{them}self_attn.{name}_proj.{kind}" for name in "qkv")
                found.append(Link(f"{us}attention.qkv.{kind}", qkv))
                found.append(Link(f"{us}attention.out.{kind}", (f"{them}self_attn.o_proj.{kind}",)))
                gate_up = tuple(f"{them}mlp.{name}_proj.{kind}" for name in ("gate", "up"))
                found.append(Link(f"{us}mlp.gate_up.{kind}", gate_up))
                found.append(Link(f"{us}mlp.out.{kind}", (f"{them}mlp.down_proj.{kind}",)))
    else:
        gpt2 = family == "gpt2"
        body, layers = ("transformer.", "h") if gpt2 else ("gpt_neox.", "layers")
        found.append(Link("embedding.weight", (body + ("wte" if gpt2 else "embed_in") + ".weight",)))
        if gpt2:
            found.append(Link("positions.weight", (body + "wpe.weight",)))
        names = [
            ("attention_norm", "ln_1" if gpt2 else "input_layernorm"),
            ("mlp_norm", "ln_2" if gpt2 else "post_attention_layernorm"),
            ("attention.qkv", "attn.c_attn" if gpt2 else "attention.query_key_value"),
            ("attention.out", "attn.c_proj" if gpt2 else "attention.dense"),
            ("mlp.up", "mlp.c_fc" if gpt2 else "mlp.dense_h_to_4h"),
            ("mlp.out", "mlp.c_proj" if gpt2 else "mlp.dense_4h_to_h"),
        ]
        for kind in ("weight", "bias"):
            found.append(Link(f"norm.{kind}", (f"{body}{'ln_f' if gpt2 else 'final_layer_norm'}.{kind}",)))
            for i in range(config.layers):
                for us, them in names:
                    how: Literal["plain", "conv", "heads"] = "plain"
                    if gpt2 and kind == "weight" and not us.endswith("norm"):
                        how = "conv"
                    elif not gpt2 and us == "attention.qkv":
                        how = "heads"
                    found.append(Link(f"blocks.{i}.{us}.{kind}", (f"{body}{layers}.{i}.{them}.{kind}",), how))
    if not config.tied:
        found.append(Link("unembedding.weight", ("embed_out.weight" if family == "gpt_neox" else "lm_head.weight",)))
    return found


def _rows(config: ModelConfig, link: Link) -> list[int]:
    """Rows of each of `theirs`, before a transposition."""
    kv = config.key_value_heads * config.head_width
    if ".qkv." in link.ours:
        rows = [config.width, kv, kv]
        return rows if len(link.theirs) == 3 else [sum(rows)]
    if ".gate_up." in link.ours:
        return [config.ffn_width, config.ffn_width]
    if ".up." in link.ours:
        return [config.ffn_width]
    return [config.context if link.ours == "positions.weight" else config.width]


def _weight_files(folder: Place) -> list[str]:
    if (folder / WEIGHTS).exists():
        return [WEIGHTS]
    if (folder / SHARDS).exists():
        return sorted(set((folder / SHARDS).read_json()["weight_map"].values()))
    raise InputError(f"{folder}: no {WEIGHTS}; weights in pickled files (pytorch_model.bin) are not read")


def _activation(path: Place, name: str) -> str:
    names = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
    if name not in names:
        raise ConfigError(f"{path}: activation {name!r}; ours can be {', '.join(names)}")
    return names[name]


def _refuse(path: Place, theirs: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for key, value in wanted.items():
        if theirs.get(key, value) not in (value, None):
            raise ConfigError(f"{path}: {key} is {theirs[key]!r}; ours can only be {value!r}")


def _rope(path: Place, theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Base and stretch of rotary positions, as transformers 4 or 5 write them."""
    given = dict(theirs.get("rope_parameters") or theirs.get("rope_scaling") or {})
    neox = theirs["model_type"] == "gpt_neox"
    base = given.get("rope_theta", theirs.get("rotary_emb_base" if neox else "rope_theta", 10_000.0))
    share = given.get("partial_rotary_factor", theirs.get("rotary_pct", 0.25) if neox else 1.0)
    if share != 1:
        raise ConfigError(f"{path}: rotary positions on {share:.0%} of a head; ours are on all of it")
    kind = given.get("rope_type", given.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise ConfigError(f"{path}: rotary positions stretched by {kind!r}; ours can be default or llama3")
    scaling = None
    if kind == "llama3":
        scaling = RopeScaling(
            factor=given["factor"],
            low_freq_factor=given["low_freq_factor"],
            high_freq_factor=given["high_freq_factor"],
            original_context=given["original_max_position_embeddings"],
        )
    return {"rope_theta": base, "rope_scaling": scaling}


def _rope_scaling(scaling: RopeScaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_context,
    }
