"""Checks of arguments that the files of this room share, beside those of `cllm_lab.corpus.arguments`."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cllm_lab.corpus.arguments import real_number, whole_number

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def within(name: str, value: int, least: int, most: int, where: str = "") -> int:
    """`value` as a plain int; ``where`` follows the upper bound in the message.

    Raises TypeError unless it is an integer, ValueError below ``least`` or above ``most``.
    """
    number = whole_number(name, value, least)
    if number > most:
        raise ValueError(f"{name} must be at most {most}{where}, got {number}")
    return number


def not_negative(name: str, value: object) -> float:
    """`value` as a plain float. Raises TypeError unless it is a number, ValueError if not finite or below 0."""
    number = real_number(name, value)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value!r}")
    return number


def integers(name: str, values: ArrayLike) -> NDArray[Any]:
    """`values` as an array of an integer type, of dtype object where one of them needs more than 64 bits.

    Raises TypeError unless they are integers, ValueError for rows of unequal length.
    """
    array = _array(name, values)
    # NumPy makes floats of some lists of integers of 64 bits.
    if array.dtype.kind == "f" and array.size and not isinstance(values, (np.ndarray, np.generic)):
        as_given = np.array(values, dtype=object)
        array = as_given if _all(as_given, Integral) else array
    if array.size == 0:
        return np.empty(array.shape, np.int64)
    if not (_all(array, Integral) if array.dtype == object else array.dtype.kind in "iu"):
        raise TypeError(f"{name} must hold integers, got dtype {array.dtype}")
    return array


def integer_array(name: str, values: ArrayLike, minimum: int, maximum: int | None = None) -> IntArray:
    """`values` as int64 of their shape. Raises as `integers`, and ValueError outside the bounds or int64."""
    array = integers(name, values)
    if array.size == 0:
        return array
    low, high = int(array.min()), int(array.max())
    limits = np.iinfo(np.int64)
    least, most = max(minimum, limits.min), min(limits.max, limits.max if maximum is None else maximum)
    if low < least:
        raise ValueError(f"{name} must be at least {least}, got {low}")
    if high > most:
        raise ValueError(f"{name} must be at most {most}, got {high}")
    return array.astype(np.int64, copy=False)


def real_array(name: str, values: ArrayLike) -> NDArray[Any]:
    """`values` as an array, float32 where they are, otherwise float64.

    Raises TypeError unless they are real numbers, ValueError for rows of unequal length.
    """
    array = _array(name, values)
    if not (_all(array, Real) if array.dtype == object else array.dtype.kind in "iuf"):
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    return array if array.dtype == np.float32 else array.astype(np.float64, copy=False)


def finite_array(name: str, values: ArrayLike) -> FloatArray:
    """`values` as float64. Raises as `real_array`, and ValueError for NaN or infinity."""
    array: FloatArray = real_array(name, values).astype(np.float64, copy=False)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity among its entries")
    return array


def require_broadcast(**shapes: tuple[int, ...]) -> None:
    """Raises ValueError, naming all of them, unless the shapes broadcast."""
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError:
        *most, last = shapes
        raise ValueError(
            f"{', '.join(most)} and {last} must have shapes that broadcast; "
            f"got {', '.join(map(str, shapes.values()))}"
        ) from None


def _array(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must be an array; its rows have unequal lengths") from None


def _all(array: NDArray[Any], kind: type) -> bool:
    return all(isinstance(value, kind) and not isinstance(value, (bool, np.bool_)) for value in array.flat)
