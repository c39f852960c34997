import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.lattice.distances import DISTANCES, factor_distance, lattice_distance, metric_failures
from cllm_lab.lattice.primes import factorise, primes_below
from cllm_lab.lattice.spirals import spiral_position

NUMBERS = np.arange(1, 81)
PRIMES = primes_below(400)

numbers = st.integers(1, 10**9)


def table(function, values):
    return function(values[:, None], values)


def lattice_table(places, primes):
    return lattice_distance(places[:, None], places, primes[:, None], primes)


@pytest.mark.parametrize("name", DISTANCES)
def test_a_search_through_all_triples_agrees_with_what_is_said_of_each(name):
    found = metric_failures(table(DISTANCES[name].function, NUMBERS))
    assert found.is_metric == DISTANCES[name].metric
    assert found.asymmetric is None


@pytest.mark.parametrize("name", [name for name, distance in DISTANCES.items() if distance.metric])
@given(a=numbers, b=numbers, c=numbers)
def test_the_metrics_hold_at_large(name, a, b, c):
    d = DISTANCES[name].function
    assert d(a, a) == 0.0
    assert (d(a, b) > 0.0) == (a != b)
    assert d(a, c) <= d(a, b) + d(b, c) + 1e-12 * (1.0 + d(a, c))


@pytest.mark.parametrize(("name", "a", "b", "c"), [("zero-if-coprime", 2, 6, 3), ("phase", 10, 11, 12)])
def test_counterexamples_to_the_triangle_inequality(name, a, b, c):
    d = DISTANCES[name].function
    assert d(a, c) > d(a, b) + d(b, c) + 1e-3


def test_distances_that_do_not_tell_numbers_apart_or_tell_one_from_itself():
    assert DISTANCES["zero-if-coprime"].function(2, 6) == 0.0
    np.testing.assert_array_equal(DISTANCES["reciprocal-gcd"].function(PRIMES, PRIMES), 1.0 - 1.0 / PRIMES)


def test_on_primes_two_are_the_distance_that_knows_equality_alone():
    unequal = (PRIMES[:, None] != PRIMES).astype(float)
    np.testing.assert_array_equal(table(DISTANCES["zero-if-coprime"].function, PRIMES), unequal)
    np.testing.assert_array_equal(table(DISTANCES["half-if-coprime"].function, PRIMES), unequal / 2)


def test_a_larger_common_divisor_is_further_in_the_variant_with_one_half():
    further = DISTANCES["half-if-coprime"].function([7, 14, 35], [8, 21, 70])
    assert (np.diff(further) > 0).all()


@given(numbers, numbers)
def test_the_factor_distance_by_exponents(a, b):
    of_a, of_b = dict(factorise(a)), dict(factorise(b))
    expected = sum(
        abs(of_a.get(r, 0) - of_b.get(r, 0)) * math.log(r) for r in sorted(of_a.keys() | of_b.keys())
    )
    assert factor_distance(a, b) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_the_lattice_distance_is_euclids_on_distinct_primes():
    places = spiral_position(PRIMES)
    euclid = np.linalg.norm(places[:, None] - places, axis=-1)
    np.testing.assert_array_equal(lattice_table(places, PRIMES), euclid)
    assert metric_failures(euclid).is_metric


def test_the_lattice_distance_divides_by_the_common_divisor_and_coprime_is_no_special_case():
    x, y = np.array([0.0, 0.0]), np.array([3.0, 4.0])
    assert lattice_distance(x, y, [7, 6, 12], [9, 15, 12]).tolist() == [5.0, 5.0 / 3, 5.0 / 12]


def test_composites_break_the_triangle_inequality_of_the_lattice_distance():
    values = np.array([2, 6, 3])
    places = spiral_position(values)
    direct, first, second = (
        lattice_distance(places[i], places[j], values[i], values[j]) for i, j in ((0, 2), (0, 1), (1, 2))
    )
    assert direct > first + second
    # The worst triple of 1 to 80: its detour is less than a third of the direct way.
    failures = metric_failures(lattice_table(spiral_position(NUMBERS), NUMBERS))
    assert failures.triangle is not None and failures.zero_apart is None
    i, j, k = failures.triangle
    d = lattice_table(spiral_position(NUMBERS), NUMBERS)
    assert failures.excess == d[i, k] - (d[i, j] + d[j, k]) > 2 / 3 * d[i, k]


