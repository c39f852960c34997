"""Numbers as the original's list sees them: on Ulam's square and on the wheel of remainders."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from cllm_lab.lattice.arguments import IntArray, within
from cllm_lab.lattice.historical import RESIDUES_MOD_30, NumberKinds, number_kinds
from cllm_lab.lattice.spirals import ulam_coordinates
from cllm_lab.views.picture import COLOURS, REFERENCE_COLOUR, Picture, drawing

LARGEST_SIDE = 301
MOST_RINGS = 60
WHEEL = 30
DOTTED = (0, (1, 2))

# Kind: its name, shape and size. Shapes tell the kinds apart without colours.
TRUE = ("prime in the list", {"marker": "o", "facecolor": COLOURS[0], "edgecolor": "none"}, 0.6)
FALSE = ("composite in the list", {"marker": "x", "color": COLOURS[1]}, 1.6)
MISSED = ("prime that it lacks", {"marker": "s", "facecolor": "none", "edgecolor": COLOURS[2]}, 0.9)


def ulam_square(side: int = 101) -> Picture:
    """The numbers 1, ..., side^2 on Ulam's square: primes of the original's list, its composites, primes it lacks.

    Raises TypeError unless ``side`` is an integer, ValueError for an even one or one outside 3 to `LARGEST_SIDE`.
    """
    side = within("side", side, 3, LARGEST_SIDE)
    if side % 2 == 0:
        raise ValueError(f"side must be odd, so that 1 is in the middle; got {side}")
    kinds = number_kinds(side * side)
    edge = side / 2
    with drawing(6.8, 4.9) as picture:
        axes = picture.add_axes((0.01, 0.05, 0.68, 0.94))
        _draw_kinds(axes, kinds, ulam_coordinates, (340.0 / side) ** 2)
        axes.plot([0, edge], [0, -edge], color=REFERENCE_COLOUR, linewidth=0.8, linestyle=DOTTED, zorder=0)
        axes.text(edge, -edge, "odd squares", ha="right", va="top", color=REFERENCE_COLOUR)
        plane(axes, edge)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), markerscale=max(1.0, side / 60.0))
    first = f", the first {kinds.false[0]}" if kinds.false.size else ""
    of_squares = int(np.isin(kinds.false, np.arange(1, side + 1, 2) ** 2).sum())
    picture.words = (
        f"The numbers 1 to {kinds.limit} on a square of side {side}. The list has {kinds.true.size} primes and "
        f"{kinds.false.size} composites{first}; it lacks {kinds.missed.size} primes, whose remainders mod {WHEEL} "
        f"are: {listed(np.unique(kinds.missed % WHEEL))}. On the diagonal of the odd squares there is no prime, and "
        f"{of_squares} of the composites are there."
    )
    return picture


def number_wheel(rings: int = 16) -> Picture:
    """The numbers below 30 ``rings`` by their remainder mod 30, a ring for every 30, as the original's list sees them.

    Solid spokes are remainders that the list asks for. Raises TypeError unless ``rings`` is an integer, ValueError
    outside 3 to `MOST_RINGS`.
    """
    rings = within("rings", rings, 3, MOST_RINGS)
    kinds = number_kinds(WHEEL * rings - 1)
    coprime = [r for r in range(WHEEL) if math.gcd(r, WHEEL) == 1]
    asked = [r for r in coprime if r in RESIDUES_MOD_30]
    left_out = [r for r in coprime if r not in asked]
    impossible = [r for r in RESIDUES_MOD_30 if r >= WHEEL]
    hub, rim = rings / 4.0, 1.25 * rings
    with drawing(7.6, 5.2) as picture:
        axes = picture.add_axes((0.01, 0.01, 0.68, 0.98))
        for r in range(WHEEL):
            solid = r in asked
            spoke = _on_wheel(r, np.array([hub, rim]))
            axes.plot(
                *spoke,
                color="0.7",
                linestyle="-" if solid else DOTTED,
                linewidth=1.4 if solid else 0.7,
                zorder=0,
            )
            (x,), (y,) = _on_wheel(r, np.array([rim + 0.07 * rings]))
            colour = COLOURS[2] if r in left_out else "0.15" if solid else "0.6"
            weight = "bold" if r in coprime else "normal"
            axes.text(x, y, str(r), ha="center", va="center", color=colour, fontweight=weight)
        _draw_kinds(axes, kinds, lambda n: _on_wheel(n, hub + n // WHEEL), 34.0)
        (x,), (y,) = _on_wheel(WHEEL - 1, np.array([1.02 * rim]))
        axes.annotate(
            f"{listed(impossible)} is asked for too,\nand no remainder",
            (x, y),
            (-rim, rim),
            va="bottom",
            color=COLOURS[1],
            arrowprops={"arrowstyle": "->", "color": COLOURS[1], "shrinkB": 14},
        )
        plane(axes, 1.16 * rim)
        axes.legend(loc="upper left", bbox_to_anchor=(0.98, 0.95))
    spoke_primes = int(np.isin(np.concatenate([kinds.true, kinds.missed]) % WHEEL, left_out).sum())
    picture.words = (
        f"The numbers below {WHEEL * rings} by their remainder mod {WHEEL}. All primes above 5 lie on the "
        f"{len(coprime)} spokes {listed(coprime)}. The list asks for {listed(RESIDUES_MOD_30)}: "
        f"{listed(impossible)} is no remainder, {listed(left_out)} is not asked for. Of the {spoke_primes} primes on "
        f"that spoke the list lacks {kinds.missed.size}."
    )
    return picture


def _draw_kinds(
    axes: Axes, kinds: NumberKinds, place: Callable[[IntArray], tuple[NDArray, NDArray]], size: float
) -> None:
    for numbers, (name, look, share) in ((kinds.true, TRUE), (kinds.false, FALSE), (kinds.missed, MISSED)):
        if numbers.size:
            points(axes, np.stack(place(numbers), axis=-1), s=share * size, label=name, linewidth=1.0, **look)


def _on_wheel(remainder: IntArray | int, radius: NDArray) -> tuple[NDArray, NDArray]:
    """Remainder 0 on top, then clockwise."""
    angle = 2.0 * np.pi * np.asarray(remainder) / WHEEL
    return radius * np.sin(angle), radius * np.cos(angle)


def points(axes: Axes, places: NDArray, **look: Any) -> None:
    """Scatters places (N, 2)."""
    axes.scatter(places[:, 0], places[:, 1], **look)


def plane(axes: Axes, half: float, x: float = 0.0, y: float = 0.0) -> None:
    """A square of the plane round (x, y) with equal scales; its numbers are places, which no axis explains."""
    axes.set(xlim=(x - half, x + half), ylim=(y - half, y + half), aspect="equal", xticks=(), yticks=())
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def listed(numbers: Iterable[int]) -> str:
    """Numbers with commas; "none" for none."""
    return ", ".join(str(int(number)) for number in numbers) or "none"
