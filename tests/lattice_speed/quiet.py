"""Whether a machine was quiet enough for its times to be kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class BusyMachineError(RuntimeError):
    """More processes wanted a processor than there are."""


def largest_load(results: Mapping[str, Any]) -> float:
    """The largest load before or after any part of the results of `measure.measured`."""
    rows = (row for part in results.values() if isinstance(part, list) for row in part)
    return float(max(load for row in rows for load in row["load"].values()))


def require_quiet(load: float, cores: int) -> None:
    """Raises BusyMachineError where the load, processes that want a processor, is above the number of processors."""
    if load > cores:
        raise BusyMachineError(
            f"nothing is stored: the load of this machine is {load:.1f} on {cores} cores, so that what is timed shares "
            "caches and memory with other processes. End them, wait a minute, for the load is a mean over one, and "
            "measure again; --quick measures at any load and stores nothing."
        )
