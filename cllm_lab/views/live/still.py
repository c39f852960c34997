"""The picture that stays in a notebook when a run of the bench has stopped."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cllm_lab.clinic.instrument_words import LEVEL_NAMES
from cllm_lab.corpus.entropies import Plateaus
from cllm_lab.views.curves import describe_losses
from cllm_lab.views.lines import draw_lines, label_y_axis
from cllm_lab.views.live.charts import CAP, GHOST_REACH
from cllm_lab.views.live.series import GROUPS, Curves, Point
from cllm_lab.views.picture import GROUND, REFERENCE_COLOUR, Picture, drawing, stroke
from cllm_lab.views.vital_signs import (
    describe_norms,
    describe_ratio,
    draw_logarithmic,
    name_zeros,
    shade_band,
)

LONGEST_MARK = 32
MOST_MARKS_NAMED = 8
# Of the width of the charts; a name is about so wide, since it is written upwards.
ROOM_FOR_A_NAME = 0.025

Marks = Sequence[tuple[int, str]]


def still_picture(
    run: Curves,
    ghost: Curves | None,
    plateaus: Plateaus,
    band: tuple[float, float],
    marks: Marks,
    title: str,
) -> Picture:
    """Three charts over the steps: loss with plateaus, gradient norm of each group, update ratio with its ``band``.

    A line goes through the means of the stretches of `Curves`, the loss with its extremes shaded. ``ghost``, the
    previous run, is thin, and cut where it is ten times as long as the run. ``marks``: (step, what was changed).
    A loss above twice the highest plateau stands at the upper edge, and the chart says how far it went. Norms and
    ratios of exactly 0 are named; what is not finite leaves a gap, which the words tell.
    Of 840 by 720 points; may be called in any thread.
    Raises ValueError for a run without a step and for a band that is not 0 < low < high.
    """
    if not run.loss:
        raise ValueError("run has no steps yet; train before the picture is drawn")
    if not 0.0 < band[0] < band[1] < math.inf:
        raise ValueError(f"band must be (low, high) with 0 < low < high; got {band}")
    reach = GHOST_REACH * run.loss[-1].last
    levels = {name: getattr(plateaus, field) for field, name in LEVEL_NAMES.items()}
    levels = {name: level for name, level in levels.items() if level is not None}
    norms = {group: run.norms[group] for group in GROUPS if run.norms.get(group)}
    ratio = {"update ratio": run.update} if run.update else {}
    with drawing(8.4, 7.2) as picture:
        top, middle, bottom = (picture.add_axes((0.1, low, 0.63, 0.255)) for low in (0.7, 0.39, 0.08))
        top.set_title(title, loc="left", parse_math=False)
        bottom.set_xlabel("step")
        shade_band(bottom, band, "healthy band", f"healthy runs, {band[0]:.1e} to {band[1]:.1e}")
        if ghost is not None:
            top.set_title("thin lines: previous run", loc="right", fontsize=9, color=REFERENCE_COLOUR)
            _draw_ghost(middle, {group: ghost.norms.get(group, ()) for group in GROUPS}, reach)
            _draw_ghost(bottom, {"update ratio": ghost.update}, reach)
        peaks = _draw_loss(top, run, ghost, reach, levels)
        for axes, name, series in ((middle, "gradient norm", norms), (bottom, "|update| / |weights|", ratio)):
            draw_logarithmic(axes, name, _lines(series), empty=axes is middle and ghost is None)
            name_zeros(axes, _extremes(series))
        left, right = _limits(run, ghost, reach, marks)
        for axes in (top, middle, bottom):
            axes.set_xlim(left, right)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            _draw_marks(axes, marks, named=axes is top)
    words = [*_describe("loss", run.loss, levels), *peaks, *_describe("held out", run.validation, levels)]
    if ghost is not None:
        words += _describe("previous run", ghost.loss, levels)
    if norms:
        words.append(describe_norms(_extremes(norms)))
    if ratio:
        words.append(describe_ratio(_means(run.update), band, "healthy band", digits=1))
    picture.words = "\n".join(words + [f"Changed at step {step}: {_one_line(text)}." for step, text in marks])
    return picture


def _draw_loss(
    axes: Axes, run: Curves, ghost: Curves | None, reach: int, levels: Mapping[str, float]
) -> list[str]:
    """Draws the losses, and says which of them leave the chart at the top."""
    label_y_axis(axes, "loss (nats per token)")
    lowest = min((mean for mean in _means(run.loss) if math.isfinite(mean)), default=0.0)
    cap = CAP * max(*levels.values(), lowest)
    named = {"loss": run.loss, "held out": run.validation}
    if ghost is not None:
        shown = tuple(point for point in ghost.loss if point.last <= reach)
        _draw_ghost(axes, {"previous run": shown}, reach, cap)
        named["previous run"] = shown
    axes.fill_between(
        _middles(run.loss),
        np.minimum([point.low for point in run.loss], cap),
        np.minimum([point.high for point in run.loss], cap),
        alpha=0.2,
        linewidth=0,
        color=stroke(0)["color"],
    )
    lines = {
        f"{name}: {_short(points[-1].mean)}": (_middles(points), np.minimum(_finite(points), cap))
        for name, points in named.items()
        if points and name != "previous run"
    }
    draw_lines(axes, lines, {f"{name} {level:.2f}": level for name, level in levels.items()}, {})
    notes = []
    for name, points in named.items():
        peak = max((point.high for point in points if not math.isnan(point.high)), default=-math.inf)
        if peak > cap:
            notes.append(f"{name} goes off the chart: up to {_short(peak)}.")
    for row, note in enumerate(notes):
        axes.text(0.98, 0.8 - 0.12 * row, note[:-1], transform=axes.transAxes, ha="right", bbox=GROUND)
    return notes


def _draw_ghost(
    axes: Axes, series: Mapping[str, tuple[Point, ...]], reach: int, cap: float = math.inf
) -> None:
    """Thin lines of the previous run, in the colour that its series has in this one; grey where it has none."""
    for name, points in series.items():
        shown = tuple(point for point in points if point.last <= reach)
        colour = stroke(GROUPS.index(name))["color"] if name in GROUPS else REFERENCE_COLOUR
        means = np.minimum(_finite(shown), cap)
        if cap == math.inf:
            means[means <= 0.0] = np.nan
        label = name if name == "previous run" else f"{name}, previous run"
        axes.plot(_middles(shown), means, color=colour, label=label, linewidth=1.0, alpha=0.45)


def _draw_marks(axes: Axes, marks: Marks, named: bool) -> None:
    """A thin vertical line for each edit; the latest are named where asked for and where no other name stands."""
    for step, _ in marks:
        axes.axvline(step, color=REFERENCE_COLOUR, linewidth=0.8, label="edit")
    left, right = axes.get_xlim()
    taken: list[int] = []
    for step, text in list(reversed(marks))[:MOST_MARKS_NAMED] if named else ():
        if any(abs(step - other) < ROOM_FOR_A_NAME * (right - left) for other in taken):
            continue
        taken.append(step)
        axes.annotate(
            textwrap.shorten(text, LONGEST_MARK, placeholder="..."),
            (step, 0.04),
            xycoords=("data", "axes fraction"),
            xytext=(-2, 0),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="bottom",
            fontsize=8,
            color=REFERENCE_COLOUR,
            parse_math=False,
        )


def _limits(run: Curves, ghost: Curves | None, reach: int, marks: Marks) -> tuple[float, float]:
    shown = [*run.loss, *(point for point in (ghost.loss if ghost else ()) if point.last <= reach)]
    steps = [point.first for point in shown] + [point.last for point in shown] + [step for step, _ in marks]
    return min(steps), max(max(steps), min(steps) + 1)


def _describe(name: str, points: tuple[Point, ...], levels: Mapping[str, float]) -> list[str]:
    means = [point.mean for point in points if math.isfinite(point.mean)]
    lines = [describe_losses(name, means, levels)] if means else []
    bad = [point for point in points if not math.isfinite(point.mean)]
    if bad:
        first, last = bad[0].first, bad[-1].last
        lines.append(
            f"{name}: not finite "
            + (f"at step {first}." if first == last else f"in steps {first} to {last}.")
        )
    return lines


def _lines(series: Mapping[str, tuple[Point, ...]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {name: (_middles(points), _means(points)) for name, points in series.items()}


def _extremes(series: Mapping[str, tuple[Point, ...]]) -> dict[str, np.ndarray]:
    """The lowest and the highest value of every stretch, NaN where one is not finite."""
    return {
        name: np.array(
            [value if math.isfinite(p.mean) else math.nan for p in points for value in (p.low, p.high)]
        )
        for name, points in series.items()
    }


def _middles(points: tuple[Point, ...]) -> np.ndarray:
    return np.array([(point.first + point.last) / 2.0 for point in points])


def _means(points: tuple[Point, ...]) -> np.ndarray:
    return np.array([point.mean for point in points], float)


def _finite(points: tuple[Point, ...]) -> np.ndarray:
    means = _means(points)
    return np.where(np.isfinite(means), means, np.nan)


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 1000.0 else f"{value:.1e}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
