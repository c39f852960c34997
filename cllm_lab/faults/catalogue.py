"""The catalogue: every fault by its id."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from cllm_lab.faults import attention, data, gradients, initialisation, instruments, losses, settings, wiring
from cllm_lab.faults.fault import Fault

_ROOMS = (attention, wiring, losses, gradients, initialisation, settings, data, instruments)
_CATALOGUE = MappingProxyType({fault.id: fault for room in _ROOMS for fault in room.FAULTS})


def catalogue() -> Mapping[str, Fault]:
    """Every fault by its id, in the order of the documents' subjects. The mapping cannot be changed."""
    return _CATALOGUE


def resolve(faults: Iterable[Any]) -> tuple[Any, ...]:
    """The faults with every id replaced by the catalogue's fault; objects stay as they are.

    Raises ValueError for an id that the catalogue does not hold, naming the nearest ones.
    """
    return tuple(_find(fault) if isinstance(fault, str) else fault for fault in faults)


def _find(name: str) -> Fault:
    if name in _CATALOGUE:
        return _CATALOGUE[name]
    near = difflib.get_close_matches(name, _CATALOGUE, n=3, cutoff=0.4)
    meant = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise ValueError(f"no fault {name!r}; {meant}lab.faults.catalogue() lists them all")
