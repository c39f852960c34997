"""One bench for each cell: to run a cell again is to begin again, not to train twice."""

from __future__ import annotations

import weakref
from typing import Protocol


class Closable(Protocol):
    """What a cell can hold."""

    def close(self) -> None:
        """Stops, and gives back what it holds."""
        ...


_benches: weakref.WeakValueDictionary[str, Closable] = weakref.WeakValueDictionary()


def take_place(bench: Closable) -> None:
    """Makes this the bench of the cell that runs; the one that the cell had before is closed."""
    cell = running_cell()
    before = _benches.get(cell)
    if before is not None:
        before.close()
    _benches[cell] = bench


def running_cell() -> str:
    """The id of the cell that is being executed; "" where nothing tells, as in a script."""
    from IPython import get_ipython

    shell = get_ipython()
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return ""
    return str(kernel.get_parent("shell").get("metadata", {}).get("cellId", ""))
