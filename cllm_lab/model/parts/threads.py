"""How many threads the matrix products of the fast parts use: decided here and nowhere else.

The library's own threads share a product between the cores and wait for each other at its end. A small product
gains nothing from that, and where another process holds a core, it waits for that process: a step of 5 ms was
measured at 500 ms. A large product is worth the wait.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

from threadpoolctl import ThreadpoolController

from cllm_lab.model.config import ModelConfig

# Multiply-adds of one product; about a millisecond on one core.
SMALL_PRODUCT = 50_000_000


def product_threads(config: ModelConfig, n_tokens: int) -> AbstractContextManager:
    """A context in which a step of ``n_tokens`` uses one thread if all its products are small, else all there are.

    The count is the process's own and is put back at the end. Machines that train in several Python threads share
    it: whichever enters last decides for all.
    """
    if largest_product(config, n_tokens) > SMALL_PRODUCT:
        return nullcontext()
    return _libraries().limit(limits=1)


def largest_product(config: ModelConfig, n_tokens: int) -> int:
    """Multiply-adds of the largest matrix product of a step: B T C max(V, F, 3 C)."""
    return n_tokens * config.d_model * max(config.vocab_size, config.width_ff, 3 * config.d_model)


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")
