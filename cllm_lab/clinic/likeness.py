"""How alike a set of vectors is: whether embeddings or hidden states have become one and the same, or short."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, repr=False)
class Likeness:
    """``length``: mean Euclidean norm; ``cosine``: mean over all pairs of different vectors; ``n`` vectors."""

    length: float
    cosine: float
    n: int

    def __repr__(self) -> str:
        return f"{self.n} vectors: mean length {self.length:.2f}, mean cosine of two {self.cosine:.2f}"


def likeness(vectors: ArrayLike) -> Likeness:
    """Mean length, and mean cosine over all pairs, of vectors (..., n_dimensions).

        cosine = (|sum_i u_i|^2 - n) / (n (n - 1)),   u_i = x_i / |x_i|

    1: all point one way; 0: no common direction. Raises ValueError for fewer than two vectors, for one that is 0
    and for numbers that are not finite.
    """
    given = np.asarray(vectors, np.float64)
    if given.ndim < 2:
        raise ValueError(f"vectors must have shape (..., n_dimensions); got shape {given.shape}")
    rows = given.reshape(-1, given.shape[-1]) if given.size else np.empty((0, 1))
    n = len(rows)
    if n < 2:
        raise ValueError(f"vectors must hold at least two vectors; got {n}")
    if not np.isfinite(rows).all():
        raise ValueError("vectors holds numbers that are not finite; there is no direction to compare")
    lengths = np.linalg.norm(rows, axis=1)
    if not lengths.all():
        raise ValueError(
            f"vector {int(np.argmin(lengths))} is 0 and has no direction; leave such vectors out"
        )
    total = (rows / lengths[:, None]).sum(axis=0)
    return Likeness(float(lengths.mean()), float((total @ total - n) / (n * (n - 1))), n)
