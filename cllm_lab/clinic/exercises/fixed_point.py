"""An exercise on standing still: does nothing move because there is nothing to follow, or for another reason?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cllm_lab.clinic.judging import Exercise, Mistake
from cllm_lab.model.parameters import Array

Cases = Iterator[tuple[Array, ...]]
PRINTED = 1e-6
ROWS_LOOKED_AT = 20


def fixed_point_test(gradient: Array, before: Array, after: Array) -> tuple[float, float]:
    """(entries of the gradient that are not 0, entries of the weights that changed), of tensors (V, C).

    Both are counts over every entry, without a tolerance: at a fixed point both are exactly 0.
    """
    return float(np.count_nonzero(gradient)), float(np.count_nonzero(before != after))


def _tensors(rng: np.random.Generator) -> Cases:
    """Gradients and weights in which most entries are 0 or stay, and the few others are hard to see."""
    for V, C in ((40, 6), (33, 5), (27, 8)):
        gradient = np.zeros((V, C))
        before = rng.normal(0.0, 0.1, (V, C))
        after = before.copy()
        # What is easily missed: entries that print as 0.000000 or are nearly equal, negative ones, later rows.
        hidden = rng.choice(V * C, 9, replace=False)
        gradient.flat[hidden] = -rng.uniform(1e-9, 1e-8, 9)
        gradient.flat[hidden[:4]] *= -20.0
        gradient[V - 1, 0], gradient[V - 2, 1] = -0.3, 0.3
        after.flat[rng.choice(V * C, 12, replace=False)] += rng.uniform(1e-10, 1e-9, 12)
        before[1, 0], after[1, 0] = 1.0, 1.0 - 2e-6
        after[V - 1, 1], after[V - 2, 0] = before[V - 1, 1] + 0.2, before[V - 2, 0] - 0.2
        yield gradient, before, after


def _count(found: Any) -> Array:
    return np.asarray(float(np.count_nonzero(found)))


FIXED_POINT = Exercise(
    name="fixed-point-test",
    parameters=("gradient", "before", "after"),
    returns=("nonzero", "changed"),
    asked="How many entries of the gradient (V, C) are not 0, and how many weights a step changed.",
    inputs=_tensors,
    solution=fixed_point_test,
    mistakes=(
        Mistake(
            "entries below 0.000001 were left out: they print as 0.000000, and still a step follows them; compare "
            "with 0 itself",
            lambda gradient, before, after: {
                "nonzero": _count(np.abs(gradient) > PRINTED),
                "changed": _count(np.abs(after - before) > PRINTED),
            },
        ),
        Mistake(
            "entries within np.isclose or np.allclose were left out: a tolerance is for rounding, and standing still "
            "has none",
            lambda gradient, before, after: {
                "nonzero": _count(~np.isclose(gradient, 0.0)),
                "changed": _count(~np.isclose(before, after)),
            },
        ),
        Mistake(
            "negative entries were left out: a gradient of either sign is one, so look for what is not equal to 0",
            lambda gradient, before, after: {
                "nonzero": _count(gradient > 0.0),
                "changed": _count(after > before),
            },
        ),
        Mistake(
            "only the first 20 rows were looked at: the rest of a tensor may move while these stand still",
            lambda gradient, before, after: {
                "nonzero": _count(gradient[:ROWS_LOOKED_AT]),
                "changed": _count((before != after)[:ROWS_LOOKED_AT]),
            },
        ),
        Mistake(
            "these are the entries that are 0, and those that stay; asked are the others",
            lambda gradient, before, after: {
                "nonzero": _count(gradient == 0.0),
                "changed": _count(before == after),
            },
        ),
    ),
)

EXERCISES = (FIXED_POINT,)
