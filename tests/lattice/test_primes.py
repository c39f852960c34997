"""Primes against a plain sieve, trial division and published counts."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm_lab.lattice import primes as module
from cllm_lab.lattice.primes import (
    LARGEST_COUNT,
    LARGEST_FACTORED,
    LARGEST_LIST,
    LARGEST_SIEVE,
    SEGMENT,
    factorise,
    is_prime,
    next_prime,
    nth_prime,
    nth_prime_bound,
    prime_blocks,
    prime_count,
    primes_below,
    smallest_factor,
)

# OEIS A006880: pi(10^k) for k from 0.
PI_OF_POWERS_OF_TEN = (0, 4, 25, 168, 1229, 9592, 78498, 664579, 5761455, 50847534, 455052511)
# OEIS A006988: the 10^k-th prime.
PRIMES_AT_POWERS_OF_TEN = (2, 29, 541, 7919, 104729, 1299709, 15485863)


def plain_sieve(n):
    """The primes below n: one byte a number, no segment, no wheel."""
    flags = bytearray([1]) * n
    flags[:2] = bytes(2)
    for p in range(2, math.isqrt(n) + 1):
        if flags[p]:
            flags[p * p :: p] = bytes(len(range(p * p, n, p)))
    return np.flatnonzero(np.frombuffer(flags, np.uint8))


PRIMES = plain_sieve(3 * SEGMENT + 1000)


def by_trial(n):
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


def test_the_plain_sieve_is_right():
    assert PRIMES[:300].tolist() == [n for n in range(1988) if by_trial(n)]


@pytest.mark.parametrize("n", range(40))
def test_the_first_primes(n):
    found = primes_below(n)
    assert found.dtype == np.int64
    assert found.tolist() == [p for p in range(n) if by_trial(p)]


@given(st.integers(0, 3 * SEGMENT + 1000) | st.integers(-3, 3).map(lambda d: 2 * SEGMENT + d))
@settings(max_examples=40)
def test_the_sieve_agrees_with_the_plain_one_wherever_a_segment_ends(n):
    np.testing.assert_array_equal(primes_below(n), PRIMES[: np.searchsorted(PRIMES, n)])


def test_squares_of_primes_at_the_end_of_a_segment(monkeypatch):
    for size in (2, 8, 48, 120, 168, 170, 288, 290):
        monkeypatch.setattr(module, "SEGMENT", size)
        for n in (size, size + 1, 2 * size + 1, 3000):
            assert primes_below(n).tolist() == PRIMES[: np.searchsorted(PRIMES, n)].tolist()


@pytest.mark.parametrize("power", [6, 7, 8])
def test_the_published_counts(power):
    found = primes_below(10**power)
    assert len(found) == PI_OF_POWERS_OF_TEN[power]
    assert found[-1] == max(n for n in range(10**power - 1000, 10**power) if by_trial(n))


def test_the_published_sum_of_the_primes_below_two_million():
    assert primes_below(2_000_000).sum() == 142_913_828_922


def test_blocks_follow_one_another_and_end_at_n():
    n = 2 * SEGMENT + 12345
    blocks = list(prime_blocks(n))
    ends = [0, *(end for end, _ in blocks)]
    assert ends == [0, SEGMENT, 2 * SEGMENT, n]
    for (start, end), (_, primes) in zip(pairwise(ends), blocks, strict=True):
        assert start <= primes[0] < primes[-1] < end
    assert list(prime_blocks(2)) == []


@pytest.mark.parametrize("power", range(11))
def test_published_counts_without_a_list(power):
    assert prime_count(10**power) == PI_OF_POWERS_OF_TEN[power]


def test_counts_of_all_small_numbers():
    assert [prime_count(n) for n in range(800)] == [
        int(np.searchsorted(PRIMES, n, side="right")) for n in range(800)
    ]


@given(st.integers(0, 3 * SEGMENT))
@settings(max_examples=50)
def test_the_count_is_the_length_of_the_list(n):
    assert prime_count(n) == np.searchsorted(PRIMES, n, side="right")


def test_the_published_nth_primes():
    found = nth_prime([10**k for k in range(len(PRIMES_AT_POWERS_OF_TEN))])
    assert found.tolist() == list(PRIMES_AT_POWERS_OF_TEN)
    assert nth_prime(10_000) == 104729 and type(nth_prime(10_000)) is int


def test_the_nth_primes_keep_shape_and_order():
    wanted = np.random.default_rng(0).integers(1, len(PRIMES), (40, 5))
    found = nth_prime(wanted)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, PRIMES[wanted - 1])
    assert nth_prime([[]]).shape == (1, 0)


def test_every_one_of_the_first_primes_by_itself():
    assert [nth_prime(n) for n in range(1, 60)] == PRIMES[:59].tolist()


@given(st.integers(1, 10**7))
@settings(max_examples=25)
def test_no_nth_prime_exceeds_its_bound(n):
    assert prime_count(nth_prime_bound(n)) >= n


@pytest.mark.parametrize("n", [*range(1, 20), 688_382, 688_383, 688_384, 1_000_000])
def test_the_bound_where_its_formula_changes(n):
    p = plain_sieve(nth_prime_bound(n) + 1)
    assert len(p) >= n
    if n >= 688_382:
        assert nth_prime_bound(n) < p[n - 1] * (1.1 if n < 688_383 else 1.001)


def test_primality_of_all_small_numbers():
    numbers = np.arange(-50, 60_000)
    np.testing.assert_array_equal(is_prime(numbers), np.isin(numbers, PRIMES))


# Carmichael numbers; strong pseudoprimes to the bases 2; 2, 3; 2, 3, 5; 2, 3, 5, 7; to 2, 7, 61; then the least ones to
# the first 5, 6, 7 and 9 primes (OEIS A014233, and Jaeschke 1993); squares of primes.
COMPOSITES = (
    *(561, 1105, 1729, 2465, 2821, 6601, 8911, 825265, 321197185),
    *(2047, 1373653, 25326001, 3215031751, 4759123141),
    *(2152302898747, 3474749660383, 341550071728321, 3825123056546413051),
    *(65521**2, 65537**2, 4294967291**2, 2**64 - 1, 2**63),
)
# Mersenne's, Fermat's, and the neighbours of the bounds (OEIS A013603).
KNOWN_PRIMES = (65537, 2**31 - 1, 2**32 - 5, 2**32 + 15, 2**61 - 1, 2**63 - 25, 2**64 - 59)


@pytest.mark.parametrize("n", COMPOSITES)
def test_numbers_that_deceive_weaker_tests(n):
    assert is_prime(n) is False
    assert is_prime(np.array([n, 7], np.uint64)).tolist() == [False, True]


@pytest.mark.parametrize("n", KNOWN_PRIMES)
def test_known_primes(n):
    assert is_prime(n) is True
    assert is_prime(np.array([n, 9], np.uint64)).tolist() == [True, False]


@given(st.integers(2, 2**32 - 1), st.integers(2, 2**32 - 1))
def test_no_product_is_prime(a, b):
    assert not is_prime(a * b)


@given(st.integers(2**32, 10**12))
@settings(max_examples=30)
def test_large_numbers_by_trial_division(n):
    n |= 1
    assert is_prime(n) == bool((n % PRIMES[: np.searchsorted(PRIMES, math.isqrt(n), side="right")]).all())


def test_primality_keeps_the_shape():
    assert is_prime(np.arange(6).reshape(2, 3)).tolist() == [[False, False, True], [True, False, True]]
    assert is_prime([]).shape == (0,)
    assert is_prime(np.int8(7)) is True


@given(st.integers(0, int(PRIMES[-1])))
@settings(max_examples=30)
def test_the_next_prime(n):
    assert next_prime(n) == PRIMES[np.searchsorted(PRIMES, n)]


def test_the_next_prime_at_the_end_of_64_bits():
    assert next_prime(2**64 - 82) == next_prime(2**64 - 59) == 2**64 - 59
    with pytest.raises(ValueError, match=f"n must be at most {2**64 - 59}, got {2**64 - 58}"):
        next_prime(2**64 - 58)


@given(st.lists(st.integers(2, 10**6), min_size=1, max_size=10))
def test_smallest_factors(numbers):
    wanted = [next(d for d in range(2, n + 1) if n % d == 0 or d * d > n) for n in numbers]
    wanted = [d if n % d == 0 else n for d, n in zip(wanted, numbers, strict=True)]
    assert smallest_factor(numbers).tolist() == wanted


def test_smallest_factors_keep_the_shape():
    assert smallest_factor([[4, 9], [35, 97]]).tolist() == [[2, 3], [5, 97]]
    assert smallest_factor(4489) == 67 and type(smallest_factor(4489)) is int
    assert smallest_factor(np.empty((0, 2), np.int64)).shape == (0, 2)


@given(st.integers(1, 10**9))
@settings(max_examples=50)
def test_factors_are_primes_whose_product_is_the_number(n):
    factors = factorise(n)
    assert math.prod(p**e for p, e in factors) == n
    assert all(is_prime(p) and e > 0 for p, e in factors)
    assert [p for p, _ in factors] == sorted({p for p, _ in factors})


def test_some_factors():
    assert factorise(1) == ()
    assert factorise(360) == ((2, 3), (3, 2), (5, 1))
    assert factorise(999_983 * 999_979) == ((999_979, 1), (999_983, 1))


@pytest.mark.parametrize(
    "function",
    [primes_below, prime_blocks, prime_count, nth_prime, is_prime, next_prime, smallest_factor, factorise],
)
@pytest.mark.parametrize("wrong", [2.5, "7", None, True])
def test_what_is_no_integer_is_refused(function, wrong):
    with pytest.raises(TypeError, match=r"^n must (be an integer|hold integers), got"):
        function(wrong)


@pytest.mark.parametrize("function", [nth_prime, is_prime, smallest_factor])
@pytest.mark.parametrize("wrong", [[2, None], [2, 2.5], [2**70, "7"], [True, 2**70]])
def test_an_array_with_one_entry_that_is_no_integer_is_refused(function, wrong):
    with pytest.raises(TypeError, match=r"^n must hold integers, got"):
        function(wrong)


def test_lists_that_numpy_takes_for_floats_or_objects_are_integers():
    # NumPy makes float64 of the first, and objects of the second.
    assert is_prime([2**64 - 59, 7]).tolist() == [True, True]
    assert is_prime([-(2**70), 7]).tolist() == [False, True]
    assert is_prime(np.array([7, 9], dtype=object)).tolist() == [True, False]
    assert smallest_factor(np.array([9, 7], dtype=object)).tolist() == [3, 7]


@pytest.mark.parametrize(
    ("function", "wrong"),
    [
        (primes_below, -1),
        (primes_below, LARGEST_LIST + 1),
        (prime_blocks, LARGEST_SIEVE + 1),
        (prime_count, -1),
        (prime_count, LARGEST_COUNT + 1),
        (nth_prime, 0),
        (nth_prime, [3, -1]),
        (nth_prime, 10**9),
        (is_prime, 2**64),
        (is_prime, [2**64]),
        (next_prime, -1),
        (smallest_factor, 1),
        (smallest_factor, [5, LARGEST_FACTORED + 1]),
        (smallest_factor, np.array([2**63], np.uint64)),
        (factorise, 0),
        (factorise, LARGEST_FACTORED + 1),
    ],
)
def test_what_is_out_of_range_is_refused(function, wrong):
    with pytest.raises(ValueError, match=r"^n must "):
        function(wrong)
