"""`llmdata generate`: text from a trained model."""

from __future__ import annotations

from typing import Annotated

import typer

from llmdata.cli.common import Json, Verbose, command


def generate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A model folder, or a work folder with `model` in it.")],
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", "-p", help="How the text starts. Repeatable.", metavar="TEXT")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens to write at most.", min=1, metavar="N")] = 128,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token.", min=0.0, metavar="T")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Only the K likeliest tokens; 0: all.", min=0, metavar="K")] = 0,
    top_p: Annotated[float, typer.Option(help="Only the likeliest tokens up to this probability.", metavar="P")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Only tokens this likely relative to the likeliest.", metavar="P")] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed writes the same text.", min=0, metavar="N")] = 0,
    samples: Annotated[int, typer.Option(help="Texts for each prompt.", min=1, metavar="N")] = 1,
    stream: Annotated[bool, typer.Option("--stream", help="Print text as it is written (one prompt).")] = False,
    checkpoint: Annotated[str, typer.Option(help="last, best, or a step.", metavar="WHICH")] = "last",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", metavar="DEVICE")] = "auto",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Write text with a trained model.

    \b
    Example:
      llmdata generate runs/demo --prompt "The database"
      llmdata generate runs/demo -p "A session" --temperature 0.7 --top-p 0.9 --samples 3 --json
    """
    with command(json=json, verbose=verbose) as (_, console):
        from llmdata.errors import ConfigError
        from llmdata.storage.place import Place
        from llmdata.train import Sampling
        from llmdata.train import generate as write

        prompts = [text for text in prompt or [""] for _ in range(samples)]
        if stream and (json or len(prompts) > 1):
            raise ConfigError("--stream prints one text as it is written: give one prompt, no --samples and no --json")
        sampling = Sampling(max_tokens, temperature, top_k, top_p, min_p, seed)
        place = Place.of(run)
        if stream:
            print(prompts[0], end="", flush=True)
            write(place, prompts, sampling, checkpoint=checkpoint, device=device, stream=_print_piece)
            print()
            return
        texts = write(place, prompts, sampling, checkpoint=checkpoint, device=device)
        for number, (start, text) in enumerate(zip(prompts, texts, strict=True)):
            console.result({"prompt": start, "text": text}, ("\n---\n" if number else "") + start + text)


def _print_piece(row: int, piece: str) -> None:
    print(piece, end="", flush=True)
