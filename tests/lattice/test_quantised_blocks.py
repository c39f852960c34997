import math
import re

import numpy as np
import pytest
from flint import fmpz_mat
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.lattice.quantised_blocks import ProductCost, quantise, reduce_block, reduce_embedding
from cllm_lab.lattice.reduction import is_size_reduced, satisfies_lovasz

seeds = st.integers(0, 2**32 - 1)


def gaussian(seed, m, d):
    return np.random.default_rng(seed).normal(0.0, 0.02, (m, d))


@given(seeds, st.integers(2, 32))
def test_quantising_is_off_by_half_a_step_at_most(seed, bits):
    block = gaussian(seed, 3, 5)
    q, scale = quantise(block, bits)
    assert q.dtype == np.int64 and np.abs(q).max() == 2 ** (bits - 1) - 1
    assert np.abs(block - scale * q).max() <= scale / 2 * (1 + 1e-12)


def test_quantising_uses_both_signs_alike():
    q, scale = quantise([[-0.5, 0.25, 0.0]], 4)
    assert q.tolist() == [[-7, 4, 0]] and scale == 0.5 / 7


@given(seeds, st.integers(1, 10), st.integers(0, 4))
def test_a_block_is_reduced_and_finds_its_way_back(seed, m, more):
    block = reduce_block(gaussian(seed, m, m + more))
    assert is_size_reduced(block.reduced) and satisfies_lovasz(block.reduced)
    np.testing.assert_array_equal(block.transform @ block.quantised, block.reduced)
    np.testing.assert_array_equal(block.inverse @ block.reduced, block.quantised)
    assert abs(fmpz_mat(block.transform.tolist()).det()) == 1
    np.testing.assert_array_equal(block.transform @ block.inverse, np.eye(m))


@given(seeds, st.integers(1, 16))
def test_both_products_are_the_block_times_x(seed, d):
    rng = np.random.default_rng(seed)
    block = reduce_block(rng.normal(0.0, 0.02, (d, d)))
    x = rng.standard_normal((d, 3))
    direct = block.product(x)
    np.testing.assert_allclose(direct, block.scale * (block.quantised @ x), rtol=1e-12, atol=1e-14)
    magnified = np.abs(block.inverse) @ (np.abs(block.reduced) @ np.abs(x)) * block.scale
    assert (np.abs(block.product_through_reduced(x) - direct) <= 1e-13 * magnified).all()
    assert block.product(x[:, 0]).shape == (d,)


def test_whole_numbers_go_through_exactly():
    block = reduce_block(gaussian(0, 12, 12))
    x = np.arange(-6, 6)
    np.testing.assert_array_equal(block.product(x), block.scale * (block.quantised @ x))
    np.testing.assert_array_equal(block.product_through_reduced(x), block.product(x))


def test_the_reduced_block_is_no_smaller_and_no_faster():
    block = reduce_block(gaussian(1, 32, 32))
    assert block.reduced.shape == block.quantised.shape == (32, 32)
    assert block.cost == ProductCost(before=1024, reduced=1024, change_back=1024)
    assert block.cost.speed_up_in_new_basis == 1.0 and block.cost.speed_up == 0.5
    sparse = block.cost_without_zeros
    assert sparse.before == (block.quantised != 0).sum()
    assert sparse.reduced == (block.reduced != 0).sum()
    assert sparse.change_back == (block.inverse != 0).sum() < 1024
    # Even a program that skipped every zero would be slower than the plain product.
    assert sparse.speed_up < 1.0


def test_rows_that_are_alike_become_short_and_the_block_no_faster():
    rng = np.random.default_rng(2)
    alike = rng.normal(0.0, 1.0, (1, 16)) + rng.normal(0.0, 0.01, (16, 16))
    block = reduce_block(alike, bits=16)
    before, after = (np.sort(np.linalg.norm(a, axis=1)) for a in (block.quantised, block.reduced))
    # Their differences are short; what they have in common stays in one row, since the determinant is what it was.
    assert (after[:-1] < 0.02 * before[:-1]).all() and after[-1] > 0.1 * before[-1]
    assert block.cost.speed_up_in_new_basis == 1.0


def test_bits_are_those_of_the_largest_entries():
    block = reduce_block([[1.0, 0.0], [0.9, 0.1]], bits=8)
    assert block.quantised.tolist() == [[127, 0], [114, 13]]
    assert block.bits_before == 7
    largest = int(np.abs(block.reduced).max())
    assert 2 ** (block.bits_after - 1) <= largest < 2**block.bits_after


def test_an_embedding_is_cut_into_blocks_and_the_rest():
    table = gaussian(3, 20, 8)
    blocks = reduce_embedding(table, bits=6)
    assert [block.quantised.shape for block in blocks] == [(8, 8), (8, 8), (4, 8)]
    rebuilt = np.concatenate([block.scale * block.quantised for block in blocks])
    assert np.abs(rebuilt - table).max() <= max(block.scale for block in blocks) / 2 * (1 + 1e-12)
    assert {block.bits_before for block in blocks} == {5}


def test_bad_input_is_refused():
    block = gaussian(4, 4, 4)
    with pytest.raises(ValueError, match="bits must be at least 2, got 1"):
        reduce_block(block, 1)
    with pytest.raises(ValueError, match="bits must be at most 32, got 33"):
        reduce_block(block, 33)
    with pytest.raises(TypeError, match="bits must be an integer"):
        reduce_block(block, 8.0)
    with pytest.raises(ValueError, match="block must have two dimensions"):
        reduce_block(block[0])
    with pytest.raises(ValueError, match="block must be finite"):
        reduce_block(np.where(block == block[0, 0], math.nan, block))
    with pytest.raises(ValueError, match="block must not be all zeros"):
        reduce_block(np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"delta must lie in \(1/4, 1\]"):
        reduce_block(block, 8, 0.2)
    with pytest.raises(ValueError, match="block must have larger entries for 8 bits"):
        reduce_block(np.full((1, 1), 1e-307))
    reduced = reduce_block(block)
    for product in (reduced.product, reduced.product_through_reduced):
        with pytest.raises(ValueError, match=r"x must have shape \(4,\) or \(4, n\), got \(3,\)"):
            product(np.ones(3))
        with pytest.raises(ValueError, match="x must be finite"):
            product(np.full(4, np.nan))
        with pytest.raises(TypeError, match="x must hold real numbers"):
            product(np.full(4, 1j))
    block[2] = 0.0
    expected = (
        "block, quantised to 8 bits: basis must have linearly independent rows; got 4 rows, of which row 2"
    )
    with pytest.raises(ValueError, match=expected):
        reduce_block(block)
    with pytest.raises(ValueError, match=re.escape("embedding must have shape (vocabulary, d)")):
        reduce_embedding(np.zeros(3))
    table = gaussian(5, 7, 3)
    table[4] = table[5]
    with pytest.raises(ValueError, match=r"embedding rows 3 to 5: block, quantised to 8 bits: .* row 2 is"):
        reduce_embedding(table)