def test_so_do_places_that_share_a_prime():
    places = np.array([[0.0], [1.0], [2.0]])
    shared = lattice_table(places, np.array([5, 7, 7]))
    assert metric_failures(lattice_table(places, np.array([5, 7, 11]))).is_metric
    # From 5 straight to the second 7 it is 2; over the first 7 it is 1 + 1/7.
    assert metric_failures(shared).triangle == (0, 1, 2)
    assert metric_failures(shared).excess == pytest.approx(2 - (1 + 1 / 7))


def test_every_failure_is_named():
    d = np.ones((4, 4)) - np.eye(4)
    assert metric_failures(d).is_metric
    d[2, 2] = 0.1
    assert metric_failures(d).not_zero == 2
    d = np.ones((4, 4)) - np.eye(4)
    d[0, 3] = 1.5
    assert metric_failures(d).asymmetric == (0, 3) and not metric_failures(d).is_metric
    d = np.ones((4, 4)) - np.eye(4)
    d[1, 2] = d[2, 1] = 0.0
    assert metric_failures(d).zero_apart == (1, 2)
    d[1, 2] = d[2, 1] = 2.5
    found = metric_failures(d)
    assert found.triangle in {(1, 0, 2), (1, 3, 2), (2, 0, 1), (2, 3, 1)} and found.excess == 0.5


def equal(n):
    return np.ones((n, n)) - np.eye(n)


def test_a_failure_is_told_by_names_and_values():
    names = ["a", "b", "c", "d"]
    d = equal(4)
    assert metric_failures(d).describe(names, d) == "metric"
    d[1, 3] = d[3, 1] = 2.5
    assert metric_failures(d).describe(names, d) == "b to d is 2.5; over a, 2"
    d[0, 3] = 1.5
    assert metric_failures(d).describe(names, d) == "d(a, d) = 1.5, but d(d, a) = 1"
    d[1, 2] = d[2, 1] = 0.0
    assert metric_failures(d).describe(names, d) == "d(b, c) = 0"
    d[2, 2] = 0.125
    assert metric_failures(d).describe(names, d) == "d(c, c) = 0.125"


def test_a_negative_distance_is_not_told_as_0():
    d = equal(3)
    d[0, 2] = d[2, 0] = -0.5
    assert metric_failures(d).describe([7, 8, 9], d) == "d(7, 9) = -0.5"


def test_a_detour_is_told_with_the_numbers_themselves():
    d = table(DISTANCES["phase"].function, np.arange(1, 31))
    assert metric_failures(d).describe(np.arange(1, 31), d) == "11 to 30 is 0.987; over 1, 0.291"


def test_names_and_table_must_belong_to_what_was_found():
    d = equal(4)
    d[3, 3] = 1.0
    found = metric_failures(d)
    with pytest.raises(ValueError, match="names must be 4, one for each row of distances; got 3"):
        found.describe("abc", d)
    with pytest.raises(
        ValueError, match=r"distances must be the table that was searched; got shape \(3, 3\)"
    ):
        found.describe("abc", equal(3))


def test_bad_input_is_refused():
    here = np.zeros(3)
    with pytest.raises(ValueError, match="q must be at least 1, got 0"):
        lattice_distance(here, here, 2, 0)
    with pytest.raises(TypeError, match="p must hold integers"):
        lattice_distance(here, here, 2.0, 3)
    with pytest.raises(ValueError, match=r"same axes; got \(3,\), \(2,\)"):
        lattice_distance(here, np.zeros(2), 2, 3)
    for bad in (np.inf, np.nan):
        with pytest.raises(ValueError, match=r"^x must be finite"):
            lattice_distance(np.array([0.0, bad, 0.0]), here, 2, 3)
        with pytest.raises(ValueError, match=r"^y must be finite"):
            lattice_distance(here, np.array([0.0, bad, 0.0]), 2, 3)
    with pytest.raises(ValueError, match=r"x, y, p and q must have shapes .* got \(2,\), \(\), \(3,\), \(\)"):
        lattice_distance(np.zeros((2, 3)), here, [2, 3, 5], 7)
    for bad in (-1e-9, np.nan, np.inf):
        with pytest.raises(ValueError, match="tolerance must be finite and at least 0"):
            metric_failures(np.zeros((1, 1)), bad)
    with pytest.raises(TypeError, match="tolerance must be a number"):
        metric_failures(np.zeros((1, 1)), "small")
    for bad in (np.zeros((2, 3)), np.zeros(3), np.zeros((0, 0))):
        with pytest.raises(ValueError, match="distances must have shape"):
            metric_failures(bad)
    with pytest.raises(ValueError, match="distances must be finite"):
        metric_failures([[np.nan]])
    for distance in DISTANCES.values():
        with pytest.raises(ValueError, match="a must be at least 1, got 0"):
            distance.function(0, 1)
