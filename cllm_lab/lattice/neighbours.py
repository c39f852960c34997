"""The nearest neighbours of points, through a k-d tree."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cllm_lab.corpus.arguments import whole_number

# The tree rounds distances in its own order. What it calls farther by less than this may be as near.
_ROUNDING = 1e-12


def nearest_neighbours(
    points: ArrayLike, k: int, queries: ArrayLike | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k points nearest to each query: their indices and Euclidean distances, (Q, k) each, nearest first.

    points: real (N, D), such as `spiral_position`; queries: real (Q, D). Without queries every point asks for the
    others, itself left out, and Q = N. Equally distant points come in ascending order of their index, at the end of
    the row too: which of them belong to the k is decided by the index. Distances are sqrt(sum (a - b)^2) in float64.

    A k-d tree (Bentley 1975; scipy.spatial.cKDTree): about N log N to build, log N a query in few dimensions.

    Raises TypeError unless k is an integer; ValueError for points or queries that are not finite real matrices of one
    width, and for k below 1 or above the number of points there are to choose from.
    """
    from scipy.spatial import cKDTree

    place = _matrix("points", points)
    asked = place if queries is None else _matrix("queries", queries)
    if asked.shape[1] != place.shape[1]:
        raise ValueError(f"queries must have {place.shape[1]} columns as points have, got {asked.shape[1]}")
    others = len(place) - (queries is None)
    k = whole_number("k", k, 1)
    if k > others:
        raise ValueError(f"k must be at most {others}, the number of points to choose from; got {k}")

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
    place: NDArray[np.float64],
    asked: NDArray[np.float64],
    candidates: NDArray[np.int64],
    own: NDArray[np.int64],
    k: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k best of each row of candidates, own one left out, by distance and then by index."""
    distances = np.sqrt(np.square(place[candidates] - asked[:, None]).sum(axis=-1))
    distances[candidates == own[:, None]] = np.inf
    order = np.lexsort((candidates, distances), axis=-1)[:, :k]
    return np.take_along_axis(candidates, order, -1), np.take_along_axis(distances, order, -1)


def _matrix(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must hold real numbers, got dtype {array.dtype}")
    array = array.astype(np.float64, copy=False)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} must have shape (number, dimensions), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array
