"""The moving pictures of the bench: curves as SVG text, quick to write, with their content in words.

Every function is pure and returns one <svg role="img">, to stand in an element of the class ``cllm-live`` together
with `style.style_sheet`. Lengths are in units of the picture, WIDTH x HEIGHT.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from unicodedata import east_asian_width

from cllm_lab.views.live.series import GROUPS, Curves, Point
from cllm_lab.views.live.style import escaped, printable

WIDTH, HEIGHT = 480, 270
FONT = 13.0
ROW = 16.0
# The mean width of a character in the widest of the common fonts, so that a label never takes more than its room.
CHARACTER = 0.6 * FONT
LONGEST_TEXT = 30
MOST_MARKS_LABELLED = 4
# A loss above this multiple of the highest plateau leaves the chart, so that the rest of it can still be read.
CAP = 2.0
# The previous run is shown up to this multiple of the run's own steps.
GHOST_REACH = 10
SAME_LEVEL = 0.01
MOST_MARKERS = 60

Marks = Sequence[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class _Scale:
    """From a number to a place on the picture; out of range is held at the edge."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        return self.many([value])[0]

    def many(self, values: Sequence[float]) -> list[float]:
        """The places of many numbers; NaN where a number is not finite."""
        if self.log:
            values = [math.log10(value) for value in values]
        unit, low, start = (self.end - self.start) / (self.high - self.low), self.low, self.start
        top, bottom = sorted((self.start, self.end))
        return [min(max(start + (value - low) * unit, top), bottom) for value in values]


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a chart: what it is called in the picture, its stroke, its points."""

    name: str
    stroke: str
    points: tuple[Point, ...]
    is_ghost: bool = False


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
        _Line("previous run", "previous", before.loss, is_ghost=True),
        _Line("validation", "validation", run.validation),
        _Line("training", "training", run.loss),
    ]
    lines, steps = _on_one_axis(lines, marks)
    low, high, peaks = _loss_range(lines, levels)
    named = {f"{name} {level:.2f}": level for name, level in levels.items()}
    frame = _Frame(
        title="loss (nats per token)",
        legend=[
            (line.stroke, line.name if line.is_ghost else f"{line.name} {_short(line.points[-1].mean)}")
            for line in reversed(lines)
        ],
        steps=steps,
        marks=marks,
        y_ticks=_linear_ticks(low, high),
        right_room=10.0 + max((_width(_shortened(text)) for text in named), default=0.0),
    )
    y = _Scale(low, high, frame.bottom, frame.top)
    frame.draw_axes(y)
    ends = []
    for text, level in named.items():
        frame.add(
            f'<path class="thin level" fill="none" d="M{frame.left:.1f} {y(level):.1f}H{frame.right:.1f}"/>'
        )
        ends.append((y(level), text, ""))
    for line in lines:
        xs = frame.places(line.points)
        ys = y.many([point.mean for point in line.points])
        for kind, piece in _pieces(
            ["finite" if math.isfinite(p.mean) else "not finite" for p in line.points]
        ):
            if kind == "finite":
                if line.stroke == "training":
                    frame.draw_band(xs[piece], line.points[piece], y)
                few = line.stroke == "validation" and len(line.points) <= MOST_MARKERS
                frame.draw_line(line, xs[piece], ys[piece], dots=few)
        if not line.is_ghost and math.isfinite(line.points[-1].mean):
            frame.draw_newest(line, xs[-1], ys[-1])
    notes = {name: f"{name} goes off the chart: up to {_short(peak)}" for name, peak in peaks.items()}
    for row, line in enumerate([line for line in lines if line.name in peaks], start=1):
        highest = max(line.points, key=lambda point: -math.inf if math.isnan(point.high) else point.high)
        frame.draw_note(frame.x(_middle(highest)), frame.top + 14.0 * row, notes[line.name])
    frame.draw_failures(lines, first_row=len(notes) + 1)
    if not run.loss:
        frame.draw_no_steps()
    frame.draw_ends(ends)
    return frame.svg(_loss_words(run, ghost, levels, list(notes.values()), marks))


def _loss_range(lines: Sequence[_Line], levels: Mapping[str, float]) -> tuple[float, float, dict[str, float]]:
    """The ends of the axis, and for each line that leaves it at the top, how far it goes."""
    highs = {
        line.name: max((point.high for point in line.points if not math.isnan(point.high)), default=-math.inf)
        for line in lines
    }
    lows = [point.low for line in lines for point in line.points if not math.isnan(point.low)]
    own = [line for line in lines if not line.is_ghost] or lines
    means = [point.mean for line in own for point in line.points if math.isfinite(point.mean)]
    reference = max([*levels.values(), *([min(means)] if means else [])], default=0.0)
    cap = CAP * reference if reference > 0.0 else math.inf
    peaks = {name: high for name, high in highs.items() if high > cap}
    inside = [high for high in highs.values() if high <= cap and high > -math.inf]
    high = cap if peaks else max([*levels.values(), *inside], default=1.0)
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
    lines = [_Line("previous run", group, before.get(group, ()), is_ghost=True) for group in GROUPS]
    lines += [_Line(group, group, run.norms.get(group, ())) for group in GROUPS]
    return _log_chart("gradient norm", lines, marks, labelled_ends=True)


def update_chart(run: Curves, ghost: Curves | None, band: tuple[float, float], marks: Marks) -> str:
    """|update| / |weights| against the step, on a logarithmic axis, over the shaded ``band`` of healthy runs.

    Exactly 0 and not finite as in `norms_chart`. Raises ValueError where ``band`` is not 0 < low < high < inf.
    """
    if not 0.0 < band[0] < band[1] < math.inf:
        raise ValueError(f"band must be (low, high) with 0 < low < high; got {band}")
    lines = [
        _Line("previous run", "previous", ghost.update if ghost else (), is_ghost=True),
        _Line("this run", "update", run.update),
    ]
    return _log_chart("|update| / |weights|", lines, marks, band=band)


def _log_chart(
    title: str,
    lines: Sequence[_Line],
    marks: Marks,
    band: tuple[float, float] | None = None,
    labelled_ends: bool = False,
) -> str:
    lines, steps = _on_one_axis(lines, marks)
    own = [line for line in lines if not line.is_ghost]
    positive = [p.mean for line in lines for p in line.points if math.isfinite(p.mean) and p.mean > 0.0]
    positive += band or ()
    low, high = (min(positive), max(positive)) if positive else (1e-3, 1.0)
    decades = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = (decades[0], max(decades[1], decades[0] + 1))
    legend = (
        []
        if labelled_ends
        else [(line.stroke, f"{line.name} {_value(line.points[-1].mean)}") for line in own]
    )
    if any(line.is_ghost for line in lines):
        legend.append(("any" if labelled_ends else "previous", "previous run"))
    if band:
        legend.append(("band", f"healthy runs: {_band_words(band)}"))
    frame = _Frame(
        title=title,
        legend=legend,
        steps=steps,
        marks=marks,
        y_ticks=_log_ticks(*decades),
        right_room=32.0 + max(_width(line.name) for line in own) if labelled_ends and own else 0.0,
        floor=any(point.low == 0.0 for line in lines for point in line.points),
        ceiling=any(not math.isfinite(point.mean) for line in lines for point in line.points),
    )
    y = _Scale(decades[0], decades[1], frame.bottom, frame.top, log=True)
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
        places = {"zero": frame.floor_line + offset, "not finite": frame.ceiling_line - offset}
        kinds = [_kind(point.mean) for point in line.points]
        xs = frame.places(line.points)
        for kind, piece in _pieces(kinds):
            if kind == "positive":
                ys = y.many([point.mean for point in line.points[piece]])
            else:
                ys = [places[kind]] * len(xs[piece])
            frame.draw_line(line, xs[piece], ys)
        grazing = [
            x
            for x, point, kind in zip(xs, line.points, kinds, strict=True)
            if point.low == 0.0 and kind != "zero"
        ]
        if grazing:
            frame.draw_dots(line, grazing, [places["zero"]] * len(grazing))
        if not line.is_ghost:
            frame.draw_newest(line, xs[-1], ys[-1])
            ends.append((ys[-1], line.name, line.stroke))
    if labelled_ends:
        frame.draw_ends(ends)
    if not own:
        frame.draw_no_steps()
    return frame.svg(_log_words(title, own, len(own) < len(lines), band, marks))


def _kind(value: float) -> str:
    if 0.0 < value < math.inf:
        return "positive"
    return "zero" if value == 0.0 else "not finite"


class _Frame:
    """A chart while it is written: title and legend, the texts of the edits, axes, and room for labels beside.

    ``floor`` and ``ceiling`` ask for lines of their own under and over a logarithmic axis.
    """

    def __init__(
        self,
        title: str,
        legend: Sequence[tuple[str, str]],
        steps: tuple[float, float],
        marks: Marks,
        y_ticks: Sequence[tuple[float, str]],
        right_room: float = 0.0,
        floor: bool = False,
        ceiling: bool = False,
    ) -> None:
        self.parts: list[str] = []
        self._y_ticks, self._floor, self._ceiling = y_ticks, floor, ceiling
        tick_texts = [text for _, text in y_ticks] + ["exactly 0"] * floor + ["not finite"] * ceiling
        self.left = max(46.0, 12.0 + max(map(_width, tick_texts)))
        self.right = WIDTH - max(16.0, right_room)
        self.x = _Scale(*steps, self.left, self.right)
        rows = self._write_legend(title, legend)
        rows += self._write_marks(marks, 4.0 + ROW * rows)
        self.top = 8.0 + ROW * rows + (24.0 if ceiling else 0.0)
        self.bottom = HEIGHT - 22.0 - (26.0 if floor else 0.0)
        self.ceiling_line, self.floor_line = self.top - 9.0, self.bottom + 11.0
        self._draw_marks()

    def add(self, part: str) -> None:
        """Write one element."""
        self.parts.append(part)

    def text(self, x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> None:
        """Write a text on the line y, whole where it is short, else cut and whole in its tooltip."""
        shown = _shortened(text)
        tip = f"<title>{escaped(text)}</title>" if shown != text else ""
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        looks = f' class="{kind}"' if kind else ""
        self.add(f'<text{looks} x="{x:.1f}" y="{y:.1f}"{where}>{tip}{escaped(shown)}</text>')

    def _write_legend(self, title: str, legend: Sequence[tuple[str, str]]) -> int:
        """The title and what the lines mean, in as many rows as they need; returns their number."""
        self.text(4.0, 14.0, title)
        x, row = 4.0 + _width(title) + 14.0, 1
        for stroke, text in legend:
            room = 28.0 + _width(text)
            if x + room > WIDTH and x > 4.0:
                x, row = 4.0, row + 1
            y = 14.0 + ROW * (row - 1)
            if stroke == "band":
                self.add(f'<rect class="band healthy" x="{x:.1f}" y="{y - 9.0:.1f}" width="20" height="10"/>')
            else:
                kind = "ghost" if text == "previous run" else "line"
                self.add(f'<path class="{kind} {stroke}" fill="none" d="M{x:.1f} {y - 4.0:.1f}h20"/>')
            self.add(f'<text x="{x + 25.0:.1f}" y="{y:.1f}">{escaped(text)}</text>')
            x += room + 12.0
        return row

    def _write_marks(self, marks: Marks, top: float) -> int:
        """Texts of the latest edits over the plot, where they do not meet; returns the rows that they take."""
        taken: list[list[tuple[float, float]]] = [[], []]
        # Where the line of an edit in the upper row passes the lower one.
        uppers: list[float] = []
        labels: list[tuple[int, float, str, str]] = []
        for step, text in list(reversed(marks))[:MOST_MARKS_LABELLED]:
            x, width = self.x(step), _width(_shortened(text))
            for row, anchor in ((0, "start"), (1, "start"), (0, "end"), (1, "end")):
                left = x + 4.0 if anchor == "start" else x - 4.0 - width
                span = (min(left, x) - 3.0, max(left + width, x) + 3.0)
                inside = left >= 0.0 and left + width <= WIDTH
                free = all(span[1] < one or other < span[0] for one, other in taken[row])
                if row == 0:
                    clear = not any(span[0] <= upper <= span[1] for upper in uppers)
                else:
                    clear = all(x < one or other < x for one, other in taken[0])
                if inside and free and clear:
                    taken[row].append(span)
                    uppers += [x] * row
                    labels.append((row, x, text, anchor))
                    break
        rows = 1 + max((row for row, *_ in labels), default=-1)
        self._marks = [(self.x(step), text, -1.0) for step, text in marks]
        for row, x, text, anchor in labels:
            # Row 0 is next to the plot, so that no line crosses the text of another edit.
            base = top + ROW * (rows - row) - 4.0
            self.text(x + (4.0 if anchor == "start" else -4.0), base, text, anchor, kind="note")
            self._marks = [(a, b, base - 10.0 if (a, b) == (x, text) else c) for a, b, c in self._marks]
        return rows

    def _draw_marks(self) -> None:
        for x, text, top in self._marks:
            start = self.top if top < 0.0 else top
            tip = f"<title>{escaped(text)}</title>"
            self.add(
                f'<path class="thin mark" fill="none" d="M{x:.1f} {start:.1f}V{HEIGHT - 22.0:.1f}">{tip}</path>'
            )

    def draw_axes(self, y: _Scale) -> None:
        """Grid, ticks with their numbers, and the names of the lines for what the axis cannot hold."""
        grid, left, right = [], self.left, self.right
        for value, text in self._y_ticks:
            height = y(value)
            grid.append(f"M{left:.1f} {height:.1f}H{right:.1f}")
            self.text(left - 6.0, height + 4.5, text, "end")
        base = HEIGHT - 22.0
        ticks = []
        room = _width(f"{self.x.high:.0f}") + 14.0
        most = max(2, min(6, int((right - left) / room)))
        for value in _round_numbers(self.x.low, self.x.high, most, least=1.0):
            text = _step_tick(value)
            place = self.x(value)
            ticks.append(f"M{place:.1f} {base:.1f}v4")
            if left - 18.0 < place - _width(text) / 2.0 and place + _width(text) / 2.0 <= WIDTH:
                self.text(place, HEIGHT - 5.0, text, "middle")
        self.text(left - 18.0, HEIGHT - 5.0, "step", "end")
        self.add(f'<path class="grid" fill="none" d="{"".join(grid)}"/>')
        axis = (
            f"M{left:.1f} {self.top:.1f}V{self.bottom:.1f}M{left:.1f} {base:.1f}H{right:.1f}{''.join(ticks)}"
        )
        self.add(f'<path class="axis" fill="none" d="{axis}"/>')
        if self._floor:
            self.text(left - 6.0, self.floor_line + 9.0, "exactly 0", "end")
        if self._ceiling:
            self.text(left - 6.0, self.ceiling_line - 1.0, "not finite", "end")

    def places(self, points: Sequence[Point]) -> list[float]:
        """Where the points stand on the axis of steps: in the middle of their stretches."""
        return self.x.many([_middle(point) for point in points])

    def draw_band(self, xs: Sequence[float], points: Sequence[Point], y: _Scale) -> None:
        """The area from lowest to highest, where stretches hold more than one value."""
        if all(point.low == point.high for point in points):
            return
        upper = _path(xs, y.many([point.high for point in points]))
        lower = _path(xs[::-1], y.many([point.low for point in reversed(points)]))
        self.add(f'<path class="band training" d="M{upper}L{lower}Z"/>')

    def draw_line(self, line: _Line, xs: Sequence[float], ys: Sequence[float], dots: bool = False) -> None:
        """A line through the places; a dot where there is one alone, and at each where asked for."""
        if len(xs) > 1:
            kind = "ghost" if line.is_ghost else "line"
            self.add(f'<path class="{kind} {line.stroke}" fill="none" d="M{_path(xs, ys)}"/>')
        if len(xs) == 1 or dots:
            self.draw_dots(line, xs, ys)

    def draw_dots(self, line: _Line, xs: Sequence[float], ys: Sequence[float]) -> None:
        """A dot at every place."""
        dots = "".join(f"M{x:.1f} {y:.1f}h.01" for x, y in zip(xs, ys, strict=True))
        self.add(f'<path class="{"small " * line.is_ghost}dots {line.stroke}" d="{dots}"/>')

    def draw_newest(self, line: _Line, x: float, y: float) -> None:
        """A dot where a run stands now."""
        self.draw_dots(line, [x], [y])

    def draw_no_steps(self) -> None:
        """The words of a chart without a run."""
        middle = (self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0
        self.text(*middle, "no steps yet", "middle", "note")

    def draw_note(self, x: float, y: float, text: str) -> None:
        """Words inside the plot, near x and not over its edges."""
        half = _width(text) / 2.0
        middle = min(max(x, self.left + half + 4.0), max(self.right - half, self.left + half + 4.0))
        shown = escaped(text)
        self.add(f'<text class="note" x="{middle:.1f}" y="{y:.1f}" text-anchor="middle">{shown}</text>')

    def draw_failures(self, lines: Sequence[_Line], first_row: int) -> None:
        """The steps at which a loss is not finite: shaded, with words at the first of them."""
        row = first_row
        for line in lines:
            kinds = ["finite" if math.isfinite(point.mean) else "not finite" for point in line.points]
            failures = [line.points[piece] for kind, piece in _pieces(kinds) if kind == "not finite"]
            if not failures or line.is_ghost:
                continue
            for stretch in failures:
                left, right = self.x(stretch[0].first - 0.5), self.x(stretch[-1].last + 0.5)
                self.add(
                    f'<rect class="band alarm" x="{left:.1f}" y="{self.top:.1f}" '
                    f'width="{max(right - left, 2.0):.1f}" height="{self.bottom - self.top:.1f}"/>'
                )
            middle = (self.x(failures[0][0].first) + self.x(failures[0][-1].last)) / 2.0
            self.draw_note(middle, self.top + 14.0 * row, f"{line.name} {_failure_note(line.points)}")
            row += 1

    def draw_ends(self, ends: Sequence[tuple[float, str, str]]) -> None:
        """Labels beside the plot at heights that do not meet, each with its stroke where it has one."""
        ordered = sorted(ends, key=lambda end: end[0])
        heights = _apart([height for height, _, _ in ordered], self.top, HEIGHT - 24.0)
        for (height, text, stroke), place in zip(ordered, heights, strict=True):
            x = self.right + 8.0
            if abs(place - height) > 3.0:
                self.add(
                    f'<path class="axis" fill="none" d="M{self.right + 1:.1f} {height:.1f}L{x - 1:.1f} {place:.1f}"/>'
                )
            if stroke:
                self.add(f'<path class="line {stroke}" fill="none" d="M{x:.1f} {place:.1f}h18"/>')
                x += 22.0
            self.text(x, place + 4.5, text)

    def svg(self, words: str) -> str:
        """The whole picture."""
        return (
            f'<svg class="cllm-chart" viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" font-size="{FONT:g}" role="img" '
            f'aria-label="{escaped(words)}" xmlns="http://www.w3.org/2000/svg">'
            f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" fill="none"/>{"".join(self.parts)}</svg>'
        )


def _on_one_axis(lines: Sequence[_Line], marks: Marks) -> tuple[list[_Line], tuple[float, float]]:
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
    shown = [replace(line, points=tuple(p for p in line.points if p.last <= last)) for line in lines]
    return [line for line in shown if line.points], (float(first), float(last))


def _pieces(kinds: Sequence[str]) -> Iterator[tuple[str, slice]]:
    """Where neighbours are of one kind, in order."""
    start = 0
    for kind, group in groupby(kinds):
        stop = start + sum(1 for _ in group)
        yield kind, slice(start, stop)
        start = stop


def _path(xs: Sequence[float], ys: Sequence[float]) -> str:
    # One format for all points: a chart is written several times a second.
    flat = [number for place in zip(xs, ys, strict=True) for number in place]
    return "L".join(["%.1f %.1f"] * len(xs)) % tuple(flat)


def _apart(heights: Sequence[float], top: float, bottom: float) -> list[float]:
    """Ascending heights moved until neighbours are a row apart, within top and bottom where they fit."""
    gap = min(ROW - 2.0, (bottom - top) / max(len(heights) - 1, 1))
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, top, placed[-1] + gap if placed else top))
    limit = bottom
    for place in range(len(placed) - 1, -1, -1):
        placed[place] = limit = min(placed[place], limit)
        limit -= gap
    return placed


def _linear_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Some six round numbers from low to high, with their texts."""
    return [(value, _tick(value)) for value in _round_numbers(low, high, 5)]


