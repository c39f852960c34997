"""A cell that is run again begins again, and does not train twice: it closes the benches that it made before."""

from __future__ import annotations

import weakref
from typing import Protocol


class Closable(Protocol):
    """What a cell can hold."""

    def close(self) -> None:
        """Stops, and gives back what it holds."""
        ...


# Cell -> which execution of it made them, and the benches.
_cells: dict[str, tuple[str, weakref.WeakSet[Closable]]] = {}


def take_place(bench: Closable) -> None:
    """Notes the bench as one of the cell that runs; those that an earlier execution of the cell made are closed.

    Where nothing tells one cell from another, as in a script, nothing is closed.
    """
    cell, execution = running_cell()
    if not cell:
        return
    made_by, benches = _cells.get(cell, ("", weakref.WeakSet()))
    if made_by != execution:
        for before in list(benches):
            before.close()
        benches = weakref.WeakSet()
    benches.add(bench)
    _cells[cell] = execution, benches


def running_cell() -> tuple[str, str]:
    """The id of the cell that is being executed and that of its execution; each "" where nothing tells it."""
    from IPython import get_ipython

    shell = get_ipython()
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return "", ""
    request = kernel.get_parent("shell")
    cell = request.get("metadata", {}).get("cellId", "")
    return str(cell), str(request.get("header", {}).get("msg_id", ""))
