"""What is said of repeated timings: the middle, the spread, and how two contenders compare round by round."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

RELATIVE_TOLERANCE = 1e-3


class DisagreementError(Exception):
    """Contenders do not train the same machine, so their times say nothing about each other."""


def spread_of(seconds: Sequence[float]) -> dict[str, float | int]:
    """Median, quartiles, minimum and number of the repetitions."""
    lower, median, upper = np.quantile(seconds, (0.25, 0.5, 0.75)).tolist()
    return {
        "median": median,
        "lower_quartile": lower,
        "upper_quartile": upper,
        "minimum": float(min(seconds)),
        "repetitions": len(seconds),
    }


def round_medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    """The median of each round."""
    return [float(np.median(seconds)) for seconds in rounds]


def round_ratios(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Their median of a round over ours of the same round, which met the same machine: above 1, ours is faster.

    Raises ValueError where the rounds are not as many.
    """
    return [their / our for their, our in zip(theirs, ours, strict=True)]


def require_agreement(losses: Mapping[str, Sequence[float]]) -> None:
    """Raises DisagreementError unless the first steps' losses (nats) agree with the first contender's to 1e-3."""
    if not losses:
        return
    (first, expected), *others = losses.items()
    for name, found in [(first, expected), *others]:
        agree = len(found) == len(expected) and all(
            math.isfinite(a) and math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)
            for a, b in zip(found, expected, strict=True)
        )
        if not agree:
            raise DisagreementError(
                f"{name} does not train the machine that {first} trains: the first losses are "
                f"{_listed(found)} and {_listed(expected)} nats"
            )


def _listed(losses: Sequence[float]) -> str:
    return ", ".join(f"{loss:.5f}" for loss in losses)
