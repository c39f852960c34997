"""What a run found, as it is stored, and whether it holds what the bench promises."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

from cllm_lab.files import replacing
from cllm_lab.provenance import provenance

PACKAGES = ("ipykernel", "ipywidgets", "jupyter_client")
Results = Mapping[str, Any]


def noted(measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """What a measurement gives, with the load of the machine before and after, and the seconds that it took.

    The load is the number of processes that want a processor, averaged over a minute.
    """
    began, before = time.perf_counter(), os.getloadavg()[0]
    found = measure()
    load = {"before": before, "after": os.getloadavg()[0]}
    return {**found, "load": load, "measured_in": time.perf_counter() - began}


def about() -> dict[str, Any]:
    """Date, machine and versions."""
    made = provenance()
    return {
        "name": "live_bench",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": made["machine"],
        "versions": {**made["versions"], **{package: version(package) for package in PACKAGES}},
    }


def store(results: Results, path: Path) -> None:
    """Writes the results as JSON, complete or not at all. Raises ValueError for a number that is not finite."""
    text = json.dumps(results, indent=1, allow_nan=False)
    with replacing(path) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Promise:
    """``what`` was promised, the ``limit`` of it, and the worst that was ``found``; ``at_least``: more is better."""

    what: str
    found: float
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the figure keeps to its limit."""
        return self.found >= self.limit if self.at_least else self.found < self.limit

    def __str__(self) -> str:
        sign, judged = (
            ("at least" if self.at_least else "under"),
            ("holds" if self.holds else "DOES NOT HOLD"),
        )
        return f"{self.what}: {self.found:.4g}, {sign} {self.limit:g}: {judged}"


def promises(results: Results) -> list[Promise]:
    """Everything that the bench promises, beside what was found: of answers and halts the slowest of all kernels."""
    kernels = results["documents_size"]
    stops = [stop for each in kernels for stop in each["stops"]]
    left = [threads["ours"] for each in kernels for threads in each["threads"]["after_stop"]]
    early = [each["threads"]["before_start"] for each in kernels]
    drawing, memory = results["drawing"], results["memory"]
    growth = memory["growth"] / memory["updates"] * 10_000 / 1e6
    page = results["page"]
    in_browser = (
        []
        if page is None
        else [
            Promise(
                "page's memory, MB in 10,000 updates", page["growth"] / page["updates"] * 10_000 / 1e6, 30.0
            )
        ]
    )
    return [
        Promise("Stop, seconds beyond the step", max(stop["beyond_the_step"] for stop in stops), 0.25),
        Promise("1 + 1 while training, seconds", max(max(each["answers"]) for each in kernels), 0.5),
        Promise("a button while training, seconds", max(max(each["presses"]) for each in kernels), 0.5),
        Promise("threads of ours before Start", max(len(each["ours"]) for each in early), 1),
        Promise("compiler loaded before Start", max(int(each["numba_imported"]) for each in early), 1),
        Promise("threads of ours after Stop", max(len(names) for names in left), 1),
        Promise("share of the steps left, drawing", drawing["share_of_alone"], 0.8, at_least=True),
        Promise("drawings a second", fmean(drawing["drawings"]), 5.0, at_least=True),
        Promise("kernel's memory, MB in 10,000 updates", growth, 20.0),
        *in_browser,
    ]
