"""The original's "geometric" list of primes, rebuilt from its rules, beside the truth.

A number n > 1 is in the list when all of these hold:

    n mod 12 is not 0, 6, 8 or 10;    n^2 mod 12 is 1 or 9;    n mod 30 is 1, 7, 11, 17, 19, 23, 29 or 59;
    no prime q <= 61 divides n, other than n itself;

and so are the `SEEDS` 2, 3, 5, 13 and 43, the primes to 61 that the residues would refuse.

Two things follow. No remainder is 59, and 13 is not among the eight: every prime 13 mod 30 after 43 is missed. And
trial division that ends at 61 lets through each product of primes above 61, from 67^2 = 4489 on. The rules of twelve
decide nothing: whatever is prime to 30 satisfies them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cllm_lab.lattice.arguments import IntArray, within
from cllm_lab.lattice.primes import primes_below

SEEDS = (2, 3, 5, 13, 43)
REFUSED_MOD_12 = (0, 6, 8, 10)
SQUARES_MOD_12 = (1, 9)
RESIDUES_MOD_30 = (1, 7, 11, 17, 19, 23, 29, 59)
LAST_DIVISOR = 61
LARGEST_LIMIT = 10**9

_SEGMENT = 60 * 2**14


@dataclass(frozen=True)
class NumberKinds:
    """The numbers up to ``limit`` by what the list makes of them, each int64 and ascending.

    true: primes that it has; false: composites that it has; missed: primes that it lacks.
    """

    limit: int
    true: IntArray
    false: IntArray
    missed: IntArray


@dataclass(frozen=True)
class HistoricalComparison:
    """The list to ``limit`` held against the primes.

    entries = primes - missed + composites. first_composite is None where there is none; missed_residues maps each
    n mod 30 that a missed prime has to the number of such primes.
    """

    limit: int
    entries: int
    primes: int
    composites: int
    first_composite: int | None
    missed: int
    missed_residues: dict[int, int]


def historical_primes(limit: int) -> IntArray:
    """The list of the original up to ``limit``, that included: int64, ascending; 23,094 entries to 200,000.

    The rules stand at the top of this module. Of the readings that their wording leaves open, this is the one with the
    original's counts: the residues are asked of every number but the seeds, ``limit`` is included, and a prime
    q <= 61 does not refuse itself.

    Raises TypeError unless ``limit`` is an integer, ValueError for a negative one or one above `LARGEST_LIMIT`.
    """
    blocks = [entries for _, entries in historical_blocks(limit)]
    return np.concatenate(blocks) if blocks else np.empty(0, np.int64)


def historical_blocks(limit: int) -> Iterator[tuple[int, IntArray]]:
    """The same a segment at a time: pairs (end, the entries n < end that come after the last end); the last end is
    limit + 1. Raises as `historical_primes`, at once.
    """
    return _blocks(within("limit", limit, 0, LARGEST_LIMIT) + 1)


def _blocks(end: int) -> Iterator[tuple[int, IntArray]]:
    divisors = primes_below(LAST_DIVISOR + 1).tolist()
    pattern = np.tile(_admitted(), _SEGMENT // 60)
    for start in range(0, end, _SEGMENT):
        stop = min(start + _SEGMENT, end)
        flags = pattern[: stop - start].copy()
        if start == 0:
            flags[:2] = False
        for q in divisors:
            flags[max(2 * q, start + -start % q) - start :: q] = False
        if start == 0:
            flags[[seed for seed in SEEDS if seed < stop]] = True
        yield stop, start + np.flatnonzero(flags).astype(np.int64, copy=False)


def _admitted() -> NDArray[np.bool_]:
    """Whether the residues admit n, for n from 0 to 59: lcm(12, 30) = 60 is their period."""
    n = np.arange(math.lcm(12, 30))
    return (
        ~np.isin(n % 12, REFUSED_MOD_12)
        & np.isin(n * n % 12, SQUARES_MOD_12)
        & np.isin(n % 30, RESIDUES_MOD_30)
    )


def number_kinds(limit: int) -> NumberKinds:
    """The numbers 1, ..., ``limit`` sorted into true, false and missed primes. Raises as `historical_primes`."""
    entries = historical_primes(limit)
    primes = primes_below(limit + 1)
    return NumberKinds(
        limit=int(limit),
        true=np.intersect1d(entries, primes, assume_unique=True),
        false=np.setdiff1d(entries, primes, assume_unique=True),
        missed=np.setdiff1d(primes, entries, assume_unique=True),
    )


def false_primes(limit: int) -> IntArray:
    """The composite entries of `historical_primes`, ascending: 7,376 to 200,000. Raises as it does."""
    return number_kinds(limit).false


def missed_primes(limit: int) -> IntArray:
    """The primes up to ``limit`` that `historical_primes` lacks, ascending: 2,266 to 200,000. Raises as it does."""
    return number_kinds(limit).missed


def compare_historical_primes(limit: int) -> HistoricalComparison:
    """`number_kinds` in counts. Raises as `historical_primes`."""
    kinds = number_kinds(limit)
    residues, counts = np.unique(kinds.missed % 30, return_counts=True)
    return HistoricalComparison(
        limit=kinds.limit,
        entries=kinds.true.size + kinds.false.size,
        primes=kinds.true.size + kinds.missed.size,
        composites=kinds.false.size,
        first_composite=int(kinds.false[0]) if kinds.false.size else None,
        missed=kinds.missed.size,
        missed_residues=dict(zip(residues.tolist(), counts.tolist(), strict=True)),
    )
