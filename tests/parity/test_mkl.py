"""Products through MKL, where it is installed: the same numbers, in every layout that a step asks for."""

import numpy as np
import pytest

from cllm_lab.model.parts import products
from cllm_lab.model.parts.threads import _libraries, one_product_thread, run_together
from tests.large_machine import assert_the_tables_agree

pytestmark = pytest.mark.skipif(products._installed_mkl() is None, reason="MKL is not installed")

SHAPES = [(128, 192, 100), (64, 257, 131), (1, 2000, 1001), (130, 1, 20_000)]


def laid_out(rng, rows, columns, transposed, dtype):
    drawn = rng.standard_normal((columns, rows) if transposed else (rows, columns)).astype(dtype)
    return drawn.T if transposed else drawn


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_is_that_of_numpy(shape, transposed, dtype):
    rng = np.random.default_rng(0)
    m, k, n = shape
    a, b = laid_out(rng, m, k, transposed[0], dtype), laid_out(rng, k, n, transposed[1], dtype)
    out = np.full((m, n), np.nan, dtype)
    assert products._mkl().multiply(a, b, out)
    scale = np.sqrt(k) * np.finfo(dtype).eps
    assert np.abs(out - a @ b).max() <= 16 * scale * max(1.0, np.abs(out).max())


def test_a_slice_of_rows_or_columns_is_written_and_nothing_beside_it():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((20, 30)), rng.standard_normal((30, 40))
    whole = np.full((22, 44), 7.0)
    assert products._mkl().multiply(a, b, whole[1:21, 2:42])
    assert np.allclose(whole[1:21, 2:42], a @ b)
    whole[1:21, 2:42] = 7.0
    assert (whole == 7.0).all()


@pytest.mark.parametrize(
    ("a", "b", "out"),
    [
        (np.ones((2, 3)), np.ones((4, 2)), np.empty((2, 2))),
        (np.ones((2, 3)), np.ones((3, 2)), np.empty((3, 2))),
        (np.ones((2, 3), np.float32), np.ones((3, 2)), np.empty((2, 2))),
        (np.ones((2, 3), int), np.ones((3, 2), int), np.empty((2, 2), int)),
        (np.ones((4, 6))[::2, ::2], np.ones((3, 2)), np.empty((2, 2))),
        (np.ones((2, 3)), np.ones((3, 4)), np.empty((4, 2)).T),
    ],
    ids=["inner", "outer", "mixed", "whole numbers", "strided", "transposed out"],
)
def test_what_it_cannot_multiply_is_left_to_numpy(a, b, out):
    assert not products._mkl().multiply(a, b, out)


def test_large_products_go_through_it_and_give_the_reference_s_gradients():
    assert products.load_library() == "MKL"
    assert_the_tables_agree(n_layers=1)


def test_within_a_small_step_no_thread_shares_its_products():
    (mkl,) = (library for library in _libraries() if library.internal_api == "mkl")
    with one_product_thread():
        assert run_together([mkl.get_num_threads, mkl.get_num_threads]) == [1, 1]
