"""What the bench's curves say in words, for a screen reader, and how their numbers are written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cllm_lab.views.live.series import Curves, Point
from cllm_lab.views.thresholds import SAME_LEVEL

Marks = Sequence[tuple[int, str]]


def loss_words(
    run: Curves, ghost: Curves | None, levels: Mapping[str, float], notes: Sequence[str], marks: Marks
) -> str:
    """What the chart of the loss shows; ``notes``: what leaves it at the top."""
    sentences = [f"Loss in nats per token, {_span(run.loss)}."]
    for name, points in (("Training", run.loss), ("Validation", run.validation)):
        finite = [point for point in points if math.isfinite(point.mean)]
        if finite:
            lowest, now = min(finite, key=lambda point: point.mean), finite[-1]
            sentences.append(
                f"{name}: {short(finite[0].mean)} at the start, {short(now.mean)} at {_steps_words(now)}, lowest "
                f"{short(lowest.mean)} at {_steps_words(lowest)}{_relation(now.mean, levels)}."
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
        f"{short(alike[0].mean)} at {_steps_words(alike[0])}, "
        if alike and alike[0] is not points[-1]
        else ""
    )
    return f"Previous run: {then}{short(points[-1].mean)} at its end, step {points[-1].last}."


def _relation(loss: float, levels: Mapping[str, float]) -> str:
    """Where a loss lies beside the nearest level."""
    if not levels:
        return ""
    name = min(levels, key=lambda level: abs(levels[level] - loss))
    apart = loss - levels[name]
    if abs(apart) < SAME_LEVEL:
        return f"; that is {name} ({levels[name]:.2f})"
    return f"; {short(abs(apart))} {'above' if apart > 0.0 else 'below'} {name} ({levels[name]:.2f})"


def log_words(
    title: str,
    curves: Mapping[str, Sequence[Point]],
    has_ghost: bool,
    band: tuple[float, float] | None,
    marks: Marks,
) -> str:
    """What a chart with a logarithmic axis shows; curves that are alike stand together."""
    sentences = [
        f"{title[0].upper()}{title[1:]} on a logarithmic axis, {_span(next(iter(curves.values()), ()))}."
    ]
    described: dict[str, list[str]] = {}
    for name, points in curves.items():
        described.setdefault(_log_line_words(points, band), []).append(name)
    sentences += [f"{', '.join(names)}: {words}." for words, names in described.items()]
    if band:
        sentences.append(f"Healthy runs: {band_words(band)}.")
    if has_ghost:
        sentences.append("The previous run is shown too.")
    return " ".join(sentences + _mark_words(marks))


def _log_line_words(points: Sequence[Point], band: tuple[float, float] | None) -> str:
    kinds = [_kind(point.mean) for point in points]
    if set(kinds) == {"zero"}:
        return "exactly 0 at every step"
    parts = [] if kinds[0] == "not finite" else [f"{value_words(points[0].mean)} at the start"]
    newest = points[-1].mean
    if kinds[-1] != "not finite":
        parts.append(f"{value_words(newest)} now")
    if band and kinds[-1] == "positive":
        where = "below" if newest < band[0] else "above" if newest > band[1] else "inside"
        parts.append(f"{where} the band of healthy runs")
    zeros = [point for point in points if point.low == 0.0]
    if zeros and kinds[-1] != "zero":
        parts.append(f"exactly 0 last at {_steps_words(zeros[-1])}")
    if "not finite" in kinds:
        parts.append(_failure_words(points))
    return ", ".join(parts)


def _kind(value: float) -> str:
    if 0.0 < value < math.inf:
        return "positive"
    return "zero" if value == 0.0 else "not finite"


def short(value: float) -> str:
    """A loss with two places, or with a power of ten where it needs one."""
    if not math.isfinite(value):
        return _failure(value)
    return f"{value:.2f}" if 0.01 <= abs(value) < 1e3 or value == 0.0 else plain(f"{value:.2g}")


def value_words(value: float) -> str:
    """A norm or a ratio with two digits."""
    if not math.isfinite(value):
        return _failure(value)
    return "exactly 0" if value == 0.0 else plain(f"{value:.2g}")


def plain(number: str) -> str:
    """A number with a power of ten without the zeros that say nothing: 3.1e-04 becomes 3.1e-4."""
    mantissa, _, exponent = number.partition("e")
    return f"{float(mantissa):g}e{int(exponent)}" if exponent else number


def _failure(value: float) -> str:
    return "NaN" if math.isnan(value) else "infinite"


def band_words(band: tuple[float, float]) -> str:
    """The edges of a band."""
    return " to ".join(plain(f"{edge:.1e}") for edge in band)


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


def failure_note(points: Sequence[Point]) -> str:
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
