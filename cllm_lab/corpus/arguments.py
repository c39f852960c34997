"""Checks of arguments that several files of this room share."""

import operator
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

TokenArray = NDArray[np.int32]

_INT32 = np.iinfo(np.int32)


def whole_number(name: str, value: int, minimum: int) -> int:
    """`value` as a plain int. Raises TypeError unless it is an integer, ValueError below `minimum`."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r} ({type(value).__name__})")
    number = operator.index(value)
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}")
    return number


def real_number(name: str, value: object) -> float:
    """`value` as a plain float. Raises TypeError unless it is a real number."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})")
    return float(value)


def token_array(name: str, values: ArrayLike, minimum_length: int = 0) -> TokenArray:
    """`values` as a one-dimensional int32 array; a view where it is one already.

    Raises TypeError unless the values are integers, ValueError for another number of dimensions, for
    values that int32 cannot hold and for fewer than `minimum_length` of them.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    if len(array) < minimum_length:
        raise ValueError(f"{name} must hold at least {minimum_length} tokens, got {len(array)}")
    if len(array) == 0:
        return np.empty(0, dtype=np.int32)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must hold integers, got dtype {array.dtype}")
    low, high = int(array.min()), int(array.max())
    if low < _INT32.min or high > _INT32.max:
        raise ValueError(f"{name} must fit into int32, got values from {low} to {high}")
    return array.astype(np.int32, copy=False)
