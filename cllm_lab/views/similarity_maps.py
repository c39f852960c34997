"""The original's similarities of pairs of numbers, side by side on primes and on 1, 2, 3, ..."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from numpy.typing import NDArray

from cllm_lab.lattice.arguments import IntArray, within
from cllm_lab.lattice.primes import nth_prime
from cllm_lab.lattice.similarity import SIMILARITIES
from cllm_lab.views.picture import Picture, drawing

MOST_NUMBERS = 100
TICKS = 4
# Below 1, so that small values, as of 1 / max, can be told apart.
GAMMA = 0.5


def similarity_maps(count: int = 30) -> Picture:
    """Every similarity of `lattice.SIMILARITIES` on the first ``count`` primes, and below on 1, ..., ``count``.

    Colours go from 0 to 1. Raises TypeError unless ``count`` is an integer, ValueError outside 4 to `MOST_NUMBERS`.
    """
    count = within("count", count, 4, MOST_NUMBERS)
    rows = {"primes": np.asarray(nth_prime(np.arange(1, count + 1))), "numbers": np.arange(1, count + 1)}
    side, between, left, above, bar = 1.95, 0.16, 0.75, 0.3, 0.75
    names = list(SIMILARITIES)
    width = left + len(names) * (side + between) + bar
    height = len(rows) * (side + above) + 0.75
    said: dict[str, list[str]] = {name: [] for name in names}
    with drawing(width, height) as picture:
        for row, (kind, numbers) in enumerate(rows.items()):
            bottom = height - (row + 1) * (side + above) - 0.25 * row
            for column, name in enumerate(names):
                table = SIMILARITIES[name](numbers[:, None], numbers)
                said[name].append(f"{kind} {_values(table, numbers)}")
                x = left + column * (side + between)
                axes = picture.add_axes((x / width, bottom / height, side / width, side / height))
                image = axes.imshow(table, cmap="viridis", norm=PowerNorm(GAMMA, 0.0, 1.0))
                _label(axes, numbers, kind if column == 0 else "")
                axes.set_title(name if row == 0 else "", loc="left", fontsize=10.0)
        x = left + len(names) * (side + between)
        beside = picture.add_axes((x / width, bottom / height, 0.13 / width, 1 - (bottom + above) / height))
        picture.colorbar(image, cax=beside, ticks=[0.0, 0.05, 0.2, 0.5, 1.0])
    picture.words = (
        f"The first {count} primes, and the numbers 1 to {count}. What pairs of unequal numbers have:\n"
        + "\n".join(f"{name}: {'; '.join(kinds)}." for name, kinds in said.items())
    )
    return picture


def _values(table: NDArray[np.float64], numbers: IntArray) -> str:
    """How many different values stand off the diagonal, and what they are where that can be said shortly."""
    unequal = ~np.eye(len(table), dtype=bool)
    values = np.unique(table[unequal])
    if values.size == 1:
        return f"1 value ({values[0]:g})"
    largest = np.maximum(numbers[:, None], numbers)
    if np.array_equal(table[unequal], 1.0 / largest[unequal]):
        return f"{values.size} values (each 1 / the larger)"
    return f"{values.size} values"


def _label(axes: Axes, numbers: IntArray, kind: str) -> None:
    places = np.linspace(0, len(numbers) - 1, TICKS).round().astype(int)
    shown = [str(numbers[place]) for place in places]
    axes.grid(False)
    axes.set_xticks(places, shown, fontsize=8)
    axes.set_yticks(places, shown if kind else [""] * TICKS, fontsize=8)
    axes.set_ylabel(kind)
