"""Numbers on the spiral r = sqrt(n): its angles, what single precision makes of them, and who is whose neighbour."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from cllm_lab.lattice.neighbours import nearest_neighbours
from cllm_lab.lattice.primes import is_prime
from cllm_lab.lattice.spirals import ANGLES, spiral_position
from cllm_lab.views.number_kinds import plane, points, within
from cllm_lab.views.picture import COLOURS, GROUND, Picture, drawing

Places = NDArray[np.float64]

MOST_NUMBERS = 20_000
MOST_PANELS = 4
MOST_NEIGHBOURS = 12
LARGEST_CENTRE = 10**9
# Half a side of a patch: some 80 numbers lie in it, one for each pi of the plane.
PATCH = 8.0
# Directions nearer than this, in radians, are one.
SAME_DIRECTION = 1e-9


def spiral_variants(count: int = 400, angles: Sequence[str] = ANGLES) -> Picture:
    """The numbers 1, ..., count on the spiral, a panel for every angle; the primes are the large dots.

    ``angles``: of `lattice.ANGLES`. Raises TypeError unless ``count`` is an integer; ValueError for one outside 2 to
    `MOST_NUMBERS`, for no angle, for more than four and for an unknown one.
    """
    n = np.arange(1, within("count", count, 2, MOST_NUMBERS) + 1)
    _panels("angles", angles)
    places = {angle: spiral_position(n, angle)[:, :2] for angle in angles}
    primes = np.asarray(is_prime(n))
    across, down = min(len(places), 2), -(-len(places) // 2)
    with drawing(3.5 * across, 3.6 * down) as picture:
        for number, (angle, place) in enumerate(places.items(), start=1):
            axes = picture.add_subplot(down, across, number)
            points(axes, place[~primes], s=5.0, facecolor="0.7", edgecolor="none")
            points(axes, place[primes], s=16.0, facecolor=COLOURS[0], edgecolor="none")
            axes.set_title(angle, loc="left")
            plane(axes, 1.05 * math.sqrt(count))
        picture.tight_layout()
    picture.words = f"The numbers 1 to {count}, the {int(primes.sum())} primes larger.\n" + "\n".join(
        f"{angle}: {directions(place)} directions, the nearest two {nearest_two(place):.2f} apart"
        f"{_mirrored(angle, places)}."
        for angle, place in places.items()
    )
    return picture


def spiral_patches(centres: Sequence[int] = (10_000, 1_000_000, 10_000_000)) -> Picture:
    """A patch of the spiral near each number, with the golden angle as it is and as single precision has it.

    A patch is a square of side 16 round (sqrt(n), 0). Raises TypeError unless the centres are integers, ValueError for
    none, for more than four, and for one outside 100 to `LARGEST_CENTRE`.
    """
    _panels("centres", centres)
    rows = {"golden": "exact", "golden-float32": "single precision"}
    words = []
    with drawing(2.3 * len(centres) + 0.4, 4.9) as picture:
        for column, centre in enumerate(centres, start=1):
            said = []
            for row, (angle, name) in enumerate(rows.items()):
                place = patch(centre, angle)
                axes = picture.add_subplot(2, len(centres), row * len(centres) + column)
                points(axes, place, s=12.0, facecolor=COLOURS[row], edgecolor="none")
                plane(axes, PATCH, math.sqrt(centre))
                for spine in axes.spines.values():
                    spine.set(visible=True, color="0.8")
                axes.set_title(f"{name}, near {centre:,}", loc="left", fontsize=8.5)
                apart = f", the nearest two {nearest_two(place):.2f} apart" if len(place) > 1 else ""
                said.append(f"{name} {len(place)} numbers{apart}")
            words.append(f"Near {centre:,}: {'; '.join(said)}.")
        picture.tight_layout()
    picture.words = f"Squares of side {2 * PATCH:.0f} cut out of the spiral.\n" + "\n".join(words)
    return picture


def patch(centre: int, angle: str) -> Places:
    """The places (x, y) of the numbers that lie within `PATCH` of (sqrt(centre), 0) along both axes, (N, 2).

    Raises TypeError unless ``centre`` is an integer, ValueError outside 100 to `LARGEST_CENTRE`.
    """
    radius = math.sqrt(within("centres", centre, 100, LARGEST_CENTRE))
    n = np.arange(math.floor((radius - PATCH) ** 2), math.ceil((radius + PATCH) ** 2 + PATCH**2) + 1)
    place = spiral_position(n, angle)[:, :2]
    inside: Places = place[(np.abs(place - (radius, 0.0)) <= PATCH).all(axis=-1)]
    return inside


def spiral_neighbours(
    number: int, k: int = 6, count: int = 1_000, names: Sequence[str] | None = None
) -> Picture:
    """A number on the golden-angle spiral and the k nearest to it among 0, ..., count - 1, seen from above.

    Nearness is the distance between `lattice.spiral_position`, height included. ``names``: what the ``count`` numbers
    are called, such as the words of a vocabulary.
    Raises TypeError unless the numbers are integers; ValueError for a count above `MOST_NUMBERS`, a number outside the
    count, a k outside 1 to `MOST_NEIGHBOURS` or as large as the count, and another number of names.
    """
    count = within("count", count, 2, MOST_NUMBERS)
    number = within("number", number, 0, count - 1)
    k = within("k", k, 1, MOST_NEIGHBOURS)
    if names is not None and len(names) != count:
        raise ValueError(f"names must be those of the {count} numbers; got {len(names)}")
    place = spiral_position(np.arange(count))
    found = nearest_neighbours(np.delete(place, number, axis=0), k, place[[number]])[0][0]
    found = np.sort(found + (found >= number))
    called = [f"{n} {names[n]!r}" if names is not None else str(n) for n in range(count)]
    centre = place[number, :2]
    reach = 1.7 * float(np.abs(place[found, :2] - centre).max())
    with drawing(7.0, 5.6) as picture:
        axes = picture.add_axes((0.01, 0.01, 0.98, 0.98))
        shown = (np.abs(place[:, :2] - centre) < reach).all(axis=-1)
        points(axes, place[shown, :2], s=16.0, facecolor="0.7", edgecolor="none")
        points(axes, place[[number], :2], s=80.0, color=COLOURS[1], marker="D", zorder=3)
        _label(axes, place[number], called[number])
        for other in found:
            axes.plot(*np.stack([centre, place[other, :2]]).T, color=COLOURS[0], linewidth=1.2, zorder=1)
            _label(axes, place[other], f"{called[other]} ({other - number:+d})")
        points(axes, place[found, :2], s=40.0, color=COLOURS[0])
        plane(axes, reach, *centre)
    steps = [int(other) - number for other in found]
    fibonacci = sum(is_fibonacci(abs(step)) for step in steps)
    picture.words = (
        f"The {k} nearest to {called[number]}: {', '.join(called[other] for other in found)}. They are "
        f"{', '.join(f'{step:+d}' for step in steps)} away in the order of numbers; {fibonacci} of {k} of these "
        "steps are Fibonacci numbers."
    )
    return picture


def directions(places: Places) -> int:
    """In how many directions places (N, 2) lie, seen from the origin."""
    angles = np.sort(np.arctan2(places[:, 1], places[:, 0]))
    gaps = np.diff(angles, append=angles[0] + 2.0 * np.pi)
    return int((gaps > SAME_DIRECTION).sum())


def nearest_two(places: Places) -> float:
    """The least distance between two of the places (N, 2)."""
    return float(nearest_neighbours(places, 1)[1].min())


def is_fibonacci(n: int) -> bool:
    """Whether n >= 0 is a Fibonacci number: 5 n^2 + 4 or 5 n^2 - 4 is a square (Gessel 1972)."""
    return any(square >= 0 and math.isqrt(square) ** 2 == square for square in (5 * n * n - 4, 5 * n * n + 4))


def _mirrored(angle: str, places: Mapping[str, Places]) -> str:
    """Which panel before this one it is the mirror image of, if any."""
    for other, place in places.items():
        if other == angle:
            break
        if np.allclose(places[angle], place * (1.0, -1.0), rtol=0.0, atol=1e-9):
            return f"; {other} mirrored"
    return ""


def _label(axes: Axes, place: Places, text: str) -> None:
    axes.annotate(
        text,
        (place[0], place[1]),
        (0, 9),
        textcoords="offset points",
        ha="center",
        va="bottom",
        parse_math=False,
        bbox=GROUND,
        zorder=4,
    )


def _panels(name: str, values: Sequence[object]) -> None:
    if not 1 <= len(values) <= MOST_PANELS:
        raise ValueError(f"{name} must be 1 to {MOST_PANELS}, a panel each; got {len(values)}")
