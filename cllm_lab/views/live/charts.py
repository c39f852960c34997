"""The moving pictures of the bench: curves as SVG text, quick to write, with their content in words.

Every function is pure and returns one <svg role="img">, to stand in an element of the class ``cllm-live`` together
with `style.style_sheet`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cllm_lab.views.live.chart_frame import (
    Frame,
    Line,
    Numbers,
    Scale,
    linear_ticks,
    log_ticks,
    middle_of,
    pieces,
    shortened,
    width_of,
)
from cllm_lab.views.live.chart_words import (
    Marks,
    band_words,
    log_words,
    loss_words,
    short,
    value_words,
)
from cllm_lab.views.live.series import GROUPS, Curves

# A loss above this multiple of the highest plateau leaves the chart, so that the rest of it can still be read.
CAP = 2.0
# The previous run is shown up to this multiple of the run's own steps.
GHOST_REACH = 10
MOST_MARKERS = 60
# How a value stands on a logarithmic axis.
ZERO, POSITIVE, NOT_FINITE = range(3)


def loss_chart(run: Curves, ghost: Curves | None, levels: Mapping[str, float], marks: Marks) -> str:
    """Loss in nats per token against the step: means with a band from lowest to highest, validation, plateaus.

    ``ghost``: the previous run. ``levels``: plateaus by name, in nats, drawn as lines of reference. ``marks``:
    (step, what was changed). What is above twice the highest plateau (or twice the lowest loss, where that is
    more) lies on the upper edge, and the picture says how far it went. A loss that is not finite is marked at
    its steps. Raises ValueError for a level that is not finite.
    """
    for name, level in levels.items():
        if not math.isfinite(level):
            raise ValueError(f"levels must be finite; got {level} for {name!r}")
    before = ghost or Curves()
    lines = [
        Line("previous run", "previous", before.loss, is_ghost=True),
        Line("validation", "validation", run.validation),
        Line("training", "training", run.loss),
    ]
    lines, steps = _on_one_axis(lines, marks)
    low, high, peaks = _loss_range(lines, levels)
    named = {f"{name} {level:.2f}": level for name, level in levels.items()}
    frame = Frame(
        title="loss (nats per token)",
        legend=[
            (line.stroke, line.name if line.is_ghost else f"{line.name} {short(line.points[-1].mean)}")
            for line in reversed(lines)
        ],
        steps=steps,
        marks=marks,
        y_ticks=linear_ticks(low, high),
        right_room=10.0 + max((width_of(shortened(text)) for text in named), default=0.0),
    )
    y = Scale(low, high, frame.bottom, frame.top)
    frame.draw_axes(y)
    ends = []
    for text, level in named.items():
        frame.add(
            f'<path class="thin level" fill="none" d="M{frame.left:.1f} {y(level):.1f}H{frame.right:.1f}"/>'
        )
        ends.append((y(level), text, ""))
    for line in lines:
        xs, ys = frame.x.many(line.steps), y.many(line.means)
        for is_finite, piece in pieces(np.isfinite(line.means)):
            if is_finite:
                if line.stroke == "training":
                    frame.draw_band(xs[piece], y.many(line.lows[piece]), y.many(line.highs[piece]))
                few = line.stroke == "validation" and len(line.points) <= MOST_MARKERS
                frame.draw_line(line, xs[piece], ys[piece], dots=few)
        if not line.is_ghost and math.isfinite(line.points[-1].mean):
            frame.draw_newest(line, xs[-1], ys[-1])
    notes = {name: f"{name} goes off the chart: up to {short(peak)}" for name, peak in peaks.items()}
    for row, line in enumerate([line for line in lines if line.name in peaks], start=1):
        highest = max(line.points, key=lambda point: -math.inf if math.isnan(point.high) else point.high)
        frame.draw_note(frame.x(middle_of(highest)), frame.top + 14.0 * row, notes[line.name])
    frame.draw_failures(lines, first_row=len(notes) + 1)
    if not run.loss:
        frame.draw_no_steps()
    frame.draw_ends(ends)
    return frame.svg(loss_words(run, ghost, levels, list(notes.values()), marks))


def _loss_range(lines: Sequence[Line], levels: Mapping[str, float]) -> tuple[float, float, dict[str, float]]:
    """The ends of the axis, and for each line that leaves it at the top, how far it goes."""
    with_values = [line for line in lines if np.isfinite(line.highs).any()]
    highs = {line.name: float(np.nanmax(line.highs)) for line in with_values}
    lows = [float(np.nanmin(line.lows)) for line in with_values]
    own = [line for line in lines if not line.is_ghost] or lines
    lowest = [
        float(line.means[is_finite].min()) for line in own if (is_finite := np.isfinite(line.means)).any()
    ]
    reference = max([*levels.values(), *([min(lowest)] if lowest else [])], default=0.0)
    cap = CAP * reference if reference > 0.0 else math.inf
    peaks = {name: high for name, high in highs.items() if high > cap}
    high = cap if peaks else max([*levels.values(), *highs.values()], default=1.0)
    low = min([0.0, *levels.values(), *lows])
    if high <= low:
        high = low + 1.0
    return low, high if peaks else high + 0.06 * (high - low), peaks


def norms_chart(run: Curves, ghost: Curves | None, marks: Marks) -> str:
    """Gradient norms by group against the step, on a logarithmic axis.

    Norms that are exactly 0 lie on a line of their own under the axis, those that are not finite on one above it.
    Arguments as in `loss_chart`. Raises ValueError for a group that is not one of `series.GROUPS`.
    """
    strange = [group for curves in (run, ghost) if curves for group in curves.norms if group not in GROUPS]
    if strange:
        raise ValueError(f"norms must be of the groups {', '.join(GROUPS)}; got {strange[0]!r}")
    before = ghost.norms if ghost else {}
    lines = [Line("previous run", group, before.get(group, ()), is_ghost=True) for group in GROUPS]
    lines += [Line(group, group, run.norms.get(group, ())) for group in GROUPS]
    return _log_chart("gradient norm", lines, marks, labelled_ends=True)


def update_chart(run: Curves, ghost: Curves | None, band: tuple[float, float], marks: Marks) -> str:
    """|update| / |weights| against the step, on a logarithmic axis, over the shaded ``band`` of healthy runs.

    Exactly 0 and not finite as in `norms_chart`. Raises ValueError where ``band`` is not 0 < low < high < inf.
    """
    if not 0.0 < band[0] < band[1] < math.inf:
        raise ValueError(f"band must be (low, high) with 0 < low < high; got {band}")
    lines = [
        Line("previous run", "previous", ghost.update if ghost else (), is_ghost=True),
        Line("this run", "update", run.update),
    ]
    return _log_chart("|update| / |weights|", lines, marks, band=band)


def _log_chart(
    title: str,
    lines: Sequence[Line],
    marks: Marks,
    band: tuple[float, float] | None = None,
    labelled_ends: bool = False,
) -> str:
    lines, steps = _on_one_axis(lines, marks)
    own = [line for line in lines if not line.is_ghost]
    kinds = {line: _kinds(line.means) for line in lines}
    positive = np.concatenate([band or (), *(line.means[kinds[line] == POSITIVE] for line in lines)])
    low, high = (float(positive.min()), float(positive.max())) if positive.size else (1e-3, 1.0)
    decades = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = (decades[0], max(decades[1], decades[0] + 1))
    legend = (
        []
        if labelled_ends
        else [(line.stroke, f"{line.name} {value_words(line.points[-1].mean)}") for line in own]
    )
    if any(line.is_ghost for line in lines):
        legend.append(("any" if labelled_ends else "previous", "previous run"))
    if band:
        legend.append(("band", f"healthy runs: {band_words(band)}"))
    frame = Frame(
        title=title,
        legend=legend,
        steps=steps,
        marks=marks,
        y_ticks=log_ticks(*decades),
        right_room=32.0 + max(width_of(line.name) for line in own) if labelled_ends and own else 0.0,
        floor=any((line.lows == 0.0).any() for line in lines),
        ceiling=any((kinds[line] == NOT_FINITE).any() for line in lines),
    )
    y = Scale(decades[0], decades[1], frame.bottom, frame.top, log=True)
    if band:
        bottom, top = y(band[0]), y(band[1])
        frame.add(
            f'<rect class="band healthy" x="{frame.left:.1f}" y="{top:.1f}" '
            f'width="{frame.right - frame.left:.1f}" height="{bottom - top:.1f}"/>'
            f'<path class="thin healthy" fill="none" d="M{frame.left:.1f} {top:.1f}H{frame.right:.1f}'
            f'M{frame.left:.1f} {bottom:.1f}H{frame.right:.1f}"/>'
        )
    frame.draw_axes(y)
    ends = []
    for line in lines:
        offset = 4.0 * GROUPS.index(line.stroke) if line.stroke in GROUPS else 6.0
        floor, ceiling = frame.floor_line + offset, frame.ceiling_line - offset
        xs, ys = frame.x.many(line.steps), np.empty(len(line.points))
        for kind, piece in pieces(kinds[line]):
            if kind == POSITIVE:
                ys[piece] = y.many(line.means[piece])
            else:
                ys[piece] = floor if kind == ZERO else ceiling
            frame.draw_line(line, xs[piece], ys[piece])
        grazing = xs[(line.lows == 0.0) & (kinds[line] != ZERO)]
        if grazing.size:
            frame.draw_dots(line, grazing, [floor] * grazing.size)
        if not line.is_ghost:
            frame.draw_newest(line, xs[-1], ys[-1])
            ends.append((float(ys[-1]), line.name, line.stroke))
    if labelled_ends:
        frame.draw_ends(ends)
    if not own:
        frame.draw_no_steps()
    return frame.svg(
        log_words(title, {line.name: line.points for line in own}, len(own) < len(lines), band, marks)
    )


def _kinds(values: Numbers) -> NDArray[np.int8]:
    """How each value stands on a logarithmic axis."""
    return np.where(values == 0.0, ZERO, np.where(np.isfinite(values), POSITIVE, NOT_FINITE)).astype(np.int8)


def _on_one_axis(lines: Sequence[Line], marks: Marks) -> tuple[list[Line], tuple[float, float]]:
    """The lines that have points, and the ends of the axis of steps.

    It holds the run, its edits, and the previous run as far as GHOST_REACH says; what is beyond is cut off.
    """
    lines = [line for line in lines if line.points]
    starts = [line.points[0].first - 1 for line in lines] or [0]
    own = [line.points[-1].last for line in lines if not line.is_ghost] + [step for step, _ in marks]
    ghosts = [line.points[-1].last for line in lines if line.is_ghost]
    first = min([*starts, *(step for step, _ in marks)])
    last = max(
        own + [min(reach, first + GHOST_REACH * (max(own) - first)) if own else reach for reach in ghosts]
        or [0]
    )
    last = max(last, first + 10)
    shown = [line if line.points[-1].last <= last else _until(line, last) for line in lines]
    return [line for line in shown if line.points], (float(first), float(last))


def _until(line: Line, last: int) -> Line:
    return replace(line, points=tuple(point for point in line.points if point.last <= last))
