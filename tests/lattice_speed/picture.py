"""The three claims in one picture: nanoseconds a pair, steps under each order of the rows, products after LLL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from cllm_lab.views.picture import REFERENCE_COLOUR, Picture, drawing, label_at_right, stroke
from tests.lattice_speed.locality import FREQUENCY
from tests.lattice_speed.rounds import Spread
from tests.lattice_speed.similarity import LOOPS, PRODUCTS

# What the documents promise, as speed-ups.
SIMILARITY, LOCALITY, REDUCTION = (10.0, 100.0), (1.2, 1.5), (2.0, 4.0)
SHADE = {"color": "0.9", "zorder": 0}
MARKERS = ("o", "s", "^", "D")
ORDERS = ("radius", "angle", "square", "curve", "random", FREQUENCY)


def speed_picture(results: Mapping[str, Any]) -> Picture:
    """Draws the results of `measure.measured`, each claim's band in grey; the words give the figures."""
    with drawing(11.0, 8.6) as picture:
        above = picture.add_gridspec(1, 1, left=0.09, right=0.74, top=0.95, bottom=0.58)
        below = picture.add_gridspec(1, 2, left=0.09, right=0.97, top=0.47, bottom=0.14, wspace=0.55)
        _pairs(picture.add_subplot(above[0]), results["similarity"])
        _orders(picture.add_subplot(below[0]), results["locality"])
        _products(picture.add_subplot(below[1]), results)
        picture.words = "\n".join(said(results))
    return picture


def shortest(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The sizes of the pairs at the shortest sequence, by d: those that differ in d alone or nearly so."""
    length = min(size["length"] for size in results)
    return sorted((size for size in results if size["length"] == length), key=lambda size: size["d"])


def _pairs(axes: Axes, results: Sequence[Mapping[str, Any]]) -> None:
    sizes = shortest(results)
    d = [size["d"] for size in sizes]
    labels = []
    for place, name in enumerate((*PRODUCTS, *LOOPS)):
        figures = [size["seconds_a_pair"][name]["median"] * 1e9 for size in sizes]
        look = stroke(place)
        axes.plot(d, figures, marker="o", markersize=4.0, **look)
        labels.append((figures[-1], name, look["color"]))
    axes.set(xscale="log", yscale="log", xlabel="d, dimensions of a vector", ylabel="nanoseconds a pair")
    axes.xaxis.set_major_locator(FixedLocator(d))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(each) for each in d])
    axes.set_title("A similarity of two primes, and the product of two vectors", loc="left")
    product = [size["seconds_a_pair"][PRODUCTS[-1]]["median"] * 1e9 for size in sizes]
    fastest, slowest = ([each / factor for each in product] for factor in reversed(SIMILARITY))
    axes.fill_between(d, fastest, slowest, **SHADE)
    label_at_right(axes, labels)


def _orders(axes: Axes, results: Sequence[Mapping[str, Any]]) -> None:
    rows = [row for row in results if row["what"] == "adam"]
    for place, row in enumerate(rows):
        heights = [height + 0.22 * (place - (len(rows) - 1) / 2) for height in range(len(ORDERS))]
        _points(axes, [row["speed_up"][order] for order in ORDERS], heights, place, row["case"])
    _band(axes, LOCALITY, ORDERS)
    axes.set_title("A step with Adam, by the order of the rows", loc="left")
    axes.set_xlabel("times as fast as in the order of the ids")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), fontsize=8.0, ncols=1)


def _products(axes: Axes, results: Mapping[str, Any]) -> None:
    ways = {"same_answer": "LLL, same answer", "new_basis": "LLL, input in the new basis"}
    names = [*ways.values()]
    for place, weights in enumerate(("random", "trained")):
        offset = 0.24 * (place - 0.5)
        for height, way in enumerate(ways):
            rows = [row["speed_up"][way] for row in results["reduction"] if row["weights"] == weights]
            spots = [height + offset + 0.03 * (number - len(rows) / 2) for number in range(len(rows))]
            _points(axes, rows, spots, place, f"{weights} weights" if height == 0 else None)
        for number, row in enumerate(row for row in results["low_rank"] if row["weights"] == weights):
            name = f"SVD, {row['energy']:.0%} of the energy"
            if name not in names:
                names.append(name)
            _points(axes, [row["speed_up"]], [len(ways) + number + offset], place, None)
    _band(axes, REDUCTION, names)
    axes.set_title("The products with the weights", loc="left")
    axes.set_xlabel("times as fast as with the matrices as they are")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), fontsize=8.0, ncols=2)


def _points(
    axes: Axes, spreads: Sequence[Spread], heights: Sequence[float], place: int, label: str | None
) -> None:
    middle = [each["median"] for each in spreads]
    below = [each["median"] - each["lower_quartile"] for each in spreads]
    above = [each["upper_quartile"] - each["median"] for each in spreads]
    axes.errorbar(
        middle,
        heights,
        xerr=[below, above],
        fmt=MARKERS[place],
        markersize=4.0,
        color=stroke(place)["color"],
        elinewidth=1.0,
        label=label,
    )


def _band(axes: Axes, band: tuple[float, float], names: Sequence[str]) -> None:
    axes.axvspan(*band, **SHADE)
    axes.axvline(1.0, color=REFERENCE_COLOUR, linewidth=1.0)
    axes.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))
    axes.grid(False, axis="y")


def said(results: Mapping[str, Any]) -> list[str]:
    """What was found, claim by claim, in sentences."""
    lines = ["Speed of the lattice's algorithms, beside what the documents promise (grey)."]
    product = PRODUCTS[-1]
    for size in results["similarity"]:
        found = ", ".join(f"{name}: {size['speed_up'][name][product]['median']:.2f}" for name in LOOPS)
        lines.append(
            f"Similarity, d = {size['d']}, T = {size['length']}: times as fast as the matrix product: {found}."
        )
    for step in results["steps"]:
        most = step["speed_up_at_most"]["scores"]
        lines.append(
            f"{step['machine']}: the scores are {step['share']['scores']:.2%} of a pass, "
            f"{step['share']['with_projections']:.1%} with the queries and keys; without the scores the pass is at "
            f"most {most['inf']:.3f} times as fast."
        )
    for row in results["locality"]:
        found = ", ".join(f"{name} {_spread(each)}" for name, each in row["speed_up"].items())
        lines.append(f"{row['what']}, {row['case']}: times as fast as by id: {found}.")
    for row in results["reduction"]:
        found = ", ".join(
            f"{name.replace('_', ' ')} {_spread(each)}" for name, each in row["speed_up"].items()
        )
        lines.append(f"LLL, {row['weights']} {row['block']}: {found}.")
    for row in results["low_rank"]:
        before, after = row["loss"]
        lines.append(
            f"SVD, {row['weights']}, {row['energy']:.0%}: {_spread(row['speed_up'])}; loss {before:.3f} to {after:.3f}."
        )
    return lines


def _spread(figures: Spread) -> str:
    return f"{figures['median']:.2f} ({figures['lower_quartile']:.2f} to {figures['upper_quartile']:.2f})"
