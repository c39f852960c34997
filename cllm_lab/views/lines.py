"""A chart of lines with reference lines, labelled where they stand: what the other views draw with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cllm_lab.views.picture import REFERENCE_COLOUR, Picture, drawing, label_at_right, stroke

Values = Sequence[float] | np.ndarray
Series = tuple[Values, Values]


def line_chart(
    series: Mapping[str, Series],
    *,
    x_label: str,
    y_label: str,
    words: str,
    levels: Mapping[str, float] | None = None,
    marks: Mapping[str, float] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    title: str | None = None,
) -> Picture:
    """Lines by name, each (x values, y values) of one length, labelled at their right end.

    ``levels`` are horizontal reference lines by name, ``marks`` vertical ones. Labels of axes state the unit.
    ``words`` say what the chart shows. A value that is not finite leaves a gap.
    Raises ValueError for no series, for an empty one, for lengths that differ, and for a value at or below 0
    on a logarithmic axis, naming the series.
    """
    checked = {name: _checked(name, *values, log_x, log_y) for name, values in series.items()}
    if not checked:
        raise ValueError("series is empty; give at least one line")
    with drawing(8.4, 4.2) as picture:
        axes = picture.add_axes((0.1, 0.13, 0.63, 0.78))
        axes.set(xlabel=x_label, xscale=_scale(log_x), yscale=_scale(log_y))
        label_y_axis(axes, y_label)
        if title:
            axes.set_title(title, loc="left", parse_math=False)
        draw_lines(axes, checked, levels or {}, marks or {})
    picture.words = words
    return picture


def draw_lines(
    axes: Axes,
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    levels: Mapping[str, float],
    marks: Mapping[str, float],
) -> None:
    """Draws series, levels and marks on prepared axes, and labels them."""
    labels = []
    for place, (name, (x, y)) in enumerate(series.items()):
        look = stroke(place)
        marker = "o" if x.size == 1 else None
        axes.plot(x, y, label=name, marker=marker, **look)
        finite = y[np.isfinite(y)]
        if finite.size:
            labels.append((finite[-1], name, look["color"]))
    for name, level in levels.items():
        axes.axhline(level, color=REFERENCE_COLOUR, linewidth=1.0, linestyle=(0, (1, 2)), label=name)
        labels.append((level, name, REFERENCE_COLOUR))
    for name, mark in marks.items():
        axes.axvline(mark, color=REFERENCE_COLOUR, linewidth=1.0, linestyle=(0, (1, 2)), label=name)
        axes.annotate(
            name,
            xy=(mark, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            color=REFERENCE_COLOUR,
            parse_math=False,
        )
    _fit(axes, series)
    label_at_right(axes, labels)


def label_y_axis(axes: Axes, text: str) -> None:
    """The label of the y axis at one place, however wide the numbers are."""
    axes.set_ylabel(text)
    axes.yaxis.set_label_coords(-0.115, 0.5)


def _fit(axes: Axes, series: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Fixes the limits: the lines end at the right edge, where their labels stand."""
    left = min(float(x.min()) for x, _ in series.values())
    right = max(float(x.max()) for x, _ in series.values())
    if left < right:
        axes.set_xlim(left, right)
    if axes.get_xscale() == "linear" and all(np.all(x == np.round(x)) for x, _ in series.values()):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(*axes.get_ylim())


def _checked(name: str, x: Values, y: Values, log_x: bool, log_y: bool) -> tuple[np.ndarray, np.ndarray]:
    across, up = np.asarray(x, float), np.asarray(y, float)
    if across.ndim != 1 or across.shape != up.shape or across.size == 0:
        raise ValueError(
            f"series {name!r} needs as many x as y values, at least one; got shapes {across.shape} and {up.shape}"
        )
    for axis, values, logarithmic in (("x", across, log_x), ("y", up, log_y)):
        if logarithmic and np.any(values <= 0.0):
            raise ValueError(
                f"series {name!r} has {axis} values at or below 0, which a logarithmic axis cannot show"
            )
    return across, up


def _scale(logarithmic: bool) -> str:
    return "log" if logarithmic else "linear"
