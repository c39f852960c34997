"""A gradient measured from the values of a function alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.model.parameters import Array

STEP = 1e-5


def central_differences(function: Callable[[Array], float], x: ArrayLike, step: float = STEP) -> Array:
    """g[i] = (f(x + h e_i) - f(x - h e_i)) / 2h for every number of x, in float64, in the shape of x.

    ``function``: takes an array in the shape of x, which it may keep, and returns one number. ``step``: h.
    The error is about f''' h^2 / 6 + u |f| / h with u the rounding unit (Abramowitz & Stegun 1964, 25.3.21
    for the first term); 1e-5 is near the least of it for values of order 1.

    Raises ValueError for a step that is not above 0 or a value of the function that is not one number.
    """
    if not step > 0.0:
        raise ValueError(f"step must be above 0; got {step!r}")
    home = np.array(x, dtype=np.float64)
    gradient = np.empty_like(home)
    for place in np.ndindex(home.shape):
        values = []
        for moved_by in (step, -step):
            moved = home.copy()
            moved[place] += moved_by
            value = np.asarray(function(moved), dtype=np.float64)
            if value.ndim:
                raise ValueError(f"function must return one number; got an array of shape {value.shape}")
            values.append(float(value))
        gradient[place] = (values[0] - values[1]) / (2.0 * step)
    return gradient
