"""Checkpoints: a folder of safetensors and JSON for each; no pickle is written or read.

`state.json` is written last and removed first: a folder that has it is whole, on a disk as on an object store, where
nothing can be renamed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from llmdata.errors import InputError
from llmdata.storage.place import Place

STATE = "state.json"
_STEP = re.compile(r"step-(\d+)")
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64", torch.float64: "F64"}


def step_of(checkpoint: Place) -> int:
    match = _STEP.fullmatch(checkpoint.name)
    assert match is not None
    return int(match[1])


def checkpoints(folder: Place) -> list[Place]:
    """The whole checkpoints in `folder`, oldest first."""
    return [place for place in _folders(folder) if (place / STATE).exists()]


def _folders(folder: Place) -> list[Place]:
    return sorted((place for place in folder.children("step-*") if _STEP.fullmatch(place.name)), key=step_of)


class Writer:
    """Writes checkpoints beside the training loop, which waits only for a copy of the tensors.

    `due` tells of a step whether a run that nobody stops saves there: what a stop has saved beyond those goes with the
    next, so that a run that was stopped leaves the same checkpoints.
    """

    def __init__(self, folder: Place, keep_last: int, keep_best: bool, due: Callable[[int], bool]) -> None:
        self.folder, self.keep_last, self.keep_best, self.due = folder, keep_last, keep_best, due
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        for place in _folders(folder):
            if not (place / STATE).exists():  # of a run that was killed
                place.remove()

    def save(
        self, step: int, state: Mapping[str, Any], model: Mapping[str, Tensor], optim: Mapping[str, Tensor]
    ) -> None:
        """Write `step-NNNNNN` of tensors on the CPU that nobody changes any more.

        What went wrong with the one before is raised here, or by `wait`.
        """
        self.wait()
        files = {"model.safetensors": model, "optimizer.safetensors": optim}
        self._pending = self._pool.submit(self._write, step, dict(state), files)

    def wait(self) -> None:
        """Until the last checkpoint is on disk."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        self._pool.shutdown(wait=True)

    def _write(self, step: int, state: dict[str, Any], files: Mapping[str, Mapping[str, Tensor]]) -> None:
        final = self.folder / f"step-{step:06d}"
        if not (final / STATE).exists():  # else of the same weights: to remove them first might leave no checkpoint
            for name, tensors in files.items():
                write_safetensors(final / name, tensors)
        (final / STATE).write_json(state)
        self._prune()

    def _prune(self) -> None:
        found = checkpoints(self.folder)
        due = [place for place in found if self.due(step_of(place))]
        keep = {place.name for place in (*due[-self.keep_last :], found[-1])}
        if self.keep_best and (best := best_of(due)) is not None:
            keep.add(best.name)
        for place in found:
            if place.name not in keep:
                _discard(place)


def best_of(found: list[Place]) -> Place | None:
    """The checkpoint with the lowest validation loss, the earlier one of equals; None if none was measured."""
    losses = [(read_state(place).get("val_loss"), place) for place in found]
    measured = [(loss, place) for loss, place in losses if loss is not None]
    return min(measured, key=lambda pair: pair[0])[1] if measured else None


def read_state(checkpoint: Place) -> dict[str, Any]:
    state: dict[str, Any] = (checkpoint / STATE).read_json()
    return state


def read_tensors(place: Place, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises InputError if it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    try:
        tensors: dict[str, Tensor]
        if place.fs is None:
            tensors = load_file(place.local(), device=device)
        else:
            tensors = {name: tensor.to(device) for name, tensor in load(place.read_bytes()).items()}
    except (SafetensorError, FileNotFoundError) as error:
        raise InputError(
            f"{place}: cannot read the checkpoint ({error}); remove its folder, and the one before it is taken"
        ) from None
    return tensors


def write_safetensors(place: Place, tensors: Mapping[str, Tensor], facts: Mapping[str, str] | None = None) -> None:
    """Write CPU tensors as a safetensors file: 8 bytes with the header's length, a JSON header, then the values.

    `facts` become the header's `__metadata__`.

    Not by the package's own `save_file`, which neither syncs nor tells a full disk from other failures.
    """
    assert sys.byteorder == "little"
    header: dict[str, Any] = {"__metadata__": dict(facts)} if facts else {}
    offset = 0
    for name, tensor in sorted(tensors.items()):
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with place.writer() as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in sorted(tensors.items()):
            if tensor.numel():
                stream.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _discard(checkpoint: Place) -> None:
    """Remove a checkpoint; a kill halfway leaves none that looks whole."""
    (checkpoint / STATE).remove()
    checkpoint.remove()
