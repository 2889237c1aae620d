"""What `llmdata estimate` predicts beside what the run then takes, for one recipe and input.

python benchmarks/estimate.py RECIPE --input PATTERN [--share 1%] [--least 8MB] [--set KEY=VALUE …]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from llmdata.pipeline.recipe import find_recipe


def tree_memory(process: psutil.Process) -> int:
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.Error:
            continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("--input", required=True)
    parser.add_argument("--share", default="1%")
    parser.add_argument("--least", default="8MB")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    llmdata = [sys.executable, "-m", "llmdata"]
    settings = [part for setting in arguments.set for part in ("--set", setting)]
    with tempfile.TemporaryDirectory() as folder:
        recipe = f"{folder}/recipe.yaml"
        text = find_recipe(arguments.recipe).read_text()
        Path(recipe).write_text(f"{text}\ntokenizer: {{}}\ntokenize: {{val: none}}\n")
        asked = ["--input", arguments.input, "--share", arguments.share, "--least", arguments.least, "--json"]
        said = subprocess.run(
            [*llmdata, "estimate", recipe, *asked, *settings],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        predicted = json.loads(said.stdout.splitlines()[-1])
        began, peak = time.monotonic(), 0
        inputs = f"clean.input=[{json.dumps(arguments.input)}]"
        process = psutil.Popen(
            [*llmdata, "run", recipe, "--set", inputs, "--workdir", f"{folder}/run", *settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None:
            peak = max(peak, tree_memory(process))
            time.sleep(0.2)
        assert process.returncode == 0
        seconds = time.monotonic() - began
        run = Path(folder, "run")
        tasks = [json.loads(path.read_text()) for path in run.glob("*/.llmdata/tasks/*.json")]
        funnel = json.loads((run / "clean/funnel.json").read_text())
        index = json.loads((run / "tokens/index.json").read_text())
        measured = {
            "seconds": seconds,
            "cpu_seconds": sum(task["cost"].get("cpu_seconds", 0.0) for task in tasks),
            "memory": peak,
            "disk": sum(p.stat().st_size for p in run.rglob("*") if p.is_file() and ".llmdata" not in p.parts),
            "documents": funnel["in"],
            "kept": funnel["kept"],
            "tokens": sum(split["tokens"] for split in index["splits"].values()),
        }
    print(f"sample {predicted['share']:.1%} of {predicted['input_bytes'] / 1e6:.1f} MB, run in "
          f"{predicted['sample_seconds']:.0f} s")  # fmt: skip
    for name, value in measured.items():
        error = predicted[name] / value - 1
        print(f"{name:12} predicted {predicted[name]:>16,.1f}  measured {value:>16,.1f}  {error:+.1%}")


if __name__ == "__main__":
    main()
