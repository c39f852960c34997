import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cllm_lab.lattice import phase
from cllm_lab.lattice.phase import (
    phase_alignment,
    query_to_key_rotation,
    query_to_key_rotation_adjoint,
    query_to_key_turn,
    query_to_key_turn_adjoint,
    resonance,
    resonance_factor,
    turn_angles,
)
from cllm_lab.lattice.primes import primes_below
from cllm_lab.lattice.spirals import LARGEST_NUMBER

PRIMES = primes_below(2000)
PHI = (1 + math.sqrt(5)) / 2
PAIRS = [
    (query_to_key_turn, query_to_key_turn_adjoint),
    (query_to_key_rotation, query_to_key_rotation_adjoint),
]
TURNS = [function for pair in PAIRS for function in pair]

positive = st.integers(1, LARGEST_NUMBER)
primes = st.sampled_from(PRIMES.tolist())
seeds = st.integers(0, 2**32 - 1)


def matrix_of(function, prime, d_head):
    """The matrix whose columns are the images of the unit vectors."""
    return function(np.eye(d_head), prime).T


@given(positive, positive)
def test_phase_by_its_formula(p, q):
    value = phase_alignment(p, q)
    expected = (1 + math.cos(2 * math.pi * (p - q) / (p + q))) / 2
    assert value == pytest.approx(expected, abs=1e-15)
    assert 0.0 <= value <= 1.0
    assert value == phase_alignment(q, p)


def test_phase_depends_on_the_ratio_alone_and_returns_to_one():
    p = PRIMES
    np.testing.assert_array_equal(phase_alignment(p, p), 1.0)
    np.testing.assert_allclose(phase_alignment(3 * p, p), 0.0, atol=1e-30)
    np.testing.assert_allclose(phase_alignment(7 * p, 5 * p), phase_alignment(7, 5), rtol=1e-14)
    ratios = phase_alignment(np.arange(3, 10_000), 1)
    assert (np.diff(ratios) > 0).all() and ratios[-1] > 0.999
    assert 1e-9 < 1.0 - phase_alignment(2, 104_729) < 2e-8


def test_angles_by_their_formula():
    t = turn_angles([[7, 367]], 4)
    assert t.shape == (1, 2, 4)
    expected = [2 * math.pi / PHI**2 * 7 * i / 4 for i in range(4)]
    np.testing.assert_allclose(t[0, 0], expected, rtol=1e-14)
    np.testing.assert_array_equal(t[0, 1], t[0, 0])


def test_the_turn_by_its_formula():
    q, p, d = np.array([1.0, -2.0, 0.5]), 11, 3
    expected = []
    for i in range(d):
        t = 2 * math.pi / PHI**2 * (p % 360) * i / d
        expected.append(q[i] * math.cos(t) - q[(i + 1) % d] * math.sin(t))
    np.testing.assert_allclose(query_to_key_turn(q, p), expected, rtol=1e-13)


@pytest.mark.parametrize(("forward", "adjoint"), PAIRS)
@given(primes, st.sampled_from([2, 4, 8, 64]), seeds)
def test_the_adjoint_is_the_transpose(forward, adjoint, p, d, seed):
    x, y = np.random.default_rng(seed).standard_normal((2, 3, d))
    left, right = np.vdot(forward(x, p), y), np.vdot(x, adjoint(y, p))
    assert left == pytest.approx(right, abs=1e-13 * d)
    np.testing.assert_array_equal(matrix_of(adjoint, p, d), matrix_of(forward, p, d).T)


@given(primes, st.integers(2, 64))
def test_the_turn_is_no_rotation_and_what_it_is(p, d):
    r, t = matrix_of(query_to_key_turn, p, d), turn_angles(p, d)
    np.testing.assert_allclose(np.linalg.norm(r, axis=1), 1.0, rtol=1e-13)
    assert np.linalg.norm(r) ** 2 == pytest.approx(d, rel=1e-13)
    assert np.linalg.det(r) == pytest.approx(np.prod(np.cos(t)), abs=1e-13)
    # In dimension 2 the closing row meets itself on both sides; from 3 on only neighbours share a column.
    gram = r @ r.T
    if d > 2:
        neighbours = np.array([gram[i, (i + 1) % d] for i in range(d)])
        np.testing.assert_allclose(neighbours, -np.sin(t) * np.cos(np.roll(t, -1)), atol=1e-13)
    assert np.abs(gram - np.eye(d)).max() > 1e-4


def test_the_turn_is_invertible_for_every_residue_and_badly_conditioned_for_some():
    conditions = [np.linalg.cond(matrix_of(query_to_key_turn, p, 64)) for p in range(1, 360)]
    assert np.isfinite(conditions).all() and max(conditions) > 1e3


@given(primes, st.sampled_from([2, 4, 8, 64]), seeds)
def test_the_rotation_is_one(p, d, seed):
    m = matrix_of(query_to_key_rotation, p, d)
    np.testing.assert_allclose(m @ m.T, np.eye(d), atol=1e-14)
    assert np.linalg.det(m) == pytest.approx(1.0, rel=1e-12)
    x = np.random.default_rng(seed).standard_normal((5, d))
    back = query_to_key_rotation_adjoint(query_to_key_rotation(x, p), p)
    np.testing.assert_allclose(back, x, atol=1e-14 * d)


