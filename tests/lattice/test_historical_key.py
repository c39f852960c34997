"""The original's way from query to key: its three steps, one at a time, and the backward pass of the whole."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.lattice.phase import historical_key, historical_key_adjoint, query_to_key_turn
from cllm_lab.lattice.primes import primes_below
from cllm_lab.lattice.spirals import lattice_coordinates

PRIMES = primes_below(2000)
PHI = (1 + math.sqrt(5)) / 2

primes = st.sampled_from(PRIMES.tolist())
sizes = st.sampled_from([3, 4, 8, 33])
seeds = st.integers(0, 2**32 - 1)


def key_by_words(query, p, place):
    """The three steps on Python floats, a dimension at a time."""
    d = len(query)
    key = []
    for i in range(d):
        t = 2 * math.pi / PHI**2 * (p % 360) * i / d
        key.append(query[i] * math.cos(t) - query[(i + 1) % d] * math.sin(t))
    for i in range(3):
        key[i] += 0.1 * place[i]
    return [value / math.sqrt(p) for value in key]


@given(primes, sizes, seeds)
def test_by_words(p, d, seed):
    rng = np.random.default_rng(seed)
    query, place = rng.standard_normal(d), rng.uniform(-20.0, 20.0, 3)
    np.testing.assert_allclose(historical_key(query, p, place), key_by_words(query, p, place), atol=1e-12)


@given(primes, sizes, seeds)
def test_the_first_step_is_the_turn(p, d, seed):
    query = np.random.default_rng(seed).standard_normal(d)
    alone = historical_key(query, p, np.zeros(3)) * math.sqrt(p)
    np.testing.assert_allclose(alone, query_to_key_turn(query, p), rtol=1e-14, atol=1e-15)


@given(primes, sizes, seeds)
def test_the_second_step_adds_a_tenth_of_the_place_to_three_dimensions(p, d, seed):
    rng = np.random.default_rng(seed)
    query, place = rng.standard_normal(d), rng.uniform(-20.0, 20.0, 3)
    added = (historical_key(query, p, place) - historical_key(query, p, np.zeros(3))) * math.sqrt(p)
    np.testing.assert_allclose(added[:3], 0.1 * place, atol=1e-13)
    assert not added[3:].any()


def test_the_third_step_divides_the_place_as_well():
    # At 360 and its multiples every angle is 0, so that the turn leaves the query as it is.
    query, place = np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 20.0, 30.0])
    for k in (1, 4):
        key = historical_key(query, 360 * k, place)
        np.testing.assert_allclose(key, np.array([2.0, 4.0, 6.0, 4.0]) / math.sqrt(360 * k), rtol=1e-15)


@given(primes, sizes, seeds)
def test_the_adjoint_by_finite_differences(p, d, seed):
    rng = np.random.default_rng(seed)
    query, weights, place = rng.standard_normal(d), rng.standard_normal(d), rng.uniform(-20.0, 20.0, 3)

    def loss(x):
        return float(weights @ historical_key(x, p, place))

    step = 1e-3  # the key is affine, so that a difference is exact but for rounding, however long the step
    slopes = [(loss(query + step * e) - loss(query - step * e)) / (2 * step) for e in np.eye(d)]
    np.testing.assert_allclose(historical_key_adjoint(weights, p), slopes, atol=1e-10)


@given(sizes, seeds)
def test_the_adjoint_is_the_transpose_of_the_linear_part(d, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, 2, 5, d))
    p, places = PRIMES[:5], lattice_coordinates(np.arange(5), PRIMES[:5])
    linear = historical_key(x, p, places) - historical_key(np.zeros_like(x), p, places)
    assert np.vdot(linear, y) == pytest.approx(np.vdot(x, historical_key_adjoint(y, p)), abs=1e-12 * d)


def test_primes_and_places_broadcast_over_heads_and_batches():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 2, 3, 5, 4))
    p, places = PRIMES[:5], lattice_coordinates(np.arange(5), PRIMES[:5])
    every, back = historical_key(x, p, places), historical_key_adjoint(y, p)
    assert every.shape == back.shape == x.shape
    for i in range(5):
        np.testing.assert_array_equal(every[..., i, :], historical_key(x[..., i, :], p[i], places[i]))
        np.testing.assert_array_equal(back[..., i, :], historical_key_adjoint(y[..., i, :], p[i]))


def test_the_dtype_is_kept_and_the_arguments_left_alone():
    x, place = np.ones((5, 4), np.float32), np.ones(3)
    before = x.copy()
    assert historical_key(x, 7, place).dtype == historical_key_adjoint(x, 7).dtype == np.float32
    assert historical_key([1, 2, 3], 7, [0, 0, 1]).dtype == np.float64
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(place, 1.0)


def test_the_root_is_taken_in_full_precision_of_primes_of_any_type():
    x, place = np.random.default_rng(1).standard_normal((3, 4)), np.arange(3.0)
    for dtype in (np.int8, np.uint16, object):
        p = np.array([101, 103, 107], dtype=dtype)
        wanted = historical_key(x, [101, 103, 107], place)
        np.testing.assert_array_equal(historical_key(x, p, place), wanted)


def test_bad_arguments_are_refused():
    query, place = np.ones((2, 4)), np.zeros(3)
    with pytest.raises(ValueError, match=r"coordinates must broadcast to \(2, 3\), got \(4,\)"):
        historical_key(query, 3, np.zeros(4))
    with pytest.raises(ValueError, match=r"coordinates must broadcast to \(2, 3\), got \(5, 2, 3\)"):
        historical_key(query, 3, np.zeros((5, 2, 3)))
    with pytest.raises(ValueError, match="coordinates must be finite"):
        historical_key(query, 3, [0.0, np.nan, 0.0])
    with pytest.raises(TypeError, match="coordinates must hold real numbers"):
        historical_key(query, 3, [0.0, 1j, 0.0])
    for function in (lambda x, p: historical_key(x, p, place), historical_key_adjoint):
        with pytest.raises(ValueError, match="d_head must be at least 3, the number of coordinates; got 2"):
            function(np.ones(2), 3)
        with pytest.raises(TypeError, match="must hold real numbers, got dtype complex128"):
            function(np.ones(4, dtype=complex), 3)
        with pytest.raises(ValueError, match=r"primes must broadcast to \(2,\)"):
            function(query, [2, 3, 5])
        with pytest.raises(ValueError, match="primes must be at least 1, got 0"):
            function(query, 0)
        with pytest.raises(TypeError, match="primes must hold integers"):
            function(query, 3.0)
