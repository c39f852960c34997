"""The two tables of parts: `reference` (NumPy, the mathematics line by line) and `fast` (BLAS and numba).

They are interchangeable. `fast` is loaded when it is first asked for, so that `reference` works where NumPy
is all there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cllm_lab.model.parts.reference_parts import TABLE as reference
from cllm_lab.model.parts.table import SLOTS, ModelParts, Part, PartEdit, PartsTable

if TYPE_CHECKING:
    from cllm_lab.model.parts.fast_parts import TABLE as fast

__all__ = ["SLOTS", "ModelParts", "Part", "PartEdit", "PartsTable", "by_name", "fast", "reference"]


def by_name(name: str) -> PartsTable:
    """The table that a checkpoint names. Raises ValueError for any other name."""
    if name not in ("reference", "fast"):
        raise ValueError(f"no parts table {name!r}; the tables are 'reference' and 'fast'")
    return reference if name == "reference" else __getattr__("fast")


def __getattr__(name: str) -> PartsTable:
    if name != "fast":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from cllm_lab.model.parts.fast_parts import TABLE
    except ModuleNotFoundError as missing:
        if missing.name != "numba":
            raise
        raise ModuleNotFoundError(
            "parts.fast needs numba, which is not installed; parts.reference works with NumPy alone",
            name="numba",
        ) from missing
    return TABLE
