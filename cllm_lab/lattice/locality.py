"""Orders of the vocabulary's rows: which row of the embedding a token has, and nothing else.

An order is a permutation ``order`` (n,): token i moves to row order[i]. The stream of tokens keeps its sequence. With
the rows moved and the tokens renumbered alike, a machine computes what it did: the lookup finds the same rows, and the
sums over the vocabulary have the same terms. What can change is how near each other in memory the rows are that follow
each other in a text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cllm_lab.lattice.arguments import IntArray, integer_array, within
from cllm_lab.lattice.spirals import spiral_angle, spiral_position, ulam_coordinates
from cllm_lab.streams import stream

MOST_ROWS = 2**31 - 1
# First index of stream(seed, "lattice", ...): 0 and 1 are those of token_features.py.
_ORDERS = 2


def vocabulary_order(n: int, by: str = "radius", seed: int | None = None) -> IntArray:
    """The new row of each of n token ids, a permutation, int64 (n,); ``by`` is one of `VOCABULARY_ORDERS`:

    - "radius": by the distance from the middle of the spiral, r = sqrt(id). That rises with the id, so that this order
      is the identity: to sort by the distance is to leave everything as it is.
    - "angle": by `spiral_angle`, from -pi on. The golden angle scatters neighbours as evenly as can be.
    - "square": the rows of Ulam's square one after the other, id + 1 being the number on it: by y, then by x.
    - "curve": along Hilbert's curve (1891) through x and y of `spiral_position`, which passes near places soon after
      each other: of these orders the one that keeps the plane's neighbourhoods best.
    - "random": a permutation drawn from ``seed``, the control.

    Raises TypeError unless n is an integer, ValueError outside [1, `MOST_ROWS`], for an unknown order, and unless
    "random" alone has a seed.
    """
    count = within("n", n, 1, MOST_ROWS)
    if by not in VOCABULARY_ORDERS:
        raise ValueError(f"by must be one of {', '.join(VOCABULARY_ORDERS)}; got {by!r}")
    if (by == "random") != (seed is not None):
        raise ValueError(f"seed belongs to by='random', which needs one; got by={by!r}, seed={seed!r}")
    if seed is not None:
        return stream(seed, "lattice", _ORDERS).permutation(count)
    return _rows_of(_SORTED[by](np.arange(count)))


def frequency_order(counts: ArrayLike) -> IntArray:
    """The new row of each id where the most frequent comes first, equal ones in the order of their ids; int64 (V,).

    ``counts`` (V,): how often each id stands in the text. What frequent words share is then the same few rows.

    Raises TypeError unless they are integers, ValueError for negative ones and other than one dimension.
    """
    frequencies = integer_array("counts", counts, 0)
    if frequencies.ndim != 1 or not frequencies.size:
        raise ValueError(f"counts must have shape (vocabulary,), got {frequencies.shape}")
    return _rows_of(np.argsort(-frequencies, kind="stable"))


def renumbered(tokens: ArrayLike, order: ArrayLike) -> IntArray:
    """The same text by the new rows, order[tokens]: int64 of the shape of ``tokens``, in its own sequence.

    Raises TypeError unless both hold integers, ValueError for an order that is no permutation and for tokens that it
    has no row for.
    """
    rows = _permutation(order)
    return rows[integer_array("tokens", tokens, 0, rows.size - 1)]


def moved_rows(table: ArrayLike, order: ArrayLike) -> NDArray[Any]:
    """A copy of ``table`` (V, ...) whose row order[i] is row i of the old one, in its dtype.

    Raises TypeError unless ``order`` holds integers, ValueError for one that is no permutation of the table's rows.
    """
    old: NDArray[Any] = np.asarray(table)
    rows = _permutation(order)
    if old.ndim == 0 or len(old) != rows.size:
        raise ValueError(
            f"order must have an entry for each row of table; got {rows.size} for shape {old.shape}"
        )
    new = np.empty_like(old)
    new[rows] = old
    return new


def _by_radius(ids: IntArray) -> IntArray:
    place = spiral_position(ids)
    # x² + y² is id but for rounding, which is far below the distance of 1 between two of them.
    return np.argsort(place[:, 0] ** 2 + place[:, 1] ** 2, kind="stable")


def _by_angle(ids: IntArray) -> IntArray:
    return np.argsort(spiral_angle(ids), kind="stable")


def _by_square(ids: IntArray) -> IntArray:
    x, y = ulam_coordinates(ids + 1)
    return np.lexsort((x, y))


def _by_curve(ids: IntArray) -> IntArray:
    place = spiral_position(ids)[:, :2]
    # The places are a unit of length and more apart, so that two cells to the unit tell them from each other.
    bits = int(np.ceil(2.0 * np.abs(place).max() + 1.0)).bit_length() + 1
    cells = np.rint(2.0 * place).astype(np.int64) + 2 ** (bits - 1)
    return np.argsort(_along_hilbert(cells[:, 0], cells[:, 1], bits), kind="stable")


_SORTED: Mapping[str, Callable[[IntArray], IntArray]] = MappingProxyType(
    {"radius": _by_radius, "angle": _by_angle, "square": _by_square, "curve": _by_curve}
)
VOCABULARY_ORDERS = (*_SORTED, "random")


def _along_hilbert(x: IntArray, y: IntArray, bits: int) -> IntArray:
    """How far along Hilbert's curve the cells (x, y) of a square of 2^bits by 2^bits come; int64, from 0."""
    distance = np.zeros(x.shape, np.int64)
    for bit in reversed(range(bits)):
        side = 1 << bit
        right, up = x >> bit & 1, y >> bit & 1
        distance += side * side * (3 * right ^ up)
        x, y = x & side - 1, y & side - 1
        # The lower quarters hold the curve with its axes exchanged, the right one of them upside down as well.
        upside_down = (right == 1) & (up == 0)
        x, y = np.where(upside_down, side - 1 - x, x), np.where(upside_down, side - 1 - y, y)
        x, y = np.where(up == 0, y, x), np.where(up == 0, x, y)
    return distance


def _rows_of(ids: IntArray) -> IntArray:
    """The row of each id, from the id in each row."""
    rows = np.empty(ids.size, np.int64)
    rows[ids] = np.arange(ids.size)
    return rows


def _permutation(order: ArrayLike) -> IntArray:
    rows = integer_array("order", order, 0)
    if rows.ndim != 1 or not rows.size:
        raise ValueError(f"order must have shape (vocabulary,), not empty; got {rows.shape}")
    if not np.array_equal(np.sort(rows), np.arange(rows.size)):
        raise ValueError(f"order must be a permutation of 0 to {rows.size - 1}")
    return rows
