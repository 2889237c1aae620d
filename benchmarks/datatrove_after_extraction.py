"""datatrove's FineWeb pipeline from texts on. Runs in datatrove's environment, for clean_vs_datatrove.py.

    python benchmarks/datatrove_after_extraction.py TEXTS OUT PEER_SCRIPT [WORKERS]

TEXTS is a folder of JSON lines (`id`, `text`), one task a file. Stages and settings are those of PEER_SCRIPT
(`datatrove_fineweb.py`) behind its extractor. Prints how many documents are left.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(texts: str, out: str, peer_script: str, workers: str = "2") -> None:
    """Language, all quality filters, MinHash and PII, from JSON lines to Parquet in `out`/final."""
    sys.path.insert(0, str(Path(peer_script).parent))
    from datatrove_fineweb import counts, seed_language_model

    cache = Path(out, "cache")
    os.environ["HF_ASSETS_CACHE"] = str(cache.resolve())
    os.environ["HF_HUB_OFFLINE"] = "1"
    seed_language_model(cache)

    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
        LanguageFilter,
    )
    from datatrove.pipeline.formatters import PIIFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter, ParquetWriter
    from datatrove.utils.hashing import HashConfig

    tasks = len(list(Path(texts).glob("*.jsonl")))
    config = MinhashConfig(
        hash_config=HashConfig(hash_fc="sha1", precision=64), num_buckets=14, hashes_per_bucket=8, n_grams=5
    )
    signatures, buckets, gone = (f"{out}/minhash/{name}" for name in ("signatures", "buckets", "remove_ids"))
    filters = [
        LanguageFilter(languages=["en"]),
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(),
    ]
    last = [MinhashDedupFilter(input_folder=gone), PIIFormatter(), ParquetWriter(f"{out}/final")]
    stages = {
        "filters": ([JsonlReader(texts), *filters, JsonlWriter(f"{out}/base")], tasks),
        "signatures": (
            [JsonlReader(f"{out}/base"), MinhashDedupSignature(output_folder=signatures, config=config)],
            tasks,
        ),
        "buckets": (
            [MinhashDedupBuckets(input_folder=signatures, output_folder=buckets, config=config)],
            config.num_buckets,
        ),
        "clusters": ([MinhashDedupCluster(input_folder=buckets, output_folder=gone, config=config)], 1),
        "last": ([JsonlReader(f"{out}/base"), *last], tasks),
    }
    for name, (pipeline, size) in stages.items():
        LocalPipelineExecutor(pipeline, tasks=size, workers=int(workers), logging_dir=f"{out}/logs/{name}").run()
    print(json.dumps({"kept": list(counts(Path(out, "logs/last")).values())[-1]["total"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
