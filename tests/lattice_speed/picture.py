"""The three claims in one picture: nanoseconds a pair, lookups and steps by the order of rows, products after LLL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from cllm_lab.views.picture import REFERENCE_COLOUR, Picture, drawing, label_at_right, stroke
from tests.lattice_speed.locality import FREQUENCY
from tests.lattice_speed.reduction import LATTICE
from tests.lattice_speed.rounds import Spread
from tests.lattice_speed.similarity import LOOPS, LOOPS_ONCE, PRODUCTS

# What the documents promise, as speed-ups.
SIMILARITY, LOCALITY, REDUCTION = (10.0, 100.0), (1.2, 1.5), (2.0, 4.0)
SHADE = {"color": "0.9", "zorder": 0, "label": "promised"}
MARKERS = ("o", "s", "^", "D")
SIGNS = ("squares", "triangles", "diamonds")
ORDERS = ("radius", "angle", "square", "curve", "random", FREQUENCY)
# What is drawn of the orders: steps with SGD are in the words alone.
DRAWN = {"lookup": "The lookup alone", "adam": "A step with Adam"}


def speed_picture(results: Mapping[str, Any]) -> Picture:
    """Draws the results of `measure.measured`, each claim's band in grey; the words give the figures."""
    with drawing(11.0, 9.4) as picture:
        above = picture.add_gridspec(1, 1, left=0.09, right=0.7, top=0.96, bottom=0.61)
        middle = picture.add_gridspec(1, 2, left=0.09, right=0.52, top=0.5, bottom=0.15, wspace=0.1)
        right = picture.add_gridspec(1, 1, left=0.75, right=0.98, top=0.5, bottom=0.15)
        _pairs(picture.add_subplot(above[0]), results["similarity"])
        lookups = picture.add_subplot(middle[0])
        steps = picture.add_subplot(middle[1], sharex=lookups, sharey=lookups)
        for axes, what in zip((lookups, steps), DRAWN, strict=True):
            _orders(axes, [row for row in results["locality"] if row["what"] == what], DRAWN[what])
        steps.tick_params(labelleft=False)
        _legend(lookups, 0.0)
        _products(picture.add_subplot(right[0]), results)
        picture.words = "\n".join(said(results))
    return picture


