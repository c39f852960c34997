"""The results of a run: what was measured, on what, with what."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cllm_lab.files import replacing
from tests.bench.measure import Bench, Plan
from tests.bench.workers import OURS, PRODUCTS, all_threads

PACKAGES = ("cllm_lab", "numpy", "numba", "scipy", "threadpoolctl", "torch", "jax", "jaxlib", "mkl")
# Figures that document 003 gives for one batch of its machine, seconds from and to: quoted, not measured.
CLAIMS = (
    {"phase": "forward", "least": 0.010, "most": 0.020},
    {"phase": "backward", "least": 0.015, "most": 0.025},
)


def results_of(bench: Bench, plan: Plan) -> dict[str, Any]:
    """Everything that is stored of a run. Times are in seconds, memory in bytes; no path and no host is named."""
    return {
        "name": "benchmark",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": this_machine(),
        "versions": versions(PACKAGES),
        "reference": OURS,
        "bare_products": PRODUCTS,
        "threads": list(plan.threads),
        "turns": {"headline": asdict(plan.turns), "curves": asdict(plan.curve_turns)},
        "headline": [machine.name for machine in plan.headline],
        "curves": {size: [machine.name for machine in machines] for size, machines in plan.curves.items()},
        "claims": [{"source": "document 003", **claim} for claim in CLAIMS],
        "blas": bench.blas,
        "steps": bench.steps,
        "phases": bench.phases,
        "busy": bench.busy,
        "cold_start": bench.cold_start,
        "not_run": bench.not_run,
    }


def store(results: dict[str, Any], path: Path) -> None:
    """Writes the results as JSON, complete or not at all. Raises ValueError for a number that is not finite."""
    text = json.dumps(results, indent=1, allow_nan=False)
    with replacing(path) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")


def this_machine() -> dict[str, Any]:
    """Processor, how many of it, memory in bytes (None where the system does not say), system and Python."""
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": all_threads(),
        "memory_bytes": _memory(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The installed versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    """The processor's name as Linux tells it, or as Python does elsewhere."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _memory() -> int | None:
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
