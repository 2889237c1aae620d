"""What `torchrun` starts for tests/train/test_ranks.py: runs of several ranks one after another, in one group of them.

    torchrun --nproc-per-node N -m tests.train.ranks TOKENS RUNS

RUNS is a file of [folder, settings, where to stop or null] for each run. The wish to stop reaches one rank alone.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from llmdata.engine.session import Session
from llmdata.errors import StoppedEarly
from llmdata.storage.place import Place
from llmdata.train import TrainConfig, train
from llmdata.train.parallel import Ranks, joined
from tests.train.test_resume import stopping


def main() -> None:
    ranks = Ranks.of(os.environ)
    with joined(ranks, "cpu"):
        for folder, settings, stop_at in json.loads(Path(sys.argv[2]).read_text()):
            session = Session()
            if stop_at is not None and ranks.rank == ranks.size - 1:
                session = stopping(**stop_at)
            with suppress(StoppedEarly):
                config = TrainConfig.model_validate(settings)
                train(Place.of(sys.argv[1]), Place.of(folder), config, session, ranks=ranks)


if __name__ == "__main__":
    main()
