"""Builds `llmdata/native/*.c` into a library beside them; without a C compiler the package does without."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = ["-O3", "-std=gnu11", "-fPIC", "-shared", "-ffp-contract=off", "-Wall", "-Wextra"]


class NativeBuildHook(BuildHookInterface):
    """Only for wheels, of which the editable installation is one."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        folder = Path(self.root, "src/llmdata/native")
        library = folder / "library.so"
        if self.target_name != "wheel" or not build(sorted(folder.glob("*.c")), library):
            return
        build_data["artifacts"].append("src/llmdata/native/library.so")
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def build(sources: list[Path], library: Path) -> bool:
    """Whether `library` was made of `sources`, by the compiler that $CC names, or else `cc`."""
    partial = library.with_suffix(f".{os.getpid()}")
    command = [*shlex.split(os.environ.get("CC", "cc")), *FLAGS, "-o", str(partial), *map(str, sources)]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"llmdata: the C library was not built ({error}); NumPy will do its work, more slowly", file=sys.stderr)
        partial.unlink(missing_ok=True)
        library.unlink(missing_ok=True)  # of other sources
        return False
    partial.replace(library)
    return True
