"""``python -m cllm_lab.trials --preset quick|full``: the lattice report, here or on a Dask cluster.

Each run is kept in a folder as it comes, so that an interrupted report goes on where it stood.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cllm_lab.model.config import ConfigError
from cllm_lab.trials.backends import BACKENDS, BackendError
from cllm_lab.trials.lattice_report import PRESETS, lattice_report, shipped_file


def main(arguments: Sequence[str]) -> None:
    """Runs a preset and stores its result: the full one where the package keeps its data, others beside their runs."""
    parser = argparse.ArgumentParser(prog="python -m cllm_lab.trials", description="The lattice, measured.")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="quick")
    parser.add_argument("--backend", choices=BACKENDS, default="loky")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a running Dask scheduler, for --backend dask"
    )
    parser.add_argument("--jobs", type=int, default=-1, help="processes of this machine; -1: one a core")
    parser.add_argument(
        "--folder", type=Path, help="where single runs are kept (build/lattice_report/PRESET)"
    )
    parser.add_argument("--output", type=Path, help="the file for the result")
    chosen = parser.parse_args(arguments)
    folder = chosen.folder or Path("build", "lattice_report", chosen.preset)
    output = chosen.output or (shipped_file() if chosen.preset == "full" else folder / "report.json")
    try:
        found = lattice_report(
            chosen.preset,
            backend=chosen.backend,
            scheduler=chosen.scheduler,
            n_jobs=chosen.jobs,
            folder=folder,
            report=lambda line: print(line, flush=True),
        )
    except (ConfigError, BackendError) as error:
        raise SystemExit(str(error)) from error
    found.to_json(output)
    columns = ["corpus", "arm", "effect", "low", "high", "p_corrected", "verdict"]
    print(found.table[columns].to_string(index=False, float_format="{:.4f}".format))
    print(output)


if __name__ == "__main__":
    main(sys.argv[1:])
