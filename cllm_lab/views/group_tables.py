"""Multiplication tables of sets of operations: which products lie in the set, and which do not."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from cllm_lab.lattice.symmetry import GroupProperties, group_properties
from cllm_lab.views.number_kinds import listed
from cllm_lab.views.picture import COLOURS, Picture, drawing

MOST_SETS = 3
MOST_OPERATIONS = 24
OUTSIDE = "×"
DARK = 0.5


def multiplication_tables(sets: Mapping[str, ArrayLike]) -> Picture:
    """The table of each set of operations (n, d, d): in row i and column j the number of matrices[i] @ matrices[j].

    A cross stands where the product is no operation of the set. Raises ValueError for no set, for more than three, for
    more than `MOST_OPERATIONS` operations, and as `lattice.group_properties`.
    """
    if not 1 <= len(sets) <= MOST_SETS:
        raise ValueError(f"sets must be 1 to {MOST_SETS}, a table each; got {len(sets)}")
    found = {name: group_properties(matrices) for name, matrices in sets.items()}
    for name, properties in found.items():
        if len(properties.products) > MOST_OPERATIONS:
            raise ValueError(
                f"sets may have {MOST_OPERATIONS} operations each; {name!r} has {len(properties.products)}"
            )
    side = min(4.3, 9.0 / len(found))
    width, height = len(found) * (side + 0.35) + 0.3, side + 0.9
    with drawing(width, height) as picture:
        for place, (name, properties) in enumerate(found.items()):
            left = 0.55 + place * (side + 0.35)
            axes = picture.add_axes(
                (left / width, 0.5 / height, (side - 0.15) / width, (side - 0.15) / height)
            )
            _draw(axes, properties, side)
            axes.set_title(name, loc="left", parse_math=False)
            axes.set_xlabel("operation done first" if place == 0 else "")
            axes.set_ylabel("operation done after it" if place == 0 else "")
    picture.words = "\n".join(f"{name}: {_words(properties)}." for name, properties in found.items())
    return picture


def _draw(axes: Axes, properties: GroupProperties, side: float) -> None:
    products = properties.products
    n = len(products)
    colours = matplotlib.colormaps["twilight"](np.arange(n) / n)
    shown = np.ones((n, n, 4))
    shown[products >= 0] = colours[products[products >= 0]]
    axes.imshow(shown)
    axes.grid(False)
    size = min(9.0, 30.0 * side / n)
    for (i, j), product in np.ndenumerate(products):
        # How bright the eye takes the colour to be (Rec. 709).
        bright = float(shown[i, j, :3] @ (0.2126, 0.7152, 0.0722))
        colour = COLOURS[1] if product < 0 else "white" if bright < DARK else "black"
        text = OUTSIDE if product < 0 else str(product)
        axes.text(j, i, text, ha="center", va="center", fontsize=size, color=colour)
    axes.set_xticks(range(n), map(str, range(n)), fontsize=size)
    axes.set_yticks(range(n), map(str, range(n)), fontsize=size)
    axes.tick_params(length=0)


def _words(properties: GroupProperties) -> str:
    inside = int((properties.products >= 0).sum())
    text = f"{inside} of {properties.products.size} products are in the set"
    if properties.not_closed is not None:
        i, j = properties.not_closed
        text += f", the first that is not: {i} times {j}"
    inverse = listed(properties.without_inverse)
    return f"{text}; without an inverse: {inverse}; {'a group' if properties.is_group else 'no group'}"
