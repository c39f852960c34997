"""Similarities of two positive integers by their greatest common divisor: the original's variants, each named.

                                a = b       coprime      otherwise     distinct primes p, q
    gcd_over_max                1           1 / max      gcd / max     1 / max(p, q)
    half_if_coprime             1           1/2          1 / gcd       1/2
    reciprocal_gcd              1 / a (*)   1/2          1 / gcd       1/2
    zero_if_coprime             1           0            gcd / min     0

(*) and 1/2 for a = b = 1. Distinct primes are coprime, so that on primes the last three tell equal from unequal and
nothing else, but that the third tells the size of equal ones; the first tells size. They say more of numbers that share
factors, which distinct primes never do. The second and third fall as the common divisor grows; the third holds a prime
above 2 to be less like itself than like any other, and 2 to be as like itself as any other.

Every function takes arrays of integers that broadcast, and returns float64 of the common shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.lattice.arguments import FloatArray, IntArray, finite_array, integer_array, require_broadcast
from cllm_lab.lattice.spirals import LARGEST_NUMBER, spiral_position

GCD_WEIGHT = 0.7
SPIRAL_WEIGHT = 0.3


def gcd_over_max(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """gcd(a, b) / max(a, b), in (0, 1]; 1 only where a = b, at most 1/2 elsewhere.

    Raises TypeError unless both hold integers, ValueError below 1, above `LARGEST_NUMBER` or for shapes that do not
    broadcast. Source: the original's loss before document 002.
    """
    a, b = positive_pair(a, b)
    return np.asarray(np.gcd(a, b) / np.maximum(a, b))


def half_if_coprime(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """1 where a = b, 1/2 where a and b are coprime, 1 / gcd(a, b) elsewhere. Raises as `gcd_over_max`."""
    a, b = positive_pair(a, b)
    return np.asarray(np.where(a == b, 1.0, half_or_reciprocal(np.gcd(a, b))))


def reciprocal_gcd(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """1/2 where a and b are coprime, 1 / gcd(a, b) elsewhere, equal numbers included. Raises as `gcd_over_max`.

    Source: the similarity in the original's resonance score; see `cllm_lab.lattice.phase.resonance`.
    """
    return half_or_reciprocal(np.gcd(*positive_pair(a, b)))


def zero_if_coprime(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """1 where a = b, 0 where a and b are coprime, gcd(a, b) / min(a, b) elsewhere. Raises as `gcd_over_max`.

    1 where one divides the other as well: 2 is as like 6 as it is like itself.
    """
    a, b = positive_pair(a, b)
    gcd = np.gcd(a, b)
    return np.asarray(np.where((gcd == 1) & (a != b), 0.0, gcd / np.minimum(a, b)))


SIMILARITIES: Mapping[str, Callable[[ArrayLike, ArrayLike], FloatArray]] = MappingProxyType(
    {
        "gcd-over-max": gcd_over_max,
        "half-if-coprime": half_if_coprime,
        "reciprocal-gcd": reciprocal_gcd,
        "zero-if-coprime": zero_if_coprime,
    }
)


def historical_gcd_loss(
    input_ids: ArrayLike, target_ids: ArrayLike, coordinates: ArrayLike | None = None
) -> FloatArray:
    """The original's first loss, in nats, for each pair of ids; float64 of the broadcast shape. With n = id + 1,

        loss = -ln( 0.7 gcd_over_max(n, n') + 0.3 / (1 + |s - s'|) )

    s is `spiral_position` (n), or the row of ``coordinates`` (vocabulary, axes) that belongs to the id. The program
    printed the mean, and held the similarity to at least 1e-10, which it never falls below: two places of the spiral
    are less than 2 · 10^8 apart for all n up to `LARGEST_NUMBER`. No parameter of a model occurs in it: its derivative
    in every weight is 0, and it stays constant in training. It is 0, its least, where the target is the input itself.

    Raises TypeError unless the ids are integers and the coordinates real numbers, ValueError for ids outside
    [0, `LARGEST_NUMBER`), shapes that do not broadcast, and coordinates that are not finite, not of two dimensions, or
    too few.
    """
    n = integer_array("input_ids", input_ids, 0, LARGEST_NUMBER - 1)
    m = integer_array("target_ids", target_ids, 0, LARGEST_NUMBER - 1)
    require_broadcast(input_ids=n.shape, target_ids=m.shape)
    if coordinates is None:
        here, there = spiral_position(n + 1), spiral_position(m + 1)
    else:
        places = finite_array("coordinates", coordinates)
        most = max(int(ids.max(initial=-1)) for ids in (n, m))
        if places.ndim != 2 or len(places) <= most:
            raise ValueError(
                f"coordinates must have shape (vocabulary, axes) with a row for id {most}; got {places.shape}"
            )
        here, there = places[n], places[m]
    apart = np.linalg.norm(here - there, axis=-1)
    similarity = GCD_WEIGHT * gcd_over_max(n + 1, m + 1) + SPIRAL_WEIGHT / (1.0 + apart)
    return np.asarray(-np.log(similarity))


def positive_pair(
    a: ArrayLike, b: ArrayLike, names: tuple[str, str] = ("a", "b")
) -> tuple[IntArray, IntArray]:
    """Both as int64 that broadcast. Raises TypeError unless they hold integers, ValueError below 1 or too large."""
    first, second = (integer_array(name, x, 1, LARGEST_NUMBER) for name, x in zip(names, (a, b), strict=True))
    require_broadcast(**{names[0]: first.shape, names[1]: second.shape})
    return first, second


def half_or_reciprocal(gcd: IntArray) -> FloatArray:
    """1/2 where ``gcd`` is 1, 1 / gcd elsewhere. Nothing is checked."""
    return np.asarray(np.where(gcd == 1, 0.5, 1.0 / gcd))
