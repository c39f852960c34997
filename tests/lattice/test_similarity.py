import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.lattice.primes import primes_below
from cllm_lab.lattice.similarity import (
    SIMILARITIES,
    gcd_over_max,
    half_if_coprime,
    historical_gcd_loss,
    reciprocal_gcd,
    zero_if_coprime,
)
from cllm_lab.lattice.spirals import LARGEST_NUMBER

NUMBERS = np.arange(1, 121)
PRIMES = primes_below(2000)
OUT_OF_RANGE = np.array([LARGEST_NUMBER + 1])

positive = st.integers(1, LARGEST_NUMBER)
some_primes = st.sampled_from(primes_below(50_000).tolist())


def by_words(name, a, b):
    """Each variant as its table says it, on Python integers."""
    gcd = math.gcd(a, b)
    if name == "gcd-over-max":
        return gcd / max(a, b)
    if name == "half-if-coprime":
        return 1.0 if a == b else 0.5 if gcd == 1 else 1 / gcd
    if name == "reciprocal-gcd":
        return 0.5 if gcd == 1 else 1 / gcd
    assert name == "zero-if-coprime"
    return 1.0 if a == b else 0.0 if gcd == 1 else gcd / min(a, b)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_all_pairs_of_small_numbers(name):
    found = SIMILARITIES[name](NUMBERS[:, None], NUMBERS)
    assert found.shape == (len(NUMBERS), len(NUMBERS)) and found.dtype == np.float64
    expected = [[by_words(name, a, b) for b in NUMBERS.tolist()] for a in NUMBERS.tolist()]
    np.testing.assert_array_equal(found, expected)


@given(st.sampled_from(sorted(SIMILARITIES)), positive, positive)
def test_symmetric_within_bounds_and_as_worded(name, a, b):
    value = SIMILARITIES[name](a, b)
    assert value == SIMILARITIES[name](b, a) == by_words(name, a, b)
    assert 0.0 <= value <= 1.0


def test_on_distinct_primes_two_are_constants_and_one_knows_size_alone():
    p, q = PRIMES[:, None], PRIMES
    apart = p != q
    assert set(half_if_coprime(p, q)[apart]) == set(reciprocal_gcd(p, q)[apart]) == {0.5}
    assert set(zero_if_coprime(p, q)[apart]) == {0.0}
    np.testing.assert_array_equal(gcd_over_max(p, q)[apart], (1.0 / np.maximum(p, q))[apart])


@given(some_primes, some_primes)
def test_on_primes_at_large(p, q):
    same = p == q
    assert gcd_over_max(p, q) == (1.0 if same else 1.0 / max(p, q))
    assert half_if_coprime(p, q) == (1.0 if same else 0.5)
    assert zero_if_coprime(p, q) == (1.0 if same else 0.0)
    assert reciprocal_gcd(p, q) == (1.0 / p if same else 0.5)


def test_the_resonance_variant_holds_a_prime_to_be_less_like_itself_than_like_any_other():
    itself = reciprocal_gcd(PRIMES, PRIMES)
    np.testing.assert_array_equal(itself, 1.0 / PRIMES)
    assert itself[0] == 0.5 and (itself[1:] < 0.5).all()


def test_composites_are_where_the_variants_differ():
    assert [float(f(6, 12)) for f in SIMILARITIES.values()] == [0.5, 1 / 6, 1 / 6, 1.0]


def loss_by_words(i, j):
    n, m = i + 1, j + 1
    golden = 2 * math.pi / ((1 + math.sqrt(5)) / 2) ** 2

    def place(k):
        return (math.sqrt(k) * math.cos(k * golden), math.sqrt(k) * math.sin(k * golden), math.log(k + 1))

    similarity = 0.7 * math.gcd(n, m) / max(n, m) + 0.3 / (1 + math.dist(place(n), place(m)))
    return -math.log(max(1e-10, similarity))


@given(st.integers(0, 100_000), st.integers(0, 100_000))
def test_the_historical_loss_by_its_formula(i, j):
    # The place of n turns by 2.4 n radians, whose rounding here is some 1e-11, times a radius of at most 317.
    assert historical_gcd_loss(i, j) == pytest.approx(loss_by_words(i, j), abs=1e-8)


def test_the_historical_loss_is_least_where_nothing_changes():
    ids = np.arange(50)
    loss = historical_gcd_loss(ids[:, None], ids)
    assert (np.diag(loss) == 0.0).all()
    assert (loss[~np.eye(50, dtype=bool)] > 0.0).all()
    np.testing.assert_array_equal(loss, loss.T)


def test_the_historical_loss_takes_places():
    places = np.array([[0.0], [3.0], [7.0]])
    expected = -math.log(0.7 / 3 + 0.3 / (1 + 4.0))
    assert historical_gcd_loss(1, 2, places) == pytest.approx(expected, rel=1e-15)


def test_the_floor_of_the_original_is_never_reached():
    last = np.arange(LARGEST_NUMBER - 1000, LARGEST_NUMBER)
    assert historical_gcd_loss(last[:, None], last).max() < -math.log(1e-9) < -math.log(1e-10)


def test_far_places_leave_the_divisor_alone():
    assert historical_gcd_loss(0, 2, np.array([[0.0], [0.0], [1e150]])) == pytest.approx(-math.log(0.7 / 3))


@pytest.mark.parametrize("function", SIMILARITIES.values())
def test_bad_numbers_are_refused(function):
    with pytest.raises(ValueError, match="a must be at least 1, got 0"):
        function([3, 0], 2)
    with pytest.raises(ValueError, match="b must be at least 1, got -5"):
        function(3, -5)
    with pytest.raises(TypeError, match="b must hold integers, got dtype float64"):
        function(3, 2.0)
    with pytest.raises(ValueError, match="a must be at most"):
        function(OUT_OF_RANGE, 1)
    with pytest.raises(ValueError, match=r"a and b must have shapes that broadcast; got \(2,\), \(3,\)"):
        function([1, 2], [1, 2, 3])


def test_bad_ids_and_places_are_refused():
    with pytest.raises(ValueError, match="input_ids must be at least 0, got -1"):
        historical_gcd_loss([-1], [0])
    with pytest.raises(TypeError, match="target_ids must hold integers"):
        historical_gcd_loss([0], [0.5])
    with pytest.raises(ValueError, match="target_ids must be at most"):
        historical_gcd_loss([0], [LARGEST_NUMBER])
    with pytest.raises(ValueError, match="input_ids and target_ids must have shapes that broadcast"):
        historical_gcd_loss([0, 1], [0, 1, 2])
    with pytest.raises(
        ValueError, match=r"coordinates must have shape \(vocabulary, axes\) with a row for id 2"
    ):
        historical_gcd_loss([0], [2], np.zeros((2, 3)))
    with pytest.raises(ValueError, match="coordinates must have shape"):
        historical_gcd_loss([0], [0], np.zeros(3))
    with pytest.raises(ValueError, match="coordinates must be finite"):
        historical_gcd_loss([0], [0], np.array([[np.nan]]))
