"""Effects with their confidence, a row an arm and a panel a corpus: what a comparison of machines has found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.typing import ColorType

from cllm_lab.trials.result import Ablation
from cllm_lab.views.picture import COLOURS, REFERENCE_COLOUR, Picture, drawing

# What a row's columns are called, by what the machines had alike.
PREFIXES = {"steps": "", "time": "time_", "time as run": "as_run_"}
MARKERS = {"better": "o", "worse": "s", "no difference shown": "D", "identical": "|", "diverged": "X"}
VERDICT_COLOURS = dict(zip(MARKERS, (COLOURS[0], COLOURS[1], "0.15", "black", COLOURS[2]), strict=True))
HOLLOW = "no difference shown"
CONTROL_COLOUR = "0.55"
BAND_COLOUR = "0.91"
# Effects beyond so many smallest detectable ones would press all others together; they are written at the edge.
WIDEST = 3.0
MOST_NAMED = 4
WIDTH, TOP, BOTTOM, ROW = 9.9, 0.35, 1.0, 0.195
# Inches of a letter of a label, on average.
LETTER = 0.064


@dataclass(frozen=True)
class _Line:
    """A row of the picture: its key in the figures of a corpus, what is written beside it, whether it is a control."""

    key: Any
    text: str
    control: bool = False


Figures = Mapping[Any, Mapping[str, Any]]


def effect_forest(found: Ablation, at: str = "steps") -> Picture:
    """Arm minus baseline of every arm, in nats with the 95 % interval, a panel a corpus; below 0 is better.

    ``at``: "steps", "time" (through the single parts) or "time as run", what the machines had alike. Colour and marker
    say the verdict, which is corrected for many comparisons; grey rows under an arm are its controls. The shaded band
    of a row holds the effects that would have been missed more often than the power says. An effect far outside
    stands at the edge with its number.
    Raises ValueError for another ``at`` and for a comparison without arms.
    """
    if at not in PREFIXES:
        raise ValueError(f"at must be one of {', '.join(map(repr, PREFIXES))}; got {at!r}")
    if not found.data["rows"]:
        raise ValueError("found must hold at least one arm beside the baseline")
    prefix = PREFIXES[at]
    names = ("effect", "low", "high", "detectable", "verdict")
    panels: dict[str, dict[Any, dict[str, Any]]] = {}
    for row in found.data["rows"]:
        panels.setdefault(row["corpus"], {})[row["arm"]] = {name: row[f"{prefix}{name}"] for name in names}
    lines = _arms_with_controls(found)
    picture = _drawn(panels, lines, f"arm - baseline at equal {at}")
    picture.words = "\n".join(
        f"{corpus}, at equal {at}: {_summary(figures, [line for line in lines if not line.control])}"
        + _of_controls(figures, [line for line in lines if line.control])
        for corpus, figures in panels.items()
    )
    return picture


def control_forest(found: Ablation) -> Picture:
    """Arm minus its control, in nats at equal steps: what is left of an effect once the lattice is all that differs.

    Drawn as by `effect_forest`. Raises ValueError for a comparison without controls.
    """
    if not found.data["controls"]:
        raise ValueError("found has no controls; an Arm with control_of is one")
    panels: dict[str, dict[Any, dict[str, Any]]] = {}
    for row in found.data["controls"]:
        panels.setdefault(row["corpus"], {})[row["arm"], row["control"]] = row
    keys = list(next(iter(panels.values())))
    lines = [_Line((arm, control), f"{arm} - {_short(control, arm)}") for arm, control in keys]
    picture = _drawn(panels, lines, "arm - its control at equal steps")
    picture.words = "\n".join(
        f"{corpus}, against controls: {_summary(figures, lines)}" for corpus, figures in panels.items()
    )
    return picture


def _arms_with_controls(found: Ablation) -> list[_Line]:
    """Arms in their order, each control after the last arm that it controls."""
    arms = {arm["name"]: arm for arm in found.data["settings"]["arms"][1:]}
    lines: list[_Line] = []
    for name, arm in arms.items():
        if arm["control_of"]:
            continue
        lines.append(_Line(name, name))
        shown = {line.key for line in lines}
        for control, other in arms.items():
            if name in other["control_of"] and shown.issuperset(other["control_of"]):
                lines.append(_Line(control, _short(control, name), control=True))
    shown = {line.key for line in lines}
    return lines + [_Line(name, name, control=True) for name in arms if name not in shown]


def _short(control: str, arm: str) -> str:
    return control.removeprefix(f"{arm}, ")


def _drawn(panels: Mapping[str, Figures], lines: Sequence[_Line], x_label: str) -> Picture:
    height = TOP + ROW * len(lines) + BOTTOM
    between = 0.12
    left = 0.15 + LETTER * max(len(line.text) for line in lines)
    width = (WIDTH - left - between * len(panels)) / len(panels)
    shown: set[str] = set()
    with drawing(WIDTH, height) as picture:
        for place, (corpus, figures) in enumerate(panels.items()):
            x = left + place * (width + between)
            axes = picture.add_axes((x / WIDTH, BOTTOM / height, width / WIDTH, ROW * len(lines) / height))
            axes.set_title(corpus, loc="left", parse_math=False)
            shown |= _panel(axes, figures, lines)
            axes.set_yticks(range(len(lines)), [line.text if place == 0 else "" for line in lines])
            for label, line in zip(axes.get_yticklabels(), lines, strict=True):
                label.set(
                    fontsize=8.0 if line.control else 8.5,
                    color=CONTROL_COLOUR if line.control else "black",
                    parse_math=False,
                )
            axes.tick_params(axis="y", length=0)
        middle = (left + WIDTH) / 2
        picture.text(middle / WIDTH, 0.42 / height, f"{x_label} (nats; below 0 is better)", ha="center")
        picture.legend(
            handles=_handles(shown, any(line.control for line in lines)),
            loc="lower center",
            ncols=len(shown) + 2,
            fontsize=8.5,
            columnspacing=1.2,
            handletextpad=0.4,
        )
    return picture


def _panel(axes: Axes, figures: Figures, lines: Sequence[_Line]) -> set[str]:
    """Draws the rows of a corpus; gives the verdicts that occur."""
    limit = _limit(figures)
    axes.set(xlim=(-limit, limit), ylim=(len(lines) - 0.5, -0.5))
    axes.grid(False, axis="y")
    axes.tick_params(axis="x", labelsize=8.0)
    axes.locator_params(axis="x", nbins=4)
    axes.axvline(0.0, color=REFERENCE_COLOUR, linewidth=1.0)
    for y, line in enumerate(lines):
        one = figures[line.key]
        colour = CONTROL_COLOUR if line.control else VERDICT_COLOURS[one["verdict"]]
        if one["effect"] is None:
            axes.plot(limit * 0.93, y, "X", color=colour, markersize=5.5)
            continue
        axes.barh(y, 2.0 * one["detectable"], 1.0, -one["detectable"], color=BAND_COLOUR, zorder=0.5)
        axes.plot([one["low"], one["high"]], [y, y], color=colour, linewidth=1.3)
        if abs(one["effect"]) > limit:
            _at_edge(axes, y, one["effect"], limit, colour)
            continue
        face = "white" if one["verdict"] == HOLLOW else colour
        axes.plot(
            one["effect"],
            y,
            MARKERS[one["verdict"]],
            color=colour,
            markerfacecolor=face,
            markersize=8.0 if one["verdict"] == "identical" else 4.5,
        )
    return {figures[line.key]["verdict"] for line in lines}


def _limit(figures: Figures) -> float:
    """How far from 0 a panel reaches: to the farthest end of an interval, but not over `WIDEST` detectable effects."""
    finite = [one for one in figures.values() if one["effect"] is not None]
    farthest = max((max(-one["low"], one["high"], one["detectable"]) for one in finite), default=0.0)
    typical = median([one["detectable"] for one in finite]) if finite else 0.0
    return 1.08 * (min(farthest, WIDEST * typical) or farthest or 1.0)


def _at_edge(axes: Axes, y: int, effect: float, limit: float, colour: ColorType) -> None:
    side = math.copysign(1.0, effect)
    axes.plot(side * limit * 0.96, y, ">" if side > 0.0 else "<", color=colour, markersize=5.0)
    axes.text(
        side * limit * 0.87,
        y,
        _signed(effect),
        ha="right" if side > 0.0 else "left",
        va="center",
        fontsize=7.5,
        color=colour,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.3},
    )


def _handles(shown: set[str], with_controls: bool) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=marker,
            color=VERDICT_COLOURS[verdict],
            markerfacecolor="white" if verdict == HOLLOW else VERDICT_COLOURS[verdict],
            markersize=5.5,
            label=verdict,
        )
        for verdict, marker in MARKERS.items()
        if verdict in shown
    ]
    if with_controls:
        handles.append(Line2D([], [], color=CONTROL_COLOUR, linewidth=2.0, label="a control"))
    return [*handles, Patch(facecolor=BAND_COLOUR, label="too small to be found")]


def _summary(figures: Figures, lines: Sequence[_Line]) -> str:
    counts = Counter(figures[line.key]["verdict"] for line in lines)
    parts = []
    for verdict in MARKERS:
        if not counts[verdict] and verdict not in ("better", "worse"):
            continue
        part = f"{counts[verdict]} {verdict}"
        if counts[verdict] and verdict in ("better", "worse"):
            part += (
                f" ({_named(figures, [line for line in lines if figures[line.key]['verdict'] == verdict])})"
            )
        parts.append(part)
    found = [one["detectable"] for line in lines if (one := figures[line.key])["detectable"]]
    power = f"; {median(found):.2g} nats would have been found (the median)" if found else ""
    return f"{', '.join(parts)}{power}."


def _named(figures: Figures, lines: Sequence[_Line]) -> str:
    """The rows with the largest effects, with these."""
    ordered = sorted(lines, key=lambda line: -abs(figures[line.key]["effect"]))
    named = [f"{line.text} {_signed(figures[line.key]['effect'])}" for line in ordered[:MOST_NAMED]]
    return ", ".join([*named, *(["..."] if len(ordered) > MOST_NAMED else [])])


def _of_controls(figures: Figures, lines: Sequence[_Line]) -> str:
    if not lines:
        return ""
    counts = Counter(figures[line.key]["verdict"] for line in lines)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in MARKERS if counts[verdict])
    return f" Of {len(lines)} controls: {said}."


def _signed(effect: float) -> str:
    """With a sign, to two digits that say something."""
    return f"{effect:+.{max(0, 1 - math.floor(math.log10(abs(effect))))}f}" if effect else "0"
