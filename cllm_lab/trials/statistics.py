"""Paired differences: effect, confidence, correction for many comparisons, and what a design can detect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

IDENTICAL, NOT_SHOWN = "identical", "no difference shown"
ALPHA = 0.05
POWER = 0.8


@dataclass(frozen=True)
class Paired:
    """The mean of n paired differences, in nats.

    ``low``, ``high``: its 95 % confidence interval, mean +- t(n - 1) s / sqrt(n); ``p`` of Student's paired test
    against 0, two-sided, 1 where every difference is exactly 0; ``deviation``: s, with n - 1.
    """

    mean: float
    low: float
    high: float
    p: float
    deviation: float
    pairs: int


def paired(differences: ArrayLike) -> Paired:
    """Student's paired t test (Student 1908) of differences (n,), in float64.

    Where all are equal and not 0 the interval is that one number and p is 0.
    Raises ValueError for fewer than two, or numbers that are not finite.
    """
    from scipy.special import stdtr, stdtrit

    values = np.asarray(differences, np.float64)
    if values.ndim != 1 or values.size < 2 or not np.isfinite(values).all():
        raise ValueError(f"at least two finite differences are needed, in one dimension; got {differences!r}")
    mean = float(values.mean())
    if (values == values[0]).all():
        value = float(values[0])
        return Paired(value, value, value, float(value == 0.0), 0.0, values.size)
    deviation = float(values.std(ddof=1))
    error, freedom = deviation / math.sqrt(values.size), values.size - 1
    p = 2.0 * float(stdtr(freedom, -abs(mean) / error))
    half = float(stdtrit(freedom, 1.0 - ALPHA / 2.0)) * error
    return Paired(mean, mean - half, mean + half, p, deviation, values.size)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected over their family of m by Holm's step-down method (Holm 1979), in their order.

    The k-th smallest becomes the largest of p_(j) (m - j + 1) over j <= k, at most 1. The chance of even one false
    alarm in the family, whatever hangs together in it, stays under `ALPHA`.
    """
    raw = np.asarray(p_values, np.float64)
    order = np.argsort(raw, kind="stable")
    stepped = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    corrected = np.empty_like(raw)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected.tolist()


def detectable(pairs: int, comparisons: int, deviation: float = 1.0) -> float:
    """The smallest mean difference that the design finds with 80 % power, for differences of this deviation.

    At the level that Holm's method starts from, ALPHA / comparisons: an effect found there is found whatever the
    others are. See `power` (Cohen 1988, chapter 2).
    Raises ValueError for fewer than two pairs or no comparison.
    """
    if pairs < 2 or comparisons < 1 or not deviation >= 0.0:
        raise ValueError(
            "two pairs, one comparison and a deviation of at least 0 are needed; "
            f"got {pairs}, {comparisons}, {deviation}"
        )
    return deviation * _standardised(pairs, comparisons)


def power(size: float, pairs: int, alpha: float) -> float:
    """Chance that the two-sided paired t test at level alpha finds a mean difference of ``size`` deviations.

    With nu = n - 1, c the critical t, delta = size sqrt(n) and R chi-distributed with nu degrees of freedom:
    E[Phi(delta - c R / sqrt(nu)) + Phi(-delta - c R / sqrt(nu))], which is the noncentral t distribution's tails.
    """
    from scipy import stats

    # By this integral, since SciPy's own noncentral t gives NaN for few pairs and strict levels.
    freedom = pairs - 1
    critical = float(stats.t.isf(alpha / 2.0, freedom)) / math.sqrt(freedom)
    shift = size * math.sqrt(pairs)

    def tails(radius: float) -> float:
        return float(stats.norm.cdf(shift - critical * radius) + stats.norm.cdf(-shift - critical * radius))

    return float(stats.chi(freedom).expect(tails))


@lru_cache(maxsize=64)
def _standardised(pairs: int, comparisons: int) -> float:
    from scipy.optimize import brentq

    def excess(size: float) -> float:
        return power(size, pairs, ALPHA / comparisons) - POWER

    top = 1.0
    while excess(top) < 0.0:
        top *= 2.0
    return float(brentq(excess, 0.0, top))


def verdict(effect: Paired, p_corrected: float) -> str:
    """ "better" (lower loss), "worse", or "no difference shown" at the corrected level."""
    if p_corrected >= ALPHA:
        return NOT_SHOWN
    return "better" if effect.mean < 0.0 else "worse"
