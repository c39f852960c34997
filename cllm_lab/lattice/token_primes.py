"""From token ids to primes: the three maps of the original, which disagree.

id 0, 1, 2, 3, ...  ->  growth 2, 2, 5, 7, ...;  nth 2, 3, 5, 7, ...;  cached: nth, repeating from id 1,000 on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.lattice.arguments import IntArray, integer_array
from cllm_lab.lattice.primes import (
    LARGEST_LIST,
    LARGEST_SIEVE,
    next_prime,
    nth_prime,
    nth_prime_bound,
    primes_below,
)

CACHED_PRIMES = 1_000


def growth_token_primes(ids: ArrayLike) -> IntArray:
    """The next prime >= n floor(ln(n + 1) + 1) for n = id; int64 of the shape of ``ids``.

    Not one to one: where the growth is slower than the gaps between primes, neighbours share a prime. The 10,000 ids
    from 0 on have 6,458 primes.

    Raises TypeError unless ``ids`` holds integers, ValueError for a negative id or one whose number is too large for
    the sieve.
    """
    n = integer_array("ids", ids, minimum=0, maximum=LARGEST_LIST)
    numbers = n * np.floor(np.log1p(n) + 1.0).astype(np.int64)
    if numbers.size == 0:
        return numbers
    greatest = int(numbers.max())
    if greatest > LARGEST_LIST // 2:
        raise ValueError(
            f"ids must have n floor(ln(n + 1) + 1) of at most {LARGEST_LIST // 2}; id {int(n.max())} has {greatest}"
        )
    primes = primes_below(next_prime(greatest) + 1)
    return primes[np.searchsorted(primes, numbers, side="left")]


def nth_token_primes(ids: ArrayLike) -> IntArray:
    """p_(id + 1), the (id + 1)-th prime: id 0 -> 2, id 9,999 -> 104,729; int64 of the shape of ``ids``. One to one.

    Raises TypeError unless ``ids`` holds integers, ValueError for a negative id or one too large for the sieve.
    """
    n = integer_array("ids", ids, minimum=0, maximum=LARGEST_SIEVE)
    if n.size and (bound := nth_prime_bound(int(n.max()) + 1)) >= LARGEST_SIEVE:
        raise ValueError(
            f"ids must have a prime below {LARGEST_SIEVE}; that of id {int(n.max())} may be as large as {bound}"
        )
    return np.asarray(nth_prime(n + 1), np.int64)


def wrapped_token_primes(ids: ArrayLike) -> IntArray:
    """p_(id mod 1,000 + 1): the n-th prime through a cache of `CACHED_PRIMES` entries that wraps round.

    So ids that differ by a multiple of 1,000 share a prime, and none is above 7,919. int64 of the shape of ``ids``.

    Raises TypeError unless ``ids`` holds integers, ValueError for a negative id.
    """
    return np.asarray(nth_prime(integer_array("ids", ids, minimum=0) % CACHED_PRIMES + 1), np.int64)


TOKEN_PRIMES: Mapping[str, Callable[[ArrayLike], IntArray]] = MappingProxyType(
    {"growth": growth_token_primes, "nth": nth_token_primes, "cached": wrapped_token_primes}
)
