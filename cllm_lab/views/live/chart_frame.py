"""What every chart of curves is drawn with: scales, ticks, lines, labels that do not meet, and the frame around them.

Lengths are in units of the picture, WIDTH x HEIGHT.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final
from unicodedata import east_asian_width

import numpy as np
from numpy.typing import NDArray

from cllm_lab.views.live.chart_words import Marks, failure_note, plain
from cllm_lab.views.live.series import Point
from cllm_lab.views.live.style import escaped, printable

WIDTH, HEIGHT = 480, 270
# Where the axis of steps lies, with room for its numbers.
BASE = HEIGHT - 25.0
FONT = 13.0
ROW = 16.0
# The mean width of a character in the widest of the common fonts, so that a label never takes more than its room.
CHARACTER = 0.6 * FONT
LONGEST_TEXT = 30
MOST_MARKS_LABELLED = 4
# The numbers of a path, tenth by tenth: to look one up is a fifth of the work of writing it.
TENTHS: Final = [f"{tenths / 10:.1f}" for tenths in range(10 * max(WIDTH, HEIGHT) + 1)]

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scale:
    """From a number to a place on the picture; out of range is held at the edge."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of one number."""
        return float(self.many(np.array([value]))[0])

    def many(self, values: Numbers) -> Numbers:
        """The places of many numbers; NaN stays NaN."""
        unit = (self.end - self.start) / (self.high - self.low)
        # What overflows is held at the edge like everything out of range.
        with np.errstate(over="ignore"):
            places = self.start + ((np.log10(values) if self.log else values) - self.low) * unit
        return np.clip(places, min(self.start, self.end), max(self.start, self.end))


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a chart: what it is called in the picture, its stroke, its points."""

    name: str
    stroke: str
    points: tuple[Point, ...]
    is_ghost: bool = False

    @cached_property
    def means(self) -> Numbers:
        """The mean of every point."""
        return np.array([point.mean for point in self.points])

    @cached_property
    def lows(self) -> Numbers:
        """The lowest finite value of every point, NaN where there is none."""
        return np.array([point.low for point in self.points])

    @cached_property
    def highs(self) -> Numbers:
        """The highest finite value of every point, NaN where there is none."""
        return np.array([point.high for point in self.points])

    @cached_property
    def steps(self) -> Numbers:
        """The step in the middle of every point's stretch."""
        return np.array([point.first + point.last for point in self.points]) / 2.0


