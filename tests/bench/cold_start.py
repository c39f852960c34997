"""What a person waits for who starts Python anew: `python -m tests.bench.cold_start cllm_lab` prints the seconds."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.bench.summary import spread_of

CONTENDERS = {
    "cllm_lab": ("cllm_lab", "tests.bench.ours", "OurStep", {}),
    "PyTorch eager": ("torch", "tests.bench.torch_peer", "TorchPeer", {"compiled": False}),
}
KERNEL_CACHE = "NUMBA_CACHE_DIR"
PATIENCE_SECONDS = 600.0
_COMMAND = [sys.executable, "-m", "tests.bench.cold_start"]


def seconds_of(name: str) -> dict[str, float]:
    """Seconds of the import and, after it, of whatever else a first step at d=64 needs, in this very process."""
    library, module, maker, arguments = CONTENDERS[name]
    started = time.perf_counter()
    importlib.import_module(library)
    imported = time.perf_counter()
    if library == "torch":
        # The machine to copy is described by this library, which a PyTorch user would not wait for.
        from tests.bench.machines import SMALLEST

        SMALLEST.weights()
    ready = time.perf_counter()
    from tests.bench.machines import SMALLEST

    contender = getattr(importlib.import_module(module), maker)(SMALLEST, os.cpu_count() or 1, **arguments)
    contender.step()
    return {"import": imported - started, "first step": time.perf_counter() - ready}


def cold_starts(name: str, times: int) -> list[dict[str, object]]:
    """A row per state of the kernel cache and thing waited for, each from so many fresh processes.

    An empty cache is a new folder for each process; a warm one is the last of these, filled. PyTorch has none.
    Raises OSError or subprocess.SubprocessError where a process fails.
    """
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        caches = [{KERNEL_CACHE: str(Path(folder, f"cache {number}"))} for number in range(times)]
        states = (
            {"empty": caches, "warm": [caches[-1]] * times} if name == "cllm_lab" else {"none": [{}] * times}
        )
        for state, environments in states.items():
            found = [_in_a_fresh_process(name, variables) for variables in environments]
            for waited_for in found[0]:
                spread = spread_of([seconds[waited_for] for seconds in found])
                rows.append({"contender": name, "kernel_cache": state, "waited_for": waited_for, **spread})
    return rows


def _in_a_fresh_process(name: str, variables: Mapping[str, str]) -> dict[str, float]:
    done = subprocess.run(
        [*_COMMAND, name],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    print(json.dumps(seconds_of(sys.argv[1])))
