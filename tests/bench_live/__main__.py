"""`python -m tests.bench_live`: measure, print, store. Progress goes to standard error."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cllm_lab.resources import data_path
from tests.bench_live import measure
from tests.bench_live.browser import NoBrowserError
from tests.bench_live.measure import FULL, QUICK, Plan
from tests.bench_live.opening import KINDS, in_fresh_processes
from tests.bench_live.page_memory import page_memory
from tests.bench_live.results import about, noted, promises, store
from tests.bench_live.text_fields import text_fields

STORED = "live_bench.json"
# Where `make test-browser` installs it.
OLDEST_KERNEL = Path(sys.prefix) / "oldest-ipykernel"


def main(arguments: list[str] | None = None) -> None:
    """Measures what was asked for, stores it, and prints what the bench promises beside what was found."""
    asked = _asked(arguments)
    # What is compiled once for all runs belongs to none of them.
    subprocess.run([sys.executable, "-m", "cllm_lab", "compile"], check=True, stdout=subprocess.DEVNULL)
    results = measured(QUICK if asked.quick else FULL)
    if asked.save is not None:
        store(results, asked.save)
    print("\n".join(map(str, promises(results))))
    for name, reason in results["not_measured"].items():
        print(f"{name}: not measured: {reason}")


def measured(plan: Plan) -> dict[str, Any]:
    """All measurements, one after the other; what could not be had is in ``not_measured`` with its reason."""
    results: dict[str, Any] = {**about(), "documents_size": [], "not_measured": {}}
    results["opening"] = {
        kind: _reported(f"opening: {kind}", partial(in_fresh_processes, kind, plan.starts)) for kind in KINDS
    }
    results["first_curves"] = _reported("to the first curve", partial(measure.first_curves, plan))
    overlays: list[Path | None] = [None]
    if OLDEST_KERNEL.is_dir():
        overlays.append(OLDEST_KERNEL)
    else:
        results["not_measured"]["oldest ipykernel"] = "it is not installed; make test-browser does so"
    for overlay in overlays:
        name = "oldest" if overlay else "newest"
        results["documents_size"].append(
            _reported(f"documents' size, {name} ipykernel", partial(measure.documents_size, plan, overlay))
        )
    results["drawing"] = _reported("drawing", partial(measure.drawing, plan))
    results["memory"] = _reported("memory", partial(measure.memory, plan))
    results["text_fields"] = results["page"] = None
    try:
        results["text_fields"] = _reported("text fields", text_fields)
        results["page"] = _reported("the page's memory", partial(page_memory, plan))
    except NoBrowserError as missing:
        results["not_measured"]["text fields, the page's memory"] = str(missing)
    return results


def _reported(what: str, run: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)
    return noted(run)


def _asked(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench_live",
        allow_abbrev=False,
        description="Measures what the live bench costs and how soon it answers, in real kernels.",
    )
    parser.add_argument("--quick", action="store_true", help="everything a few times only; saves nothing")
    parser.add_argument("--save", type=Path, metavar="PATH", help=f"JSON to write (full run: data/{STORED})")
    asked = parser.parse_args(arguments)
    if not asked.quick:
        asked.save = asked.save or data_path("README.md").parent / STORED
    if asked.save is not None and not asked.save.parent.is_dir():
        parser.error(f"there is no folder {asked.save.parent} to write {asked.save.name} to")
    return asked


if __name__ == "__main__":
    main()
