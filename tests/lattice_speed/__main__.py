"""`python -m tests.lattice_speed`: measure, print, store, draw. Progress goes to standard error."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cllm_lab.provenance import provenance
from cllm_lab.resources import data_path
from tests.bench_live.results import store
from tests.lattice_speed.measure import FULL, QUICK, measured
from tests.lattice_speed.picture import speed_picture
from tests.lattice_speed.quiet import BusyMachineError, require_quiet

STORED = "lattice_speed.json"


def main(arguments: list[str] | None = None) -> None:
    """Measures what was asked for, says what was found, stores and draws it.

    A full run on a machine that is not quiet, when it begins or later, ends without storing anything.
    """
    asked = _asked(arguments)
    cores = provenance()["machine"]["cores"]
    if not asked.quick:
        _end_unless_quiet(os.getloadavg()[0], cores)
    results = measured(QUICK if asked.quick else FULL)
    picture = speed_picture(results)
    print(picture.words)
    if not asked.quick:
        _end_unless_quiet(results["load"], cores)
    if asked.save is not None:
        store(results, asked.save)
    if asked.picture is not None:
        picture.save(asked.picture)


def _end_unless_quiet(load: float, cores: int) -> None:
    try:
        require_quiet(load, cores)
    except BusyMachineError as busy:
        raise SystemExit(f"python -m tests.lattice_speed: {busy}") from busy


def _asked(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lattice_speed",
        allow_abbrev=False,
        description="Measures what similarity by primes, an order of the vocabulary and LLL do for speed.",
    )
    parser.add_argument("--quick", action="store_true", help="everything a few times only; saves nothing")
    parser.add_argument("--save", type=Path, metavar="PATH", help=f"JSON to write (full run: data/{STORED})")
    parser.add_argument(
        "--picture", type=Path, metavar="PATH", help="PNG to draw (full run: beside the JSON)"
    )
    asked = parser.parse_args(arguments)
    if not asked.quick:
        asked.save = asked.save or data_path("README.md").parent / STORED
        asked.picture = asked.picture or asked.save.with_suffix(".png")
    for path in (asked.save, asked.picture):
        if path is not None and not path.parent.is_dir():
            parser.error(f"there is no folder {path.parent} to write {path.name} to")
    return asked


if __name__ == "__main__":
    main()
