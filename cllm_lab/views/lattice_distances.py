"""What the spiral's lattice distance of two tokens has to do with how far apart their ids are."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LogNorm
from numpy.typing import NDArray

from cllm_lab.lattice.arguments import IntArray, within
from cllm_lab.lattice.distances import lattice_distance
from cllm_lab.lattice.phase import GOLDEN_ANGLE
from cllm_lab.lattice.spirals import spiral_position
from cllm_lab.lattice.token_primes import nth_token_primes
from cllm_lab.views.lines import label_y_axis
from cllm_lab.views.picture import COLOURS, REFERENCE_COLOUR, Picture, drawing, label_at_right
from cllm_lab.views.spirals import is_fibonacci

LEAST_IDS, MOST_IDS = 100, 2_000
CLOSE_UP = 100
BINS = 60
LEAST_LABELLED = 8
# Room for the numbers below the dots, as a share of the height.
BELOW = 0.1


def distance_by_ids(n_ids: int = 611) -> Picture:
    """`lattice.lattice_distance` of all pairs of the ids 0, ..., n_ids - 1, against the difference of the ids.

    Each id has its place on the spiral and its prime by the nth map. Left: how many pairs; right: the mean distance
    at the differences 1 to 100, Fibonacci numbers marked.
    Raises TypeError unless ``n_ids`` is an integer, ValueError outside `LEAST_IDS` to `MOST_IDS`.
    """
    ids = np.arange(within("n_ids", n_ids, LEAST_IDS, MOST_IDS))
    small, large = np.triu_indices(ids.size, 1)
    place, primes = spiral_position(ids), nth_token_primes(ids)
    distance = lattice_distance(place[small], place[large], primes[small], primes[large])
    apart = large - small
    mean = np.bincount(apart, distance)[1:] / np.bincount(apart)[1:]
    with drawing(9.8, 4.1) as picture:
        axes = picture.add_axes((0.07, 0.14, 0.38, 0.75))
        _, _, _, image = axes.hist2d(apart, distance, bins=BINS, norm=LogNorm(), cmap="viridis")
        axes.grid(False)
        axes.set(xlabel="difference of the ids", ylabel="lattice distance")
        axes.set_title("All pairs", loc="left")
        bar = picture.add_axes((0.46, 0.14, 0.013, 0.75))
        picture.colorbar(image, cax=bar).set_label("pairs", labelpad=-2)
        along = picture.add_axes((0.62, 0.14, 0.30, 0.75))
        steps = np.arange(1, min(CLOSE_UP, ids.size - 1) + 1)
        along.plot(steps, mean[: steps.size], color=COLOURS[0], linewidth=1.0)
        along.axhline(distance.mean(), color=REFERENCE_COLOUR, linewidth=1.0, linestyle=(0, (1, 2)))
        for step in (int(step) for step in steps if is_fibonacci(int(step))):
            along.plot(step, mean[step - 1], "o", color=COLOURS[1], markersize=5)
            if step >= LEAST_LABELLED:
                along.annotate(
                    str(step), (step, mean[step - 1]), (0, -13), textcoords="offset points", ha="center"
                )
        top = 1.08 * float(mean[: steps.size].max())
        along.set(xlabel="difference of the ids", xlim=(0, steps[-1]), ylim=(-BELOW * top, top))
        along.set_yticks([tick for tick in along.get_yticks() if 0 <= tick <= top])
        label_at_right(along, [(float(distance.mean()), "all pairs", REFERENCE_COLOUR)])
        label_y_axis(along, "mean lattice distance")
        along.set_title("Near ids; dots: Fibonacci numbers", loc="left", fontsize=10.0)
    nearest = np.argsort(mean[: steps.size], kind="stable")[:5] + 1
    picture.words = (
        f"{ids.size} ids, {apart.size} pairs. Correlation of distance and difference of ids: "
        f"{np.corrcoef(distance, apart)[0, 1]:.2f}. Pairs whose primes have a common factor: "
        f"{int((np.gcd(primes[small], primes[large]) > 1).sum())}. Mean distance of all pairs: "
        f"{distance.mean():.1f}; of ids next to each other, {np.degrees(GOLDEN_ANGLE):.1f} degrees apart: "
        f"{mean[0]:.1f}.\n"
        f"The sum of the two ids explains {_explained(small, large, distance):.0%} of the variance of the squared "
        f"distance; the sum and the angle between the two, {_explained(small, large, distance, angle=True):.0%}. "
        f"Of the differences to {steps[-1]}, those with the least mean distance: "
        f"{', '.join(map(str, sorted(nearest)))}."
    )
    return picture


def _explained(small: IntArray, large: IntArray, distance: NDArray[np.float64], angle: bool = False) -> float:
    """R² of squared distances, from i + j alone by least squares, or by i + j - 2 sqrt(i j) cos(golden (i - j)).

    What the second leaves out is the difference of the heights, ln((i + 1) / (j + 1))².
    """
    squared, total = distance**2, (small + large).astype(np.float64)
    if not angle:
        return float(np.corrcoef(squared, total)[0, 1] ** 2)
    flat = total - 2.0 * np.sqrt(small * large) * np.cos(GOLDEN_ANGLE * (large - small))
    return float(1.0 - ((squared - flat) ** 2).mean() / squared.var())
