"""How many threads the matrix products of the fast parts use: decided here and nowhere else.

The library's own threads share a product between the cores and wait for each other at its end. A small product
gains nothing from that, and where another process holds a core, it waits for that process: a step of 5 ms was
measured at 500 ms. A large product is worth the wait.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController

from cllm_lab.model.config import ModelConfig

# Multiply-adds of one product; about a millisecond on one core.
SMALL_PRODUCT = 50_000_000

_lock = threading.Lock()
_inside = 0
_limit: Any = None


@contextmanager
def product_threads(config: ModelConfig, n_tokens: int) -> Iterator[None]:
    """A context in which a step of ``n_tokens`` uses one thread if all its products are small, else all there are.

    The count is the process's own. Where several Python threads train at once, the first that enters lowers it and
    the last that leaves puts it back.
    """
    if largest_product(config, n_tokens) > SMALL_PRODUCT:
        yield
        return
    _enter()
    try:
        yield
    finally:
        _leave()


def largest_product(config: ModelConfig, n_tokens: int) -> int:
    """Multiply-adds of the largest matrix product of a step: B T C max(V, F, 3 C)."""
    return n_tokens * config.d_model * max(config.vocab_size, config.width_ff, 3 * config.d_model)


def _enter() -> None:
    global _inside, _limit
    with _lock:
        if _inside == 0:
            _limit = _libraries().limit(limits=1)
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0:
            _limit.restore_original_limits()


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")
