"""How many threads a step's products use."""

from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import cllm_lab as lab
from cllm_lab.model.parts.threads import SMALL_PRODUCT, largest_product, product_threads

SMALL = lab.ModelConfig(vocab_size=611)
LARGE = lab.ModelConfig(vocab_size=10_000, d_model=512)


def threads_of_blas() -> int:
    # SciPy brings a library of its own, which may be loaded later and which no part uses.
    return min(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")


@pytest.fixture(autouse=True)
def two_threads():
    with threadpool_limits(limits=2, user_api="blas"):
        yield


@pytest.mark.parametrize(("config", "inside"), [(SMALL, 1), (LARGE, 2)])
def test_small_products_use_one_thread_and_large_ones_all(config, inside) -> None:
    with product_threads(config, 128):
        assert threads_of_blas() == inside
    assert threads_of_blas() == 2


def test_the_count_is_put_back_after_an_error() -> None:
    with pytest.raises(KeyError), product_threads(SMALL, 128):
        raise KeyError
    assert threads_of_blas() == 2


def test_interleaved_steps_put_the_count_back_when_the_last_has_left() -> None:
    first, second = product_threads(SMALL, 128), product_threads(SMALL, 128)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert threads_of_blas() == 1
    second.__exit__(None, None, None)
    assert threads_of_blas() == 2


def test_the_largest_product_is_that_of_the_widest_matrix() -> None:
    base = lab.ModelConfig(vocab_size=7, d_model=8, n_heads=2, d_ff=9)
    assert largest_product(base, 5) == 5 * 8 * 24
    assert largest_product(replace(base, d_ff=100), 5) == 5 * 8 * 100
    assert largest_product(replace(base, vocab_size=1000), 5) == 5 * 8 * 1000
    assert largest_product(SMALL, 128) < SMALL_PRODUCT < largest_product(LARGE, 128)


@pytest.mark.parametrize(("config", "inside"), [(SMALL, 1), (LARGE, 2)])
def test_both_directions_of_a_step_keep_to_it(config, inside) -> None:
    seen = []
    model = lab.Transformer(replace(config, n_layers=1))
    qkv = model.parts.qkv

    def forward(x, site):
        seen.append(threads_of_blas())
        return qkv.forward(x, site)

    def backward(dy, site):
        seen.append(threads_of_blas())
        return qkv.backward(dy, site)

    watched = model.swapped(qkv=lab.parts.Part("watched", forward, backward))
    tokens = np.zeros((4, 32), np.int32)
    watched.gradients(tokens, tokens)
    assert seen == [inside, inside]
