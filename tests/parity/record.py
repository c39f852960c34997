"""Writes what PyTorch makes of the ten steps: `python -m tests.parity.record`."""

from __future__ import annotations

import json
import os
from typing import Any

import torch

from tests.parity.torch_twin import train
from tests.ten_steps import FIXTURE, N_STEPS, RUNS


def record() -> dict[str, Any]:
    """The fixture, made anew: settings and PyTorch's answers in float64."""
    runs = [
        {
            "name": run.name,
            "seed": run.seed,
            "model": dict(run.model_settings),
            "train": dict(run.train_settings),
            "batches": run.batches().tolist(),
            **train(run, "float64").digest(),
        }
        for run in RUNS
    ]
    return {"torch": torch.__version__, "steps": N_STEPS, "dtype": "float64", "runs": runs}


def main() -> None:
    """Replaces the fixture."""
    unfinished = FIXTURE.with_suffix(f".{os.getpid()}")
    # One line per run keeps the file short and its changes readable.
    head = {key: value for key, value in record().items() if key != "runs"}
    runs = ",\n".join(json.dumps(run) for run in record()["runs"])
    unfinished.write_text(json.dumps(head)[:-1] + f', "runs": [\n{runs}\n]}}\n', encoding="utf-8")
    unfinished.replace(FIXTURE)


if __name__ == "__main__":
    main()
