"""The original's list against its rules, asked one number at a time, and against the primes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm_lab.lattice import historical as module
from cllm_lab.lattice.historical import (
    LARGEST_LIMIT,
    SEEDS,
    compare_historical_primes,
    false_primes,
    historical_blocks,
    historical_primes,
    missed_primes,
    number_kinds,
)
from cllm_lab.lattice.primes import primes_below, smallest_factor

SMALL_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61)


def admitted(n):
    if n in (2, 3, 5, 13, 43):
        return True
    if n < 2 or n % 12 in (0, 6, 8, 10) or n * n % 12 not in (1, 9):
        return False
    if n % 30 not in (1, 7, 11, 17, 19, 23, 29, 59):
        return False
    return all(n % q for q in SMALL_PRIMES if q != n)


ENTRIES = [n for n in range(30_000) if admitted(n)]


@given(st.integers(0, 29_999))
@settings(max_examples=60)
def test_the_list_follows_the_rules(limit):
    found = historical_primes(limit)
    assert found.dtype == np.int64
    assert found.tolist() == [n for n in ENTRIES if n <= limit]


@pytest.mark.parametrize("limit", [*range(50), 4488, 4489])
def test_the_limit_is_included(limit):
    assert historical_primes(limit).tolist() == [n for n in ENTRIES if n <= limit]


def test_wherever_a_segment_ends(monkeypatch):
    monkeypatch.setattr(module, "_SEGMENT", 60)
    for limit in (59, 60, 61, 119, 120, 121, 5000):
        assert historical_primes(limit).tolist() == [n for n in ENTRIES if n <= limit]


def test_blocks_follow_one_another_and_end_after_the_limit():
    limit = module._SEGMENT + 1000
    blocks = list(historical_blocks(limit))
    assert [end for end, _ in blocks] == [module._SEGMENT, limit + 1]
    assert blocks[1][1].min() >= module._SEGMENT > blocks[0][1].max()
    assert [n for n in range(module._SEGMENT, limit + 1) if admitted(n)] == blocks[1][1].tolist()


def test_the_kinds_hold_every_entry_and_every_prime_once():
    kinds = number_kinds(5000)
    primes = [n for n in range(2, 5001) if all(n % d for d in range(2, int(n**0.5) + 1))]
    assert kinds.true.tolist() == sorted(set(ENTRIES) & set(primes))
    assert kinds.false.tolist() == [67 * 67, 67 * 71, 67 * 73]
    assert kinds.missed.tolist() == sorted(set(primes) - set(ENTRIES))
    assert kinds.missed[:3].tolist() == [73, 103, 163] and {13, 43} <= set(kinds.true.tolist())
    assert kinds.limit == 5000 and {numbers.dtype.str for numbers in (kinds.true, kinds.false)} == {"<i8"}


@pytest.mark.parametrize("limit", [0, 1, 2, 72, 73, 4488, 4489])
def test_the_kinds_include_the_limit(limit):
    kinds = number_kinds(limit)
    assert sorted([*kinds.true, *kinds.false]) == historical_primes(limit).tolist()
    assert sorted([*kinds.true, *kinds.missed]) == primes_below(limit + 1).tolist()


def test_the_counts_of_the_original():
    found = compare_historical_primes(200_000)
    assert (found.entries, found.composites, found.missed, found.primes) == (23_094, 7_376, 2_266, 17_984)
    assert found.first_composite == 4489 == 67**2
    assert found.missed_residues == {13: 2_266}
    assert found.limit == 200_000


@given(st.integers(0, 60_000))
@settings(max_examples=30)
def test_the_counts_add_up(limit):
    found = compare_historical_primes(limit)
    assert found.entries == found.primes - found.missed + found.composites
    assert found.entries == len(historical_primes(limit))
    assert found.composites == len(false_primes(limit))
    assert found.missed == len(missed_primes(limit)) == sum(found.missed_residues.values())
    assert found.first_composite == next(iter(false_primes(limit).tolist()), None)


def test_the_false_primes_are_products_of_primes_above_61():
    false = false_primes(200_000)
    assert len(false) == 7_376
    factor = smallest_factor(false)
    assert (factor < false).all() and factor.min() == 67
    # All such products are entries, unless they are 13 mod 30.
    numbers = np.arange(2, 200_001)
    factor = smallest_factor(numbers)
    np.testing.assert_array_equal(false, numbers[(factor > 61) & (factor < numbers) & (numbers % 30 != 13)])


def test_the_missed_primes_are_those_of_13_mod_30_after_the_seeds():
    primes = primes_below(200_001)
    wanted = primes[(primes % 30 == 13) & ~np.isin(primes, SEEDS)]
    np.testing.assert_array_equal(missed_primes(200_000), wanted)


def test_the_rules_of_twelve_decide_nothing():
    prime_to_30 = [n for n in range(60) if np.gcd(n, 30) == 1]
    assert {n % 12 for n in prime_to_30} == {1, 5, 7, 11}
    assert {n * n % 12 for n in prime_to_30} == {1}


@pytest.mark.parametrize(
    "function",
    [
        historical_primes,
        historical_blocks,
        number_kinds,
        false_primes,
        missed_primes,
        compare_historical_primes,
    ],
)
def test_a_wrong_limit_is_refused(function):
    with pytest.raises(TypeError, match="limit must be an integer"):
        function(10.0)
    with pytest.raises(ValueError, match="limit must be at least 0, got -1"):
        function(-1)
    with pytest.raises(ValueError, match=f"limit must be at most {LARGEST_LIMIT}"):
        function(LARGEST_LIMIT + 1)
