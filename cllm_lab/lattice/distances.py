"""Distances of positive integers and of their places, and which of them are metrics.

A metric d has d(x, x) = 0, d(x, y) > 0 for x != y, d(x, y) = d(y, x) and d(x, z) <= d(x, y) + d(y, z). `DISTANCES` says
of each distance of numbers whether it is one on the positive integers, and why; `metric_failures` looks for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.lattice.arguments import FloatArray, finite_array, not_negative, require_broadcast
from cllm_lab.lattice.phase import phase_alignment
from cllm_lab.lattice.similarity import (
    gcd_over_max,
    half_if_coprime,
    positive_pair,
    reciprocal_gcd,
    zero_if_coprime,
)


def lattice_distance(x: ArrayLike, y: ArrayLike, p: ArrayLike, q: ArrayLike) -> FloatArray:
    """The original's distance, Euclid's |x - y| times 1 if p and q are coprime, times 1 / gcd(p, q) if not.

    A coprime pair has gcd 1, so that both cases are |x - y| / gcd(p, q). ``x``, ``y`` (..., axes) are places, ``p``,
    ``q`` (...) positive integers; everything broadcasts; float64.

    On distinct primes this is Euclid's distance, a metric. Composites shorten the way through numbers with common
    factors, and the triangle inequality fails: from 2 over 6 to 3. It fails too where several places share one prime.

    Raises TypeError unless p and q hold integers and x and y real numbers, ValueError below 1, for places that are not
    finite or whose last dimensions differ, and for shapes that do not broadcast.
    """
    p, q = positive_pair(p, q, ("p", "q"))
    here, there = finite_array("x", x), finite_array("y", y)
    if here.ndim == 0 or there.ndim == 0 or here.shape[-1] != there.shape[-1]:
        raise ValueError(
            f"x and y must have shape (..., axes) with the same axes; got {here.shape}, {there.shape}"
        )
    require_broadcast(x=here.shape[:-1], y=there.shape[:-1], p=p.shape, q=q.shape)
    return np.asarray(np.linalg.norm(here - there, axis=-1) / np.gcd(p, q))


def difference_distance(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """|a - b|. Raises as `gcd_over_max`, as do all distances of numbers here."""
    a, b = positive_pair(a, b)
    return np.abs(a - b).astype(np.float64)


def log_ratio_distance(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """|ln(a / b)|, as ln(1 + |a - b| / min(a, b)), which tells neighbours apart however large they are."""
    a, b = positive_pair(a, b)
    return np.asarray(np.log1p(np.abs(a - b) / np.minimum(a, b)))


def factor_distance(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """ln(lcm(a, b) / gcd(a, b)) = sum over primes r of |v_r(a) - v_r(b)| ln r, v_r the exponent of r in a number.

    What a distance by common factors should be: the length of the way from a to b by multiplying and dividing by
    primes, each step as long as the logarithm of its prime. On distinct primes ln p + ln q: sizes again.
    """
    a, b = positive_pair(a, b)
    gcd = np.gcd(a, b)
    return np.asarray(np.log(a // gcd) + np.log(b // gcd))


def gcd_over_max_distance(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """1 - gcd_over_max(a, b)."""
    return 1.0 - gcd_over_max(a, b)


def half_if_coprime_distance(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """1 - half_if_coprime(a, b)."""
    return 1.0 - half_if_coprime(a, b)


def reciprocal_gcd_distance(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """1 - reciprocal_gcd(a, b)."""
    return 1.0 - reciprocal_gcd(a, b)


def zero_if_coprime_distance(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """1 - zero_if_coprime(a, b)."""
    return 1.0 - zero_if_coprime(a, b)


def phase_distance(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """1 - phase_alignment(a, b) = sin²(pi (a - b) / (a + b))."""
    return 1.0 - phase_alignment(*positive_pair(a, b))


@dataclass(frozen=True)
class NumberDistance:
    """A distance of positive integers: ``function`` (a, b), whether it is a ``metric`` on them, and the ``reason``."""

    function: Callable[[ArrayLike, ArrayLike], FloatArray]
    metric: bool
    reason: str


_BY_SIZE = "unequal numbers are between 1/2 and 1 apart, so that two steps are never shorter than one"

DISTANCES: Mapping[str, NumberDistance] = MappingProxyType(
    {
        "difference": NumberDistance(difference_distance, True, "the distance on the line"),
        "log-ratio": NumberDistance(log_ratio_distance, True, "the distance on the line of logarithms"),
        "factor": NumberDistance(
            factor_distance, True, "the sum of absolute differences of exponents, each with a positive weight"
        ),
        "gcd-over-max": NumberDistance(gcd_over_max_distance, True, _BY_SIZE),
        "half-if-coprime": NumberDistance(
            half_if_coprime_distance,
            True,
            f"{_BY_SIZE}; but the larger the common divisor, the further apart",
        ),
        "reciprocal-gcd": NumberDistance(
            reciprocal_gcd_distance, False, "a number is 1 - 1/a from itself, and 1 is 1/2 from itself"
        ),
        "zero-if-coprime": NumberDistance(
            zero_if_coprime_distance, False, "2 and 6 are 0 apart, 6 and 3 are 0 apart, 2 and 3 are 1 apart"
        ),
        "phase": NumberDistance(
            phase_distance,
            False,
            "like a square near 0, so that many small steps are shorter than a large one",
        ),
    }
)


@dataclass(frozen=True)
class MetricFailures:
    """Where a table of distances is no metric: the worst case of each axiom as indices, or None.

    ``not_zero``: i with d(i, i) != 0. ``zero_apart``: i, j with d(i, j) <= tolerance. ``asymmetric``: i, j.
    ``triangle``: i, j, k with the largest ``excess`` of d(i, k) over d(i, j) + d(j, k).
    """

    not_zero: int | None
    zero_apart: tuple[int, int] | None
    asymmetric: tuple[int, int] | None
    triangle: tuple[int, int, int] | None
    excess: float

    @property
    def is_metric(self) -> bool:
        """Whether no axiom failed."""
        return (self.not_zero, self.zero_apart, self.asymmetric, self.triangle) == (None, None, None, None)

    def describe(self, names: Sequence[object], distances: ArrayLike) -> str:
        """The first axiom that failed, in the order of the fields, by its worst case; "metric" where none did.

        ``distances`` (n, n): the table that was searched; ``names``: what its n rows are.
        Raises ValueError for another number of names, and for a table that has not the indices found.
        """
        d = finite_array("distances", distances)
        if d.shape != (len(names), len(names)):
            raise ValueError(f"names must be {len(d)}, one for each row of distances; got {len(names)}")
        found = (self.not_zero, *(self.zero_apart or ()), *(self.asymmetric or ()), *(self.triangle or ()))
        if any(place is not None and place >= len(d) for place in found):
            raise ValueError(f"distances must be the table that was searched; got shape {d.shape}")

        def told(i: int, j: int) -> str:
            return f"d({names[i]}, {names[j]}) = {d[i, j]:.3g}"

        if self.not_zero is not None:
            return told(self.not_zero, self.not_zero)
        if self.zero_apart is not None:
            return told(*self.zero_apart)
        if self.asymmetric is not None:
            i, j = self.asymmetric
            return f"{told(i, j)}, but {told(j, i)}"
        if self.triangle is not None:
            i, j, k = self.triangle
            over = d[i, j] + d[j, k]
            return f"{names[i]} to {names[k]} is {d[i, k]:.3g}; over {names[j]}, {over:.3g}"
        return "metric"


def metric_failures(distances: ArrayLike, tolerance: float = 1e-12) -> MetricFailures:
    """Look for failures of the axioms in a table of distances (n, n) of n different things, every triple of them.

    ``tolerance``: what rounding may do. ``excess`` is 0 where the triangle inequality holds. n³ operations.
    Raises TypeError for what is no real number, ValueError for another shape, entries that are not finite, and a
    tolerance that is not or is below 0.
    """
    tolerance = not_negative("tolerance", tolerance)
    d = finite_array("distances", distances)
    if d.ndim != 2 or d.shape[0] != d.shape[1] or d.shape[0] == 0:
        raise ValueError(f"distances must have shape (n, n), n at least 1; got {d.shape}")
    n = len(d)
    triangle, excess = None, 0.0
    for j in range(n):
        over = d - (d[:, j, None] + d[None, j, :])
        worst = int(over.argmax())
        if over.flat[worst] > max(tolerance, excess):
            triangle, excess = (worst // n, j, worst % n), float(over.flat[worst])
    return MetricFailures(
        not_zero=_worst_index(np.abs(np.diag(d)), tolerance),
        zero_apart=_worst_pair(np.where(np.eye(n, dtype=bool) | (d > tolerance), -np.inf, -d), -np.inf),
        asymmetric=_worst_pair(np.abs(d - d.T), tolerance),
        triangle=triangle,
        excess=excess,
    )


def _worst_index(values: FloatArray, threshold: float) -> int | None:
    worst = int(values.argmax())
    return worst if values[worst] > threshold else None


def _worst_pair(values: FloatArray, threshold: float) -> tuple[int, int] | None:
    worst = int(values.argmax())
    return (worst // len(values), worst % len(values)) if values.flat[worst] > threshold else None
