"""The nearest neighbours of points, through a k-d tree."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.lattice.arguments import FloatArray, IntArray, finite_array, within

# The tree rounds distances in its own order. What it calls farther by less than this may be as near.
_ROUNDING = 1e-12


def nearest_neighbours(
    points: ArrayLike, k: int, queries: ArrayLike | None = None
) -> tuple[IntArray, FloatArray]:
    """The k points nearest to each query: their indices and Euclidean distances, (Q, k) each, nearest first.

    points: real (N, D), such as `spiral_position`; queries: real (Q, D). Without queries every point asks for the
    others, itself left out, and Q = N. Equally distant points come in ascending order of their index, at the end of
    the row too: which of them belong to the k is decided by the index. Distances are sqrt(sum (a - b)^2) in float64.

    A k-d tree (Bentley 1975; scipy.spatial.cKDTree): about N log N to build, log N a query in few dimensions.

    Raises TypeError unless k is an integer and points and queries hold real numbers; ValueError for points or queries
    that are not finite matrices of one width, and for k below 1 or above the number of points to choose from.
    """
    from scipy.spatial import cKDTree

    place = _matrix("points", points)
    asked = place if queries is None else _matrix("queries", queries)
    if asked.shape[1] != place.shape[1]:
        raise ValueError(f"queries must have {place.shape[1]} columns as points have, got {asked.shape[1]}")
    others = len(place) - (queries is None)
    k = within("k", k, 1, others, ", the number of points to choose from")

    # One more than wanted, beside the point itself: that one tells whether a tie runs over the end of the row.
    wanted = min(k + 1 + (queries is None), len(place))
    tree = cKDTree(place)
    rough, candidates = tree.query(asked, wanted)
    rough, candidates = (
        rough.reshape(len(asked), wanted),
        candidates.reshape(len(asked), wanted).astype(np.int64),
    )
    own = np.arange(len(place)) if queries is None else np.full(len(asked), -1)
    indices, distances = _nearest(place, asked, candidates, own, k)

    reach = distances[:, -1] * (1.0 + _ROUNDING)
    if wanted < len(place):
        for row in np.flatnonzero(rough[:, -1] <= reach):
            ball = np.array(tree.query_ball_point(asked[row], reach[row] * (1.0 + _ROUNDING)), np.int64)
            found = _nearest(place, asked[row : row + 1], ball[None], own[row : row + 1], k)
            indices[row], distances[row] = found[0][0], found[1][0]
    return indices, distances


def _nearest(
    place: FloatArray,
    asked: FloatArray,
    candidates: IntArray,
    own: IntArray,
    k: int,
) -> tuple[IntArray, FloatArray]:
    """The k best of each row of candidates, own one left out, by distance and then by index."""
    distances = np.sqrt(np.square(place[candidates] - asked[:, None]).sum(axis=-1))
    distances[candidates == own[:, None]] = np.inf
    order = np.lexsort((candidates, distances), axis=-1)[:, :k]
    return np.take_along_axis(candidates, order, -1), np.take_along_axis(distances, order, -1)


def _matrix(name: str, values: ArrayLike) -> FloatArray:
    array = finite_array(name, values)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} must have shape (number, dimensions), got {array.shape}")
    return array
