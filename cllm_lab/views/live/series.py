"""The curves of a run while it grows: a bounded number of points, however many steps there were."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cllm_lab.training.history import StepRecord

MOST_POINTS = 300
GROUPS = ("embedding", "attention", "ff", "ln")


@dataclass(frozen=True, slots=True)
class Point:
    """What was seen from step ``first`` to step ``last``, both included.

    ``mean`` is over every value, so it is NaN or infinite as soon as one of them is: such a stretch can be told
    from its neighbours however long it grows. ``low`` and ``high`` are the extremes of the finite values, NaN
    where there is none.
    """

    first: int
    last: int
    mean: float
    low: float
    high: float


class Series:
    """Values over ascending steps in at most ``most`` points.

    Every point is a stretch of equally many values. When there is no room for another point, neighbours are
    joined in pairs and stretches are twice as long from then on, which costs O(1) a value on average.
    One thread at a time may use it.

    Raises ValueError where ``most`` is below 2.
    """

    def __init__(self, most: int = MOST_POINTS) -> None:
        if most < 2:
            raise ValueError(f"most must be at least 2 points, or nothing can be joined; got {most}")
        self._most = most
        self._length = 1
        self._full: list[Point] = []
        self._open: Point | None = None
        self._n_open = 0

    def add(self, step: int, value: float) -> None:
        """Take in the value of a step. Raises ValueError where the step is not above the one before."""
        value = float(value)
        is_finite = math.isfinite(value)
        new = Point(step, step, value, value if is_finite else math.nan, value if is_finite else math.nan)
        latest = self._open or (self._full[-1] if self._full else None)
        if latest is not None and step <= latest.last:
            raise ValueError(f"step must be above the one before, {latest.last}; got {step}")
        if self._open is None and len(self._full) == self._most:
            self._join_pairs()
        self._open = new if self._open is None else _joined(self._open, self._n_open, new, 1)
        self._n_open += 1
        if self._n_open == self._length:
            self._full.append(self._open)
            self._open, self._n_open = None, 0

    def points(self) -> tuple[Point, ...]:
        """The points in order; the last holds the newest value, also where its stretch is not complete."""
        return (*self._full, self._open) if self._open is not None else tuple(self._full)

    def _join_pairs(self) -> None:
        n = self._length
        pairs = zip(self._full[::2], self._full[1::2], strict=False)
        joined = [_joined(one, n, other, n) for one, other in pairs]
        if len(self._full) % 2:
            self._open, self._n_open = self._full[-1], n
        self._full = joined
        self._length = 2 * n


def _joined(one: Point, n_one: int, other: Point, n_other: int) -> Point:
    # Divided before they are subtracted: a sum of large losses would overflow, and equal means stay what they are.
    n = n_one + n_other
    mean = one.mean + (other.mean / n - one.mean / n) * n_other
    if math.isnan(mean) and not (math.isnan(one.mean) or math.isnan(other.mean)):
        mean = one.mean + other.mean
    low, high = _extreme(min, one.low, other.low), _extreme(max, one.high, other.high)
    return Point(one.first, other.last, mean, low, high)


def _extreme(choose: Callable[[float, float], float], one: float, other: float) -> float:
    if math.isnan(one):
        return other
    return one if math.isnan(other) else choose(one, other)


@dataclass(frozen=True)
class Curves:
    """What is drawn of one run. Losses in nats per token; ``norms`` of the gradient by group, before clipping;
    ``update`` is |update| / |weights|."""

    loss: tuple[Point, ...] = ()
    validation: tuple[Point, ...] = ()
    norms: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    update: tuple[Point, ...] = ()


class RunCurves:
    """Collects the curves of one run, record by record, with at most ``most`` points each.

    One thread at a time may use it. Raises ValueError where ``most`` is below 2.
    """

    def __init__(self, most: int = MOST_POINTS) -> None:
        self._loss, self._validation, self._update = Series(most), Series(most), Series(most)
        self._norms = {group: Series(most) for group in GROUPS}

    def add(self, record: StepRecord) -> None:
        """Take in the next step. Raises ValueError where its number is not above the one before."""
        self._loss.add(record.step, record.loss)
        self._update.add(record.step, record.update_ratio)
        for group, series in self._norms.items():
            series.add(record.step, getattr(record, f"grad_norm_{group}"))
        if record.validation_loss is not None:
            self._validation.add(record.step, record.validation_loss)

    def curves(self) -> Curves:
        """The curves so far; later steps do not change what was returned."""
        return Curves(
            loss=self._loss.points(),
            validation=self._validation.points(),
            norms={group: series.points() for group, series in self._norms.items()},
            update=self._update.points(),
        )
