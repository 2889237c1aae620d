"""What a task has done so far, kept beside it on the local disk until it is finished.

A worker that dies takes its memory along. So it writes each few dozen finished items here, and the worker that takes
up the task reads them back and goes on after them. It also keeps memory flat: the output is streamed from here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmdata.storage.place import disk_full_is_resumable

if TYPE_CHECKING:
    import pyarrow as pa


class Journal:
    """Numbered entries of Arrow batches by stream name, each with a JSON note, in the folder `path`.

    An entry counts once its note is there; what a dying worker left without one is written over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.notes: list[Any] = []
        while (note := path / f"{len(self.notes):06}.json").exists():
            self.notes.append(json.loads(note.read_text()))

    def append(self, batches: Mapping[str, pa.RecordBatch], note: Any) -> None:
        """Add an entry; on return it survives the death of this process (not that of the machine)."""
        import pyarrow as pa

        name = self.path / f"{len(self.notes):06}"
        with disk_full_is_resumable(str(name)):
            for stream, batch in batches.items():
                with pa.OSFile(f"{name}.{stream}", "wb") as sink, pa.ipc.new_stream(sink, batch.schema) as writer:
                    writer.write_batch(batch)
            partial = name.with_suffix(".partial")
            partial.write_text(json.dumps(note))
            partial.rename(name.with_suffix(".json"))
        self.notes.append(note)

    def batches(self, stream: str) -> Iterator[pa.RecordBatch]:
        """The batches of one stream, in order."""
        import pyarrow as pa

        for number in range(len(self.notes)):
            with pa.OSFile(f"{self.path / f'{number:06}'}.{stream}", "rb") as source:
                yield from pa.ipc.open_stream(source)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