def test_the_rotation_turns_each_pair_by_its_angle():
    t = turn_angles(11, 6)[::2]
    x = np.tile([1.0, 0.0], 3)
    expected = np.stack([np.cos(t), np.sin(t)], axis=-1).ravel()
    np.testing.assert_allclose(query_to_key_rotation(x, 11), expected, atol=1e-15)


@pytest.mark.parametrize("function", TURNS)
def test_primes_broadcast_over_heads_and_batches(function):
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4))
    p = PRIMES[:5]
    every = function(x, p)
    assert every.shape == x.shape
    for i in range(5):
        np.testing.assert_array_equal(every[..., i, :], function(x[..., i, :], p[i]))


@pytest.mark.parametrize("function", TURNS)
def test_the_dtype_is_kept_and_the_argument_left_alone(function):
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    before = x.copy()
    assert function(x, 7).dtype == np.float32
    assert function([[1, 2]], 7).dtype == np.float64
    np.testing.assert_array_equal(x, before)


@given(
    st.floats(-1e3, 1e3),
    st.floats(0, 1e6),
    st.sampled_from([2, 3, 5, 7, 6, 12]),
    st.sampled_from([2, 3, 9, 11]),
)
def test_resonance_by_its_formula(score, distance, p, q):
    gcd = math.gcd(p, q)
    alignment = (1 + math.cos(2 * math.pi * (p - q) / (p + q))) / 2
    expected = score * (1 / (1 + distance)) * (1 + (0.5 if gcd == 1 else 1 / gcd)) * alignment
    assert resonance(score, distance, p, q) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert 0.0 <= resonance_factor(distance, p, q) <= 1.5


@given(primes, primes)
def test_the_factor_of_distinct_primes_at_one_place_is_their_phase_but_for_a_constant(p, q):
    assume(p != q)
    assert resonance_factor(0.0, p, q) == 1.5 * phase_alignment(p, q)


def test_resonance_broadcasts():
    scores, distances = np.ones((4, 1, 3)), np.zeros((2, 1))
    assert resonance(scores, distances, [2, 3, 5], [3, 5, 7]).shape == (4, 2, 3)


@pytest.mark.parametrize("function", TURNS)
def test_bad_vectors_and_primes_are_refused(function):
    name = "gradient" if function.__name__.endswith("adjoint") else "queries"
    with pytest.raises(TypeError, match=f"{name} must hold real numbers, got dtype complex128"):
        function(np.ones(2, dtype=complex), 3)
    with pytest.raises(ValueError, match=rf"{name} must have shape \(..., d_head\)"):
        function(1.0, 3)
    with pytest.raises(ValueError, match=rf"primes must broadcast to \(\), the shape of {name}"):
        function(np.ones(2), [2, 3])
    with pytest.raises(ValueError, match=r"primes must broadcast to \(3,\)"):
        function(np.ones((3, 2)), [2, 3])
    with pytest.raises(TypeError, match="primes must hold integers"):
        function(np.ones(2), 3.0)
    with pytest.raises(ValueError, match="primes must be at least 1, got 0"):
        function(np.ones(2), 0)
    with pytest.raises(ValueError, match="d_head must be at least 1, got 0"):
        function(np.ones((3, 0)), 2)


@pytest.mark.parametrize("function", TURNS[2:])
def test_pairs_need_an_even_dimension(function):
    with pytest.raises(ValueError, match="must have an even last dimension, to be turned in pairs; got 3"):
        function(np.ones(3), 2)


def test_bad_distances_are_refused():
    with pytest.raises(ValueError, match=r"distance must be at least 0, got -0\.1"):
        resonance_factor([1.0, -0.1], 2, 3)
    for function in (resonance_factor, lambda *rest: resonance(1.0, *rest)):
        for bad in (np.nan, np.inf):
            with pytest.raises(ValueError, match=r"^distance must be finite"):
                function(bad, 2, 3)
        with pytest.raises(TypeError, match=r"^distance must hold real numbers"):
            function("far", 2, 3)
        with pytest.raises(
            ValueError, match=r"distance, p and q must have shapes .* got \(2,\), \(\), \(3,\)"
        ):
            function([0.0, 1.0], 2, [3, 5, 7])
    with pytest.raises(ValueError, match="p must be at least 1, got 0"):
        resonance_factor(0.0, 0, 3)
    with pytest.raises(TypeError, match="q must hold integers"):
        phase_alignment(2, 3.5)


def test_bad_scores_are_refused():
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match=r"^score must be finite"):
            resonance([0.0, bad], 0.0, 2, 3)
    with pytest.raises(TypeError, match=r"^score must hold real numbers"):
        resonance(1j, 0.0, 2, 3)
    with pytest.raises(
        ValueError, match=r"score, distance, p and q must have shapes .* got \(2,\), \(\), \(3,\), \(\)"
    ):
        resonance([0.0, 1.0], 0.0, [2, 3, 5], 7)


def test_the_golden_angle_is_the_one_of_the_formula():
    assert pytest.approx(2 * math.pi / PHI**2, rel=1e-15) == phase.GOLDEN_ANGLE
