"""The product of the fast parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.model.parts import products
from cllm_lab.model.parts.products import product
from tests.large_machine import assert_the_tables_agree

SIZES = st.integers(1, 9)


def laid_out(rng, rows, columns, transposed, dtype):
    return (
        rng.normal(size=(columns, rows)).astype(dtype).T
        if transposed
        else rng.normal(size=(rows, columns)).astype(dtype)
    )


@given(SIZES, SIZES, SIZES, st.booleans(), st.booleans(), st.sampled_from(["float32", "float64"]))
def test_the_product_is_that_of_numpy(m, k, n, a_transposed, b_transposed, dtype):
    rng = np.random.default_rng(0)
    a, b = laid_out(rng, m, k, a_transposed, dtype), laid_out(rng, k, n, b_transposed, dtype)
    out = np.full((m, n), np.nan, dtype)
    product(a, b, out)
    assert np.allclose(out, a @ b, rtol=1e-5)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="mismatch"):
        product(np.ones((2, 3)), np.ones((4, 2)), np.empty((2, 2)))


@pytest.fixture
def fresh_choice(monkeypatch):
    products._mkl.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    products._mkl.cache_clear()


def test_numpy_makes_the_products_where_mkl_is_not_installed_or_not_wanted(fresh_choice):
    fresh_choice.setattr(products, "_installed_mkl", lambda: None)
    assert products.load_library() == "NumPy"
    products._mkl.cache_clear()
    fresh_choice.setattr(products, "_installed_mkl", lambda: "/no/such/library")
    fresh_choice.setenv(products.VARIABLE, "numpy")
    assert products.load_library() == "NumPy"


def test_asking_for_mkl_without_having_it_is_an_error_that_says_how_to_get_it(fresh_choice):
    fresh_choice.setattr(products, "_installed_mkl", lambda: None)
    fresh_choice.setenv(products.VARIABLE, "mkl")
    with pytest.raises(RuntimeError, match=r'pip install "cllm_lab\[mkl\]"'):
        products.load_library()


def test_an_unknown_choice_is_refused(fresh_choice):
    fresh_choice.setenv(products.VARIABLE, "atlas")
    with pytest.raises(ValueError, match="CLLM_LAB_BLAS must be one of auto, numpy, mkl; got 'atlas'"):
        products.load_library()


def test_a_large_machine_has_the_gradients_of_the_reference():
    assert_the_tables_agree(n_layers=2)
