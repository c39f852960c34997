"""What is read off a validation curve, [[step, nats], ...] with rising steps: pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

Curve = Sequence[Sequence[float]]


def lowest(curve: Curve, steps: float = math.inf) -> float:
    """The lowest loss within so many steps, in nats; between two validations on the straight line of the lowest so far.

    Steps need not be whole. Raises ValueError for an empty curve, or one that begins after ``steps``.
    """
    if not curve or curve[0][0] > steps:
        raise ValueError(f"no validation within {steps} steps: {list(curve)[:1]}")
    before, best = curve[0]
    for step, loss in curve[1:]:
        lower = min(best, loss)
        if step > steps:
            return best + (lower - best) * (steps - before) / (step - before)
        before, best = step, lower
    return best


def lowest_at(curve: Curve) -> float:
    """The step of the lowest loss, the first of several as low. Raises ValueError for an empty curve."""
    if not curve:
        raise ValueError("an empty curve has no lowest loss")
    return min(curve, key=lambda point: point[1])[0]


def steps_to(curve: Curve, level: float) -> float | None:
    """Steps after which the loss is first at or under a level, on straight lines between validations; None if never."""
    before, above = None, math.inf
    for step, loss in curve:
        if loss <= level:
            if before is None:
                return float(step)
            return before + (step - before) * (above - level) / (above - loss)
        before, above = step, loss
    return None


def mean_curve(curves: Sequence[Curve], points: int) -> list[list[float]]:
    """Mean over several curves at the steps that all have, thinned to about so many points, both ends among them."""
    shared = sorted(set.intersection(*({step for step, _ in curve} for curve in curves)))
    stride = max(1, math.ceil((len(shared) - 1) / max(1, points - 1)))
    kept = sorted({*shared[::stride], *shared[-1:]})
    tables = [{step: loss for step, loss in curve} for curve in curves]
    return [[step, math.fsum(table[step] for table in tables) / len(tables)] for step in kept]
