"""From where on two numbers are the same, to the eye and to the words of a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

# Losses, in nats, nearer to one another than this are one level.
SAME_LEVEL = 0.01
ROW_SUM_TOLERANCE = 1e-4


def rows_sum_to_1(weights: ArrayLike) -> bool:
    """Whether the rows of attention weights (T, T) all sum to 1, as far as float32 can tell."""
    return bool(np.allclose(np.asarray(weights).sum(axis=-1), 1.0, atol=ROW_SUM_TOLERANCE))
