"""`llmdata export`: the model for everybody's tools."""

from __future__ import annotations

from typing import Annotated

import typer

from llmdata.cli.common import Json, Out, Verbose, command


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A model folder, or a work folder with `model` in it.")],
    out: Out,
    to: Annotated[str, typer.Option(help="hf: a folder for Hugging Face's transformers.", metavar="FORMAT")] = "hf",
    checkpoint: Annotated[str, typer.Option(help="last, best, or a step.", metavar="WHICH")] = "last",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.", metavar="TYPE")] = "float32",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Write a trained model for other tools.

    The folder loads with `AutoModelForCausalLM` and `AutoTokenizer` of transformers, as GPT-2, Llama or GPT-NeoX,
    whichever has the model's shape; lm-evaluation-harness and vLLM take it too. `llmdata train --init DIR` goes on
    training it.

    \b
    Example:
      llmdata export runs/demo --to hf --out demo-hf
      lm_eval --model hf --model_args pretrained=demo-hf --tasks lambada_openai
    """
    with command(json=json, verbose=verbose) as (_, console):
        from llmdata.errors import ConfigError
        from llmdata.storage.lock import locked
        from llmdata.storage.place import Place
        from llmdata.train.hf import export as write

        if to != "hf":
            raise ConfigError(f"--to {to}: there is hf")
        if dtype not in ("float32", "bfloat16"):
            raise ConfigError(f"--dtype {dtype}: float32 or bfloat16")
        place = Place.of(out)
        with locked(place, "export"):
            config = write(Place.of(run), place, checkpoint=checkpoint, dtype=dtype)
        name = config["architectures"][0]
        console.result({"out": out, "config": config}, f"{out}: {name}, for AutoModelForCausalLM and AutoTokenizer")
