"""A basis of a lattice in the plane before and after reduction."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Polygon
from numpy.typing import ArrayLike, NDArray

from cllm_lab.lattice.reduction import (
    lattice_determinant,
    lll_reduce_with_transform,
    log_orthogonality_defect,
)
from cllm_lab.views.number_kinds import plane, points
from cllm_lab.views.picture import COLOURS, GROUND, Picture, drawing

MOST_POINTS = 4_000
ROOM = 1.15

Basis = NDArray[Any]


def basis_reduction(basis: ArrayLike) -> Picture:
    """The lattice of two rows in the plane, with their cell, and with that of the LLL-reduced basis beside it.

    ``basis``: (2, 2), rows as for `lattice.lll_reduce`. Raises ValueError for another shape, for vectors so long and
    cells so small that more than `MOST_POINTS` points would be in the picture, and as `lattice.lll_reduce`.
    """
    given = np.asarray(basis)
    if given.shape != (2, 2):
        raise ValueError(f"basis must have shape (2, 2), to be drawn in the plane; got {given.shape}")
    found = lll_reduce_with_transform(given)
    centre, half = _window(given, found.basis)
    cell = float(lattice_determinant(given))
    if (count := (2.0 * half) ** 2 / cell) > MOST_POINTS:
        raise ValueError(f"basis spans too fine a lattice to be drawn: {count:.0f} points in the picture")
    lattice = _points(found.basis, centre, half)
    words = []
    with drawing(9.0, 4.7) as picture:
        for number, (name, rows) in enumerate({"given": given, "reduced": found.basis}.items(), start=1):
            axes = picture.add_subplot(1, 2, number)
            points(axes, lattice, s=12.0, facecolor="0.6", edgecolor="none")
            _draw(axes, rows)
            plane(axes, half, *centre)
            axes.set_title(name, loc="left")
            lengths = np.linalg.norm(rows.astype(float), axis=1)
            cosine = abs(float(rows[0].astype(float) @ rows[1].astype(float))) / lengths.prod()
            words.append(
                f"{name}: lengths {lengths[0]:.2f} and {lengths[1]:.2f}, at {math.degrees(math.acos(cosine)):.0f} "
                f"degrees, cell {lattice_determinant(rows):g}, orthogonality defect "
                f"{math.exp(log_orthogonality_defect(rows)):.2f}"
            )
        picture.tight_layout()
    picture.words = f"{'; '.join(words)}; swaps: {found.swaps}."
    return picture


def _window(*bases: Basis) -> tuple[NDArray[np.float64], float]:
    """The middle and half the side of a square that holds the vectors and cells of all bases."""
    corners = np.concatenate([_cell(basis) for basis in bases])
    low, high = corners.min(axis=0), corners.max(axis=0)
    return (low + high) / 2.0, ROOM * float((high - low).max()) / 2.0


def _cell(basis: Basis) -> NDArray[np.float64]:
    first, second = basis.astype(float)
    return np.stack([np.zeros(2), first, first + second, second])


def _points(basis: Basis, centre: NDArray[np.float64], half: float) -> NDArray[np.float64]:
    """The lattice's points in a square; the basis must be reduced, or too many are tried."""
    rows = basis.astype(float)
    reach = float(np.abs(centre).max()) + half
    most = math.ceil(reach * float(np.abs(np.linalg.inv(rows)).sum(axis=0).max()))
    factors = np.arange(-most, most + 1)
    places: NDArray[np.float64] = factors[:, None, None] * rows[0] + factors[None, :, None] * rows[1]
    inside = (np.abs(places - centre) <= half).all(axis=-1)
    return places[inside]


def _draw(axes: Axes, rows: Basis) -> None:
    axes.add_patch(Polygon(_cell(rows), facecolor=COLOURS[0], alpha=0.2, edgecolor="none"))
    for place, vector in enumerate(rows.astype(float)):
        axes.annotate(
            "",
            (vector[0], vector[1]),
            (0.0, 0.0),
            arrowprops={
                "arrowstyle": "-|>",
                "color": COLOURS[place],
                "linewidth": 1.8,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )
        x, y = 16.0 * vector / np.linalg.norm(vector)
        axes.annotate(
            f"({rows[place][0]:g}, {rows[place][1]:g})",
            (vector[0], vector[1]),
            (x, y),
            textcoords="offset points",
            ha="left" if x > 6 else "right" if x < -6 else "center",
            va="center",
            color=COLOURS[place],
            bbox=GROUND,
        )