class Frame:
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
        self.left = max(46.0, 12.0 + max(map(width_of, tick_texts)))
        self.right = WIDTH - max(16.0, right_room)
        self.x = Scale(*steps, self.left, self.right)
        rows = self._write_legend(title, legend)
        rows += self._write_marks(marks, 4.0 + ROW * rows)
        self.top = 8.0 + ROW * rows + (24.0 if ceiling else 0.0)
        self.bottom = BASE - (26.0 if floor else 0.0)
        self.ceiling_line, self.floor_line = self.top - 9.0, self.bottom + 11.0
        self._draw_marks()

    def add(self, part: str) -> None:
        """Write one element."""
        self.parts.append(part)

    def text(self, x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> None:
        """Write a text on the line y, whole where it is short, else cut and whole in its tooltip."""
        shown = shortened(text)
        tip = f"<title>{escaped(text)}</title>" if shown != text else ""
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        looks = f' class="{kind}"' if kind else ""
        self.add(f'<text{looks} x="{x:.1f}" y="{y:.1f}"{where}>{tip}{escaped(shown)}</text>')

    def _write_legend(self, title: str, legend: Sequence[tuple[str, str]]) -> int:
        """The title and what the lines mean, in as many rows as they need; returns their number."""
        self.text(4.0, 14.0, title)
        x, row = 4.0 + width_of(title) + 14.0, 1
        for stroke, text in legend:
            room = 28.0 + width_of(text)
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
            x, width = self.x(step), width_of(shortened(text))
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
            self.add(f'<path class="thin mark" fill="none" d="M{x:.1f} {start:.1f}V{BASE:.1f}">{tip}</path>')

    def draw_axes(self, y: Scale) -> None:
        """Grid, ticks with their numbers, and the names of the lines for what the axis cannot hold."""
        grid, left, right = [], self.left, self.right
        for value, text in self._y_ticks:
            height = y(value)
            grid.append(f"M{left:.1f} {height:.1f}H{right:.1f}")
            self.text(left - 6.0, height + 4.5, text, "end")
        base = BASE
        ticks = []
        room = width_of(f"{self.x.high:.0f}") + 14.0
        most = max(2, min(6, int((right - left) / room)))
        for value in _round_numbers(self.x.low, self.x.high, most, least=1.0):
            text = _step_tick(value)
            place = self.x(value)
            ticks.append(f"M{place:.1f} {base:.1f}v4")
            if left - 18.0 < place - width_of(text) / 2.0 and place + width_of(text) / 2.0 <= WIDTH:
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

    def draw_band(self, xs: Numbers, lows: Numbers, highs: Numbers) -> None:
        """The area between two rows of places, where they differ."""
        if (lows != highs).any():
            upper, lower = _path(xs, highs), _path(xs[::-1], lows[::-1])
            self.add(f'<path class="band training" d="M{upper}L{lower}Z"/>')

    def draw_line(self, line: Line, xs: Numbers, ys: Numbers, dots: bool = False) -> None:
        """A line through the places; a dot where there is one alone, and at each where asked for."""
        if len(xs) > 1:
            kind = "ghost" if line.is_ghost else "line"
            self.add(f'<path class="{kind} {line.stroke}" fill="none" d="M{_path(xs, ys)}"/>')
        if len(xs) == 1 or dots:
            self.draw_dots(line, xs, ys)

    def draw_dots(self, line: Line, xs: Iterable[float], ys: Iterable[float]) -> None:
        """A dot at every place."""
        dots = "".join(f"M{x:.1f} {y:.1f}h.01" for x, y in zip(xs, ys, strict=True))
        self.add(f'<path class="{"small " * line.is_ghost}dots {line.stroke}" d="{dots}"/>')

    def draw_newest(self, line: Line, x: float, y: float) -> None:
        """A dot where a run stands now."""
        self.draw_dots(line, [x], [y])

    def draw_no_steps(self) -> None:
        """The words of a chart without a run."""
        middle = (self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0
        self.text(*middle, "no steps yet", "middle", "note")

    def draw_note(self, x: float, y: float, text: str) -> None:
        """Words inside the plot, near x and not over its edges."""
        half = width_of(text) / 2.0
        middle = min(max(x, self.left + half + 4.0), max(self.right - half, self.left + half + 4.0))
        shown = escaped(text)
        self.add(f'<text class="note" x="{middle:.1f}" y="{y:.1f}" text-anchor="middle">{shown}</text>')

    def draw_failures(self, lines: Sequence[Line], first_row: int) -> None:
        """The steps at which a loss is not finite: shaded, with words at the first of them."""
        row = first_row
        for line in lines:
            failures = [line.points[piece] for failed, piece in pieces(~np.isfinite(line.means)) if failed]
            if not failures or line.is_ghost:
                continue
            for stretch in failures:
                left, right = self.x(stretch[0].first - 0.5), self.x(stretch[-1].last + 0.5)
                self.add(
                    f'<rect class="band alarm" x="{left:.1f}" y="{self.top:.1f}" '
                    f'width="{max(right - left, 2.0):.1f}" height="{self.bottom - self.top:.1f}"/>'
                )
            middle = (self.x(failures[0][0].first) + self.x(failures[0][-1].last)) / 2.0
            self.draw_note(middle, self.top + 14.0 * row, f"{line.name} {failure_note(line.points)}")
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


def pieces(kinds: NDArray[Any]) -> Iterator[tuple[Any, slice]]:
    """Where neighbours are of one kind, in order."""
    edges = [0, *(np.flatnonzero(kinds[1:] != kinds[:-1]) + 1).tolist(), len(kinds)]
    for start, stop in pairwise(edges):
        yield kinds[start], slice(start, stop)


def _path(xs: Numbers, ys: Numbers) -> str:
    tenths = (np.rint(10.0 * places).astype(int).tolist() for places in (xs, ys))
    return "L".join([f"{TENTHS[x]} {TENTHS[y]}" for x, y in zip(*tenths, strict=True)])


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


def linear_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Some six round numbers from low to high, with their texts."""
    return [(value, _tick(value)) for value in _round_numbers(low, high, 5)]


def _round_numbers(low: float, high: float, most: int, least: float = 0.0) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, at most ``most`` + 1, and ``least`` or more apart."""
    rough = max((high - low) / most, least)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= rough * (1.0 - 1e-9))
    return [place * step for place in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: int, high: int) -> list[tuple[float, str]]:
    """Decades from low to high, at most seven, with 2 and 5 between them where there is only one."""
    powers = range(low, high + 1, math.ceil((high - low) / 6))
    factors = (1, 2, 5) if high - low == 1 else (1,)
    # Read from text: at the ends of what a float can hold, a product would be rounded to 0 or to infinity.
    values = [
        float(f"{factor}e{power}") for power in powers for factor in factors if power < high or factor == 1
    ]
    return [(value, _tick(value)) for value in values if 0.0 < value < math.inf]


def _tick(value: float) -> str:
    return plain(f"{value:.3e}") if abs(value) >= 1e4 or 0.0 < abs(value) < 0.0099 else f"{value:g}"


def _step_tick(value: float) -> str:
    if value >= 1e6 and value % 1e4 == 0.0:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e4 and value % 100.0 == 0.0 else f"{value:.0f}"


def width_of(text: str) -> float:
    """The room that a text may take."""
    return CHARACTER * sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def shortened(text: str) -> str:
    """A text that can be printed, cut where it is too long for a chart."""
    text = printable(text)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def middle_of(point: Point) -> float:
    """The step in the middle of a stretch."""
    return (point.first + point.last) / 2.0