def _round_numbers(low: float, high: float, most: int, least: float = 0.0) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, at most ``most`` + 1, and ``least`` or more apart."""
    rough = max((high - low) / most, least)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= rough * (1.0 - 1e-9))
    return [place * step for place in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: int, high: int) -> list[tuple[float, str]]:
    """Decades from low to high, at most seven, with 2 and 5 between them where there is only one."""
    powers = range(low, high + 1, math.ceil((high - low) / 6))
    factors = (1, 2, 5) if high - low == 1 else (1,)
    # Read from text: at the ends of what a float can hold, a product would be rounded to 0 or to infinity.
    values = [
        float(f"{factor}e{power}") for power in powers for factor in factors if power < high or factor == 1
    ]
    return [(value, _tick(value)) for value in values if 0.0 < value < math.inf]


def _tick(value: float) -> str:
    return _plain(f"{value:.3e}") if abs(value) >= 1e4 or 0.0 < abs(value) < 0.0099 else f"{value:g}"


def _step_tick(value: float) -> str:
    if value >= 1e6 and value % 1e4 == 0.0:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e4 and value % 100.0 == 0.0 else f"{value:.0f}"


def _plain(number: str) -> str:
    """A number with a power of ten without the zeros that say nothing: 3.1e-04 becomes 3.1e-4."""
    mantissa, _, exponent = number.partition("e")
    return f"{float(mantissa):g}e{int(exponent)}" if exponent else number


def _width(text: str) -> float:
    return CHARACTER * sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _shortened(text: str) -> str:
    text = printable(text)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def _middle(point: Point) -> float:
    return (point.first + point.last) / 2.0


def _short(value: float) -> str:
    if not math.isfinite(value):
        return _failure(value)
    return f"{value:.2f}" if 0.01 <= abs(value) < 1e3 or value == 0.0 else _plain(f"{value:.2g}")


def _loss_words(
    run: Curves, ghost: Curves | None, levels: Mapping[str, float], notes: Sequence[str], marks: Marks
) -> str:
    sentences = [f"Loss in nats per token, {_span(run.loss)}."]
    for name, points in (("Training", run.loss), ("Validation", run.validation)):
        finite = [point for point in points if math.isfinite(point.mean)]
        if finite:
            lowest, now = min(finite, key=lambda point: point.mean), finite[-1]
            sentences.append(
                f"{name}: {_short(finite[0].mean)} at the start, {_short(now.mean)} at {_steps_words(now)}, lowest "
                f"{_short(lowest.mean)} at {_steps_words(lowest)}{_relation(now.mean, levels)}."
            )
        if len(finite) < len(points):
            sentences.append(f"{name}: {_failure_words(points)}.")
    if ghost and ghost.loss:
        sentences.append(_ghost_words(ghost.loss, run.loss[-1].last if run.loss else 0))
    sentences += [f"{note[0].upper()}{note[1:]}." for note in notes]
    if levels:
        sentences.append("Levels: " + ", ".join(f"{n} {level:.2f}" for n, level in levels.items()) + ".")
    return " ".join(sentences + _mark_words(marks))


def _ghost_words(points: Sequence[Point], step: int) -> str:
    """The loss of the previous run at the step that the run has reached, and at its end."""
    alike = [point for point in points if point.first <= step <= point.last]
    then = (
        f"{_short(alike[0].mean)} at {_steps_words(alike[0])}, "
        if alike and alike[0] is not points[-1]
        else ""
    )
    return f"Previous run: {then}{_short(points[-1].mean)} at its end, step {points[-1].last}."


def _relation(loss: float, levels: Mapping[str, float]) -> str:
    """Where a loss lies beside the nearest level."""
    if not levels:
        return ""
    name = min(levels, key=lambda level: abs(levels[level] - loss))
    apart = loss - levels[name]
    if abs(apart) < SAME_LEVEL:
        return f"; that is {name} ({levels[name]:.2f})"
    return f"; {_short(abs(apart))} {'above' if apart > 0.0 else 'below'} {name} ({levels[name]:.2f})"


def _log_words(
    title: str, lines: Sequence[_Line], has_ghost: bool, band: tuple[float, float] | None, marks: Marks
) -> str:
    sentences = [f"{title.capitalize()} on a logarithmic axis, {_span(lines[0].points if lines else ())}."]
    described: dict[str, list[str]] = {}
    for line in lines:
        described.setdefault(_log_line_words(line.points, band), []).append(line.name)
    sentences += [f"{', '.join(names)}: {words}." for words, names in described.items()]
    if band:
        sentences.append(f"Healthy runs: {_band_words(band)}.")
    if has_ghost:
        sentences.append("The previous run is shown too.")
    return " ".join(sentences + _mark_words(marks))


def _log_line_words(points: Sequence[Point], band: tuple[float, float] | None) -> str:
    kinds = [_kind(point.mean) for point in points]
    if set(kinds) == {"zero"}:
        return "exactly 0 at every step"
    parts = [] if kinds[0] == "not finite" else [f"{_value(points[0].mean)} at the start"]
    newest = points[-1].mean
    if kinds[-1] != "not finite":
        parts.append(f"{_value(newest)} now")
    if band and kinds[-1] == "positive":
        where = "below" if newest < band[0] else "above" if newest > band[1] else "inside"
        parts.append(f"{where} the band of healthy runs")
    zeros = [point for point in points if point.low == 0.0]
    if zeros and kinds[-1] != "zero":
        parts.append(f"exactly 0 last at {_steps_words(zeros[-1])}")
    if "not finite" in kinds:
        parts.append(_failure_words(points))
    return ", ".join(parts)


def _value(value: float) -> str:
    if not math.isfinite(value):
        return _failure(value)
    return "exactly 0" if value == 0.0 else _plain(f"{value:.2g}")


def _failure(value: float) -> str:
    return "NaN" if math.isnan(value) else "infinite"


def _band_words(band: tuple[float, float]) -> str:
    return " to ".join(_plain(f"{edge:.1e}") for edge in band)


def _failure_words(points: Sequence[Point]) -> str:
    """From which steps on, or at which, a curve is not finite."""
    failures = [point for point in points if not math.isfinite(point.mean)]
    to_the_end = all(not math.isfinite(point.mean) for point in points[points.index(failures[0]) :])
    kinds = " and ".join(sorted({_failure(point.mean) for point in failures}))
    if to_the_end:
        return f"{kinds} from {_steps_words(failures[0])} on"
    if len(failures) == 1:
        return f"{kinds} at {_steps_words(failures[0])}"
    return f"{kinds} first at {_steps_words(failures[0])}, last at {_steps_words(failures[-1])}"


def _failure_note(points: Sequence[Point]) -> str:
    """The same for inside the picture, in fewer words."""
    failures = [point for point in points if not math.isfinite(point.mean)]
    first, kind = failures[0], _failure(failures[0].mean)
    steps = f"step {first.first}" if first.first == first.last else f"{first.first}–{first.last}"
    if all(not math.isfinite(point.mean) for point in points[points.index(first) :]):
        return f"{kind} from {steps} on"
    return f"{kind} at {steps}" if len(failures) == 1 else f"{kind} first at {steps}"


def _steps_words(point: Point) -> str:
    return f"step {point.first}" if point.first == point.last else f"steps {point.first} to {point.last}"


def _span(points: Sequence[Point]) -> str:
    if not points:
        return "no steps yet"
    first, last = points[0].first, points[-1].last
    return f"step {first}" if first == last else f"steps {first} to {last}"


def _mark_words(marks: Marks) -> list[str]:
    return ["Changed: " + "; ".join(f"step {step}, {text}" for step, text in marks) + "."] if marks else []
