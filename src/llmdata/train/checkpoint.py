"""Checkpoints: a folder of safetensors and JSON for each, complete or absent; no pickle is written or read."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from llmdata.errors import InputError
from llmdata.storage.place import PARTIAL, Place, remove_partials

_STEP = re.compile(r"step-(\d+)")
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64"}


def step_of(checkpoint: Place) -> int:
    match = _STEP.fullmatch(checkpoint.name)
    assert match is not None
    return int(match[1])


def checkpoints(folder: Place) -> list[Place]:
    """The finished checkpoints in `folder`, oldest first."""
    found = [place for place in folder.children("step-*") if _STEP.fullmatch(place.name)]
    return sorted(found, key=step_of)


class Writer:
    """Writes checkpoints beside the training loop, which waits only for a copy of the tensors."""

    def __init__(self, folder: Place, keep_last: int, keep_best: bool) -> None:
        self.folder, self.keep_last, self.keep_best = folder, keep_last, keep_best
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        remove_partials(folder)

    def save(
        self, step: int, state: Mapping[str, Any], model: Mapping[str, Tensor], optim: Mapping[str, Tensor]
    ) -> None:
        """Write `step-NNNNNN`. What went wrong with the one before is raised here, or by `wait`."""
        self.wait()
        files = {"model.safetensors": _copies(model), "optimizer.safetensors": _copies(optim)}
        self._pending = self._pool.submit(self._write, step, dict(state), files)

    def wait(self) -> None:
        """Until the last checkpoint is on disk."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        self._pool.shutdown(wait=True)

    def _write(self, step: int, state: dict[str, Any], files: dict[str, dict[str, Tensor]]) -> None:
        final = self.folder / f"step-{step:06d}"
        partial = (self.folder / f"{final.name}{PARTIAL}").mkdir()
        for name, tensors in files.items():
            write_safetensors(partial / name, tensors)
        (partial / "state.json").write_json(state)
        _discard(final)
        os.rename(partial.local(), final.local())
        _sync(self.folder)
        self._prune()

    def _prune(self) -> None:
        found = checkpoints(self.folder)
        keep = {place.name for place in found[-self.keep_last :]}
        if self.keep_best and (best := best_of(found)) is not None:
            keep.add(best.name)
        for place in found:
            if place.name not in keep:
                _discard(place)


def best_of(found: list[Place]) -> Place | None:
    """The checkpoint with the lowest validation loss, the earlier one of equals; None if none was measured."""
    losses = [(place.path, (place / "state.json").read_json().get("val_loss")) for place in found]
    measured = [(loss, path) for path, loss in losses if loss is not None]
    return Place(min(measured, key=lambda pair: pair[0])[1]) if measured else None


def read_state(checkpoint: Place) -> dict[str, Any]:
    state: dict[str, Any] = (checkpoint / "state.json").read_json()
    return state


def read_tensors(place: Place, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises InputError if it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(place.local(), device=device)
    except (SafetensorError, FileNotFoundError) as error:
        raise InputError(
            f"{place}: cannot read the checkpoint ({error}); remove its folder, and the one before it is taken"
        ) from None
    return tensors


def write_safetensors(place: Place, tensors: Mapping[str, Tensor]) -> None:
    """Write CPU tensors as a safetensors file: 8 bytes with the header's length, a JSON header, then the values.

    Not by the package's own `save_file`, which neither syncs nor tells a full disk from other failures.
    """
    assert sys.byteorder == "little"
    header: dict[str, Any] = {}
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


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def _discard(checkpoint: Place) -> None:
    """Remove a checkpoint; a kill halfway leaves none that looks whole."""
    if checkpoint.exists():
        gone = checkpoint.parent / f"{checkpoint.name}.old{PARTIAL}"
        gone.remove()
        os.rename(checkpoint.local(), gone.local())
        gone.remove()


def _sync(folder: Place) -> None:
    descriptor = os.open(folder.local(), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
