"""What follows from moments and counts: how late a halt was, how long a person waited, what drawing leaves."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise


def beyond_the_step(pressed: float, halted: float, step_ends: Sequence[float]) -> float:
    """Seconds from a halt's earliest moment, the end of the step that was being made when it was asked for, until it
    came. ``step_ends`` ascend; where none lies between, nothing was being made and all the time counts.

    Raises ValueError for a run that was halted before it was asked to.
    """
    if halted < pressed:
        raise ValueError(f"halted must not be before pressed; got {halted} and {pressed}")
    earliest = next((end for end in step_ends if end >= pressed), pressed)
    return halted - (earliest if earliest <= halted else pressed)


def waits(pressed: Sequence[float], answered: Sequence[float]) -> list[float]:
    """Seconds from each press to its answer, the first answer belonging to the first press.

    Raises ValueError where they are not as many, or one is answered before it was pressed.
    """
    if len(pressed) != len(answered):
        raise ValueError(f"{len(pressed)} presses have {len(answered)} answers")
    found = [answer - press for press, answer in zip(pressed, answered, strict=True)]
    if any(wait < 0.0 for wait in found):
        raise ValueError(f"an answer came before its press: {found}")
    return found


def step_seconds(step_ends: Sequence[float]) -> list[float]:
    """The times between the ends of neighbouring steps."""
    return [after - before for before, after in pairwise(step_ends)]


def rate(before: Sequence[float], after: Sequence[float]) -> float:
    """Counts per second, from two pairs (moment, count). Raises ValueError unless time has passed."""
    (began, done), (ended, done_later) = before, after
    if not ended > began:
        raise ValueError(f"the second moment must be later than the first; got {began} and {ended}")
    return (done_later - done) / (ended - began)


def median_ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    """The median, over rounds, of one's figure over the other's of the same round, which met the same machine.

    Raises ValueError where the rounds are not as many.
    """
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))
