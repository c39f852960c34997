"""Where the measurements lie: data/claims.json, written by the program, read by the judges."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cllm_lab.files import replacing
from cllm_lab.ledger.claim import Measurements
from cllm_lab.ledger.experiments import EXPERIMENTS
from cllm_lab.ledger.machines import SEED
from cllm_lab.provenance import provenance
from cllm_lab.resources import data_path

FILE = "claims.json"


def measurements() -> Mapping[str, Measurements]:
    """Experiment -> its stored figures. Raises FileNotFoundError where none are shipped."""
    return json.loads(data_path(FILE).read_text(encoding="utf-8"))["measurements"]


def measure(names: Iterable[str], report: Callable[[str], object] = print) -> dict[str, dict[str, Any]]:
    """Runs the named experiments, one after the other.

    Raises ValueError for a name that is none of `EXPERIMENTS`, naming those there are.
    """
    chosen = list(names)
    unknown = [name for name in chosen if name not in EXPERIMENTS]
    if unknown:
        raise ValueError(f"no experiment called {', '.join(unknown)}; there is {', '.join(EXPERIMENTS)}")
    found = {}
    for name in chosen:
        started = time.perf_counter()
        found[name] = EXPERIMENTS[name].run()
        report(f"{name}: {time.perf_counter() - started:.1f} s")
    return found


def write(found: Mapping[str, Measurements], folder: Path) -> Path:
    """Stores measurements atomically, with the seed, the machine and the versions.

    Raises ValueError for a figure that is not finite, which JSON has no word for.
    """
    content = {
        "seed": SEED,
        **provenance(),
        "measurements": {name: found[name] for name in EXPERIMENTS if name in found},
    }
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    target = folder / FILE
    with replacing(target) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return target
