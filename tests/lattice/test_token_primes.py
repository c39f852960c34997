"""The three maps from ids to primes, against a search number by number."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm_lab.lattice.token_primes import (
    TOKEN_PRIMES,
    growth_token_primes,
    nth_token_primes,
    wrapped_token_primes,
)


def by_trial(n):
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


FIRST_PRIMES = [n for n in range(104_730) if by_trial(n)]


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=10))
@settings(max_examples=40)
def test_the_growth_map(ids):
    wanted = []
    for n in ids:
        candidate = n * math.floor(math.log(n + 1) + 1)
        while not by_trial(candidate):
            candidate += 1
        wanted.append(candidate)
    assert growth_token_primes(ids).tolist() == wanted


def test_the_growth_map_is_not_one_to_one():
    assert len(np.unique(growth_token_primes(np.arange(10_000)))) == 6_458
    assert growth_token_primes([0, 1, 2, 3]).tolist() == [2, 2, 5, 7]


def test_the_nth_map():
    found = nth_token_primes(np.arange(10_000))
    assert found.tolist() == FIRST_PRIMES
    assert found[0] == 2 and found[-1] == 104_729


def test_the_cached_map_wraps_round():
    ids = np.arange(3_500)
    assert wrapped_token_primes(ids).tolist() == [FIRST_PRIMES[n % 1_000] for n in ids]
    assert wrapped_token_primes([999, 1_000, 2**62]).tolist() == [7_919, 2, FIRST_PRIMES[2**62 % 1_000]]


@pytest.mark.parametrize("name", TOKEN_PRIMES)
def test_shapes_are_kept(name):
    ids = np.array([[3, 1], [4, 1]], np.int32)
    found = TOKEN_PRIMES[name](ids)
    assert found.shape == (2, 2) and found.dtype == np.int64
    assert found[0, 1] == found[1, 1]
    assert TOKEN_PRIMES[name](5).shape == ()
    assert TOKEN_PRIMES[name](5) == TOKEN_PRIMES[name]([5])[0]
    assert TOKEN_PRIMES[name](np.empty((0, 3), np.int64)).shape == (0, 3)


@pytest.mark.parametrize("name", TOKEN_PRIMES)
def test_wrong_ids_are_refused(name):
    with pytest.raises(TypeError, match="ids must hold integers"):
        TOKEN_PRIMES[name]([1.0])
    with pytest.raises(ValueError, match="ids must be at least 0, got -1"):
        TOKEN_PRIMES[name]([3, -1])


@pytest.mark.parametrize("name", ["growth", "nth"])
@pytest.mark.parametrize("wrong", [5 * 10**8, 2**62])
def test_ids_beyond_the_sieve_are_refused(name, wrong):
    with pytest.raises(ValueError, match=r"^ids must "):
        TOKEN_PRIMES[name]([wrong])


def test_the_names():
    assert dict(TOKEN_PRIMES) == {
        "growth": growth_token_primes,
        "nth": nth_token_primes,
        "cached": wrapped_token_primes,
    }