def by_length(results: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    """The sizes of the pairs by the length of the sequences, the shortest first, those of a length by d."""
    lengths = sorted({size["length"] for size in results})
    by_d = sorted(results, key=lambda size: size["d"])
    return {length: [size for size in by_d if size["length"] == length] for length in lengths}


def _pairs(axes: Axes, results: Sequence[Mapping[str, Any]]) -> None:
    (shortest, sizes), *longer = by_length(results).items()
    d = [size["d"] for size in sizes]
    labels = []
    for place, name in enumerate((*PRODUCTS, *LOOPS, *LOOPS_ONCE)):
        look = stroke(place)
        figures = _nanoseconds(sizes, name)
        axes.plot(d, figures, marker="o", markersize=4.0, **look)
        labels.append((figures[-1], name, look["color"]))
        for number, (_, long) in enumerate(longer, 1):
            apart = {"marker": MARKERS[number], "markersize": 7.0, "fillstyle": "none", "linestyle": "none"}
            axes.plot([size["d"] for size in long], _nanoseconds(long, name), color=look["color"], **apart)
    axes.set(xscale="log", yscale="log", xlabel="d, dimensions of a vector", ylabel="nanoseconds a pair")
    axes.xaxis.set_major_locator(FixedLocator(d))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{size['d']}\n{size['heads']} heads" for size in sizes])
    signs = [
        f"joined: T = {shortest}",
        *(f"{SIGNS[number]}: T = {long}" for number, (long, _) in enumerate(longer)),
    ]
    axes.set_title(
        f"A similarity of two primes, and the product of two vectors ({', '.join(signs)})", loc="left"
    )
    product = _nanoseconds(sizes, PRODUCTS[-1])
    fastest, slowest = ([each / factor for each in product] for factor in reversed(SIMILARITY))
    promised = axes.fill_between(d, fastest, slowest, **SHADE)
    promised.set_label("promised, {:g} to {:g} times as fast as the matrix product".format(*SIMILARITY))
    axes.legend(loc="lower right", fontsize=8.0)
    label_at_right(axes, labels)


def _nanoseconds(sizes: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [size["seconds_a_pair"][name]["median"] * 1e9 for size in sizes]


def _orders(axes: Axes, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    for place, row in enumerate(rows):
        heights = [height + 0.22 * (place - (len(rows) - 1) / 2) for height in range(len(ORDERS))]
        _points(axes, [row["speed_up"][order] for order in ORDERS], heights, place, row["case"])
    _band(axes, LOCALITY, ORDERS)
    axes.set_title(title, loc="left")
    axes.set_xlabel("times as fast as by id")


def _products(axes: Axes, results: Mapping[str, Any]) -> None:
    ways = {"same_answer": "LLL, same answer", "new_basis": "LLL, input in the new basis"}
    names = [*ways.values()]
    labels = {
        "random": "random weights",
        "trained": "trained weights; nats: what their loss rises by",
        LATTICE: "lattice embedding",
    }
    for place, (weights, label) in enumerate(labels.items()):
        offset = 0.24 * (place - 1)
        for height, way in enumerate(ways):
            rows = [row["speed_up"][way] for row in results["reduction"] if row["weights"] == weights]
            spots = [height + offset + 0.03 * (number - len(rows) / 2) for number in range(len(rows))]
            _points(axes, rows, spots, place, label if height == 0 else None)
        for number, row in enumerate(row for row in results["low_rank"] if row["weights"] == weights):
            name = f"SVD, {row['chosen']}"
            if name not in names:
                names.append(name)
            spot = len(ways) + number + offset
            _points(axes, [row["speed_up"]], [spot], place, None)
            if weights == "trained":
                before, after = row["loss"]
                place_of_text = (row["speed_up"]["upper_quartile"] + 0.1, spot)
                axes.annotate(f"{after - before:+.2f} nats", place_of_text, fontsize=8.0, va="center")
    _band(axes, REDUCTION, names)
    axes.set_title("The products with the weights", loc="left")
    axes.set_xlabel("times as fast as before")
    _legend(axes, -0.4)


def _legend(axes: Axes, left: float) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(left, -0.14), fontsize=8.0)


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
    lines = [
        "Speed of the lattice's algorithms, beside what the documents promise (grey). Measured in "
        f"{results['measured_in'] / 60.0:.1f} minutes at a load of up to {results['load']:.1f} on "
        f"{results['machine']['cores']} cores.",
        "A similarity that is computed once for all heads is the same in each, and they all attend alike.",
    ]
    product = PRODUCTS[-1]
    for size in results["similarity"]:
        found = ", ".join(
            f"{name}: {size['speed_up'][name][product]['median']:.2f}" for name in (*LOOPS, *LOOPS_ONCE)
        )
        lines.append(
            f"Similarity, d = {size['d']}, T = {size['length']}, {size['heads']} heads: times as fast as the matrix "
            f"product: {found}."
        )
    for step in results["steps"]:
        most = {name: each["inf"] for name, each in step["speed_up_at_most"].items()}
        lines.append(
            f"{step['machine']}: the scores are {step['share']['scores']:.2%} of a pass, "
            f"{step['share']['with_projections']:.1%} with the queries and keys; the pass is at most "
            f"{most['scores']:.3f} times as fast without the scores, {most['with_projections']:.3f} times without "
            "queries and keys too."
        )
    for row in results["locality"]:
        found = ", ".join(f"{name} {_spread(each)}" for name, each in row["speed_up"].items())
        lines.append(f"{row['what']}, {row['case']}: times as fast as by id: {found}.")
    for row in results["reduction"]:
        found = ", ".join(
            f"{name.replace('_', ' ')} {_spread(each)}" for name, each in row["speed_up"].items()
        )
        skipped = row["counted"]["without_zeros"]["new_basis"]
        lines.append(
            f"LLL, {row['weights']} {row['block']}: {found}, {skipped:.2f} in multiply-adds that are not by 0; "
            f"{row['bits_before']} bits before, {row['bits_after']} after."
        )
    for row in results["low_rank"]:
        before, after = row["loss"]
        lines.append(
            f"SVD, {row['weights']}, {row['chosen']}: {_spread(row['speed_up'])}; loss {before:.3f} to {after:.3f}."
        )
    return lines


def _spread(figures: Spread) -> str:
    return f"{figures['median']:.2f} ({figures['lower_quartile']:.2f} to {figures['upper_quartile']:.2f})"
