import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.lattice.dimension_reduction import rank_for_energy, truncated_svd

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 12)


def random_matrix(seed, m, n):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((m, n)) * rng.uniform(0.01, 10.0, n)


@given(seeds, sizes, sizes, st.data())
def test_the_error_is_the_tail_of_the_singular_values(seed, m, n, data):
    a = random_matrix(seed, m, n)
    rank = data.draw(st.integers(1, min(m, n)))
    found = truncated_svd(a, rank)
    assert found.left.shape == (m, rank) and found.right.shape == (rank, n) and found.rank == rank
    sigma = np.linalg.svd(a, compute_uv=False)
    left_out = np.linalg.norm(a - found.left @ found.right)
    tail = np.sqrt(np.sum(sigma[rank:] ** 2))
    scale = np.linalg.norm(a)
    assert left_out == pytest.approx(tail, abs=1e-13 * scale)
    assert found.error == pytest.approx(left_out, abs=1e-13 * scale)
    assert found.retained_energy == pytest.approx(1.0 - (left_out / scale) ** 2, abs=1e-12)


@given(seeds, st.integers(1, 4))
def test_no_other_matrix_of_that_rank_comes_nearer(seed, rank):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((6, 5))
    best = truncated_svd(a, rank)
    near = best.left + 0.1 * rng.standard_normal(best.left.shape)
    # The best right factor for a given left one is a least-squares problem.
    right = np.linalg.lstsq(near, a, rcond=None)[0]
    assert np.linalg.norm(a - near @ right) > best.error


def test_full_rank_gives_the_matrix_back():
    a = random_matrix(0, 7, 4)
    found = truncated_svd(a, 4)
    np.testing.assert_allclose(found.left @ found.right, a, rtol=1e-12, atol=1e-13)
    assert found.error == 0.0 and found.retained_energy == 1.0


def test_multiply_adds_count_the_products():
    found = truncated_svd(random_matrix(1, 100, 50), 20)
    assert found.multiply_adds_before == 100 * 50
    assert found.multiply_adds_after == found.left.size + found.right.size == 20 * 150
    assert found.speed_up == 5000 / 3000
    # Break-even at m n / (m + n) = 33 1/3.
    assert truncated_svd(np.eye(100, 50), 33).speed_up > 1.0 > truncated_svd(np.eye(100, 50), 34).speed_up


@given(seeds, sizes, sizes, st.floats(0.05, 1.0))
def test_the_rank_for_an_energy_is_the_smallest(seed, m, n, energy):
    a = random_matrix(seed, m, n)
    rank = rank_for_energy(a, energy)
    assert truncated_svd(a, rank).retained_energy >= energy
    if rank > 1:
        assert truncated_svd(a, rank - 1).retained_energy < energy


def test_large_and_small_entries_neither_overflow_nor_vanish():
    a = np.diag([3.0, 4.0])
    for scale in (1e200, 1e-200):
        assert truncated_svd(a * scale, 1).retained_energy == pytest.approx(16 / 25)
        assert truncated_svd(a * scale, 1).error == pytest.approx(3.0 * scale)


def test_of_zeros_nothing_is_lost():
    found = truncated_svd(np.zeros((3, 2)), 1)
    assert found.retained_energy == 1.0 and found.error == 0.0
    assert rank_for_energy(np.zeros((3, 2)), 0.5) == 1


def test_the_factors_are_the_callers():
    found = truncated_svd(np.eye(3), 1)
    assert found.right.base is None or found.right.base.size == found.right.size


def test_bad_input_is_refused():
    a = np.eye(3, 2)
    with pytest.raises(ValueError, match=r"rank must be at most 2 for shape \(3, 2\), got 3"):
        truncated_svd(a, 3)
    with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
        truncated_svd(a, 0)
    with pytest.raises(TypeError, match="rank must be an integer"):
        truncated_svd(a, 1.0)
    for function, argument in ((truncated_svd, 1), (rank_for_energy, 0.5)):
        with pytest.raises(ValueError, match="matrix must have two dimensions"):
            function(np.zeros(3), argument)
        with pytest.raises(ValueError, match="matrix must have two dimensions, none of them 0"):
            function(np.zeros((3, 0)), argument)
        with pytest.raises(ValueError, match="matrix must be finite"):
            function([[1.0, np.nan]], argument)
    for energy in (0.0, 1.5, np.nan):
        with pytest.raises(ValueError, match=r"energy must lie in \(0, 1\]"):
            rank_for_energy(a, energy)
    with pytest.raises(TypeError, match="energy must be a number"):
        rank_for_energy(a, "much")
