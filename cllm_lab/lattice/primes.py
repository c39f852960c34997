"""Primes, exactly: a segmented sieve, the n-th prime, counting, testing and factors.

primes_below(n)  = the primes p < n                 sieve of Eratosthenes, a segment at a time
prime_count(n)   = pi(n), the number of p <= n      Legendre's sum over floor(n / k), no list of primes
nth_prime(n)     = p_n with p_1 = 2                 the sieve up to a proven bound
is_prime(n)                                         Miller-Rabin with bases that decide all of 64 bits
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cllm_lab.corpus.arguments import whole_number
from cllm_lab.lattice.arguments import IntArray, integer_array, integers, within

# A list of the 50,847,534 primes below 10^9 takes 407 MB; prime_blocks goes further without holding them all.
LARGEST_LIST = 10**9
LARGEST_SIEVE = 10**10
LARGEST_COUNT = 10**12
LARGEST_FACTORED = 10**12

# Numbers of a segment: its flags, one byte for an odd number, stay in the processor's cache.
SEGMENT = 2**20
_WHEEL_PRIMES = (3, 5, 7, 11, 13)
_WHEEL = math.prod(_WHEEL_PRIMES)

# Jaeschke 1993, table 1: these bases decide all n < 4,759,123,141.
_SMALL_BASES = (2, 7, 61)
_SMALL_LIMIT = 2**32
# Sorenson and Webster 2015, theorem 1.1: the first twelve primes decide all n < 318665857834031151167461 > 2^64.
_LARGE_BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def primes_below(n: int) -> IntArray:
    """All primes p < n in ascending order, int64 (pi(n - 1),); empty for n <= 2.

    The segmented sieve of Eratosthenes (Bays and Hudson 1977): it holds the primes twice while it joins them, and a
    few MB beside them, whatever n.

    Raises TypeError unless n is an integer, ValueError for a negative one or one above `LARGEST_LIST`.
    """
    n = within("n", n, 0, LARGEST_LIST)
    blocks = [primes for _, primes in _blocks(n)]
    return np.concatenate(blocks) if blocks else np.empty(0, np.int64)


def prime_blocks(n: int) -> Iterator[tuple[int, IntArray]]:
    """The primes below n a segment at a time: pairs (end, the primes p < end that come after the last end).

    The last end is n. Nothing is yielded for n <= 2.

    Raises, at once, TypeError unless n is an integer, ValueError for a negative one or one above `LARGEST_SIEVE`.
    """
    return _blocks(within("n", n, 0, LARGEST_SIEVE))


def _blocks(n: int) -> Iterator[tuple[int, IntArray]]:
    if n <= 2:
        return
    sieving = _odd_primes_to(math.isqrt(n - 1))
    sieving = sieving[sieving > _WHEEL_PRIMES[-1]]
    wheel = _wheel_flags()
    # Flag i of a segment belongs to the odd number start + 2 i + 1; start is even.
    for start in range(0, n, SEGMENT):
        end = min(start + SEGMENT, n)
        count = (end - start) // 2
        first = (start // 2) % _WHEEL
        flags = wheel[first : first + count].copy()
        for p in sieving[: np.searchsorted(sieving, math.isqrt(end - 1), side="right")].tolist():
            multiple = max(p * p, start + p - start % p)
            if multiple % 2 == 0:
                multiple += p
            flags[(multiple - start) // 2 :: p] = False
        primes = 2 * np.flatnonzero(flags).astype(np.int64, copy=False) + (start + 1)
        if start == 0:
            low = np.array([p for p in (2, *_WHEEL_PRIMES) if p < n], np.int64)
            primes = np.concatenate([low, primes[primes > 1]])
        yield end, primes


def _wheel_flags() -> NDArray[np.bool_]:
    """Whether the i-th odd number has none of the wheel's factors, for a segment from any place of the wheel."""
    flags = np.ones(_WHEEL + SEGMENT // 2, np.bool_)
    for p in _WHEEL_PRIMES:
        flags[(p - 1) // 2 :: p] = False
    return flags


def _odd_primes_to(limit: int) -> IntArray:
    """The odd primes p <= limit by the plain sieve."""
    flags = np.ones(max(0, (limit + 1) // 2), np.bool_)
    flags[:1] = False
    for p in range(3, math.isqrt(limit) + 1, 2):
        if flags[p // 2]:
            flags[p * p // 2 :: p] = False
    return 2 * np.flatnonzero(flags).astype(np.int64, copy=False) + 1


def prime_count(n: int) -> int:
    """pi(n), the number of primes p <= n.

    Legendre's sieve on the values v = floor(n / k) alone: S(v, p) = S(v, p-) - (S(floor(v / p), p-) - pi(p - 1)) for
    v >= p^2, p- being the prime before p, from S(v) = v - 1; S(n, sqrt n) = pi(n) (Lagarias, Miller and Odlyzko 1985
    describe the method and its refinements). About n^(3/4) operations and sqrt(n) numbers of memory.

    Raises TypeError unless n is an integer, ValueError for a negative one or one above `LARGEST_COUNT`.
    """
    n = within("n", n, 0, LARGEST_COUNT)
    if n < 2:
        return 0
    root = math.isqrt(n)
    # small[v] = S(v) for v <= root; large[k] = S(floor(n / k)) for 1 <= k <= root.
    small = np.arange(root + 1, dtype=np.int64) - 1
    quotients = n // np.maximum(np.arange(root + 1, dtype=np.int64), 1)
    large = quotients - 1
    for p in range(2, root + 1):
        below = int(small[p - 1])
        if small[p] == below:
            continue
        last = min(root, n // (p * p))
        inside = min(last, root // p)
        head = large[p : inside * p + 1 : p] - below
        tail = small[quotients[inside + 1 : last + 1] // p] - below
        large[1 : inside + 1] -= head
        large[inside + 1 : last + 1] -= tail
        if p * p <= root:
            small[p * p :] -= small[np.arange(p * p, root + 1) // p] - below
    return int(large[1])


@overload
def nth_prime(n: int) -> int: ...
@overload
def nth_prime(n: ArrayLike) -> int | IntArray: ...
def nth_prime(n: ArrayLike) -> int | IntArray:
    """p_n, the n-th prime, with p_1 = 2: an int for a number, int64 of the same shape for an array.

    The sieve stops at p_n < n (ln n + ln ln n), n >= 6 (Rosser and Schoenfeld 1962, corollary to theorem 3), or, from
    n >= 688,383 on, at the nearer p_n <= n (ln n + ln ln n - 1 + (ln ln n - 2) / ln n) (Dusart 2010, proposition 6.6).

    Raises TypeError unless n holds integers, ValueError for one below 1 or one whose bound is above `LARGEST_SIEVE`.
    """
    wanted = integer_array("n", n, minimum=1)
    if wanted.size == 0:
        return np.empty(wanted.shape, np.int64)
    greatest = int(wanted.max())
    bound = nth_prime_bound(greatest)
    if bound >= LARGEST_SIEVE:
        raise ValueError(
            f"n must have p_n below {LARGEST_SIEVE}; p_n for n = {greatest} may be as large as {bound}"
        )
    order, places = np.unique(wanted, return_inverse=True)
    found = np.empty(order.size, np.int64)
    taken = seen = 0
    for _, primes in prime_blocks(bound + 1):
        upto = int(np.searchsorted(order, seen + primes.size, side="right"))
        found[taken:upto] = primes[order[taken:upto] - 1 - seen]
        taken, seen = upto, seen + primes.size
        if taken == order.size:
            break
    result = found[places].reshape(wanted.shape)
    return int(result) if result.ndim == 0 else result


def nth_prime_bound(n: int) -> int:
    """A whole number that p_n does not exceed; see `nth_prime`. Raises as it does, save for n that are too large."""
    n = whole_number("n", n, 1)
    if n < 6:
        return 11
    log = math.log(n)
    loglog = math.log(log)
    if n < 688_383:
        return math.ceil(n * (log + loglog))
    return math.ceil(n * (log + loglog - 1.0 + (loglog - 2.0) / log))


@overload
def is_prime(n: int) -> bool: ...
@overload
def is_prime(n: ArrayLike) -> bool | NDArray[np.bool_]: ...
def is_prime(n: ArrayLike) -> bool | NDArray[np.bool_]:
    """Whether n is prime: a bool for a number, bool of the same shape for an array. Nothing below 2 is prime.

    The test of Miller (1976) and Rabin (1980): with n - 1 = 2^s d, d odd, n passes base a when a^d = 1 or
    a^(2^r d) = -1 mod n for some r < s. The bases 2, 7, 61 leave no composite below 4,759,123,141 (Jaeschke 1993), the
    first twelve primes none below 2^64 (Sorenson and Webster 2015), so the answer is certain. Below 2^32 all numbers
    of an array go through each base together; larger ones one at a time.

    Raises TypeError unless n holds integers, ValueError for one of 2^64 or more.
    """
    values = integers("n", n)
    if values.size and (greatest := int(values.max())) >= 2**64:
        raise ValueError(f"n must be at most {2**64 - 1}, got {greatest}")
    flat = np.maximum(values.ravel(), 0).astype(np.uint64)
    prime = np.zeros(flat.shape, np.bool_)
    small = (flat > 1) & (flat < _SMALL_LIMIT)
    prime[small] = _small_are_prime(flat[small])
    for place in np.flatnonzero(flat >= _SMALL_LIMIT):
        prime[place] = _is_large_prime(int(flat[place]))
    return bool(prime[0]) if values.ndim == 0 else prime.reshape(values.shape)


def _is_large_prime(n: int) -> bool:
    """`is_prime` for a number below 2^64 and above the bases."""
    if any(n % base == 0 for base in _LARGE_BASES):
        return False
    twos = ((n - 1) & (1 - n)).bit_length() - 1
    odd = (n - 1) >> twos
    for base in _LARGE_BASES:
        power = pow(base, odd, n)
        if power in (1, n - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % n
            if power == n - 1:
                break
        else:
            return False
    return True


def _small_are_prime(n: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """`is_prime` for 2 <= n < 2^32, whose products fit into 64 bits."""
    one, two = np.uint64(1), np.uint64(2)
    prime = (n % two == one) | (n == two)
    for base in _SMALL_BASES:
        places = np.flatnonzero(prime & (n > two) & (n % np.uint64(base) != 0))
        prime &= (n % np.uint64(base) != 0) | (n == base)
        m = n[places]
        odd, twos = m - one, np.zeros(m.shape, np.int64)
        while (even := odd % two == 0).any():
            odd[even] //= two
            twos[even] += 1
        power = _power_mod(base, odd, m)
        passed = (power == one) | (power == m - one)
        for round_ in range(1, int(twos.max(initial=0))):
            power = power * power % m
            passed |= (power == m - one) & (round_ < twos)
        prime[places] &= passed
    return prime


def _power_mod(base: int, exponent: NDArray[np.uint64], modulus: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """base^exponent mod modulus, elementwise; modulus > 1 below 2^32."""
    result = np.ones_like(modulus)
    square = np.uint64(base) % modulus
    left = exponent.copy()
    while left.any():
        result = np.where(left % np.uint64(2) == 1, result * square % modulus, result)
        square = square * square % modulus
        left >>= np.uint64(1)
    return result


def next_prime(n: int) -> int:
    """The least prime p >= n; 2 for n = 0 and 1.

    Raises TypeError unless n is an integer, ValueError for a negative one or where p would not be below 2^64.
    """
    # The largest prime below 2^64.
    candidate = max(2, within("n", n, 0, 2**64 - 59))
    while not is_prime(candidate):
        candidate += 1
    return candidate


@overload
def smallest_factor(n: int) -> int: ...
@overload
def smallest_factor(n: ArrayLike) -> int | IntArray: ...
def smallest_factor(n: ArrayLike) -> int | IntArray:
    """The least prime that divides n; n itself for a prime. An int for a number, int64 of the same shape for an array.

    Trial division by the primes up to sqrt(n), all numbers together.

    Raises TypeError unless n holds integers, ValueError for one below 2 or above `LARGEST_FACTORED`.
    """
    values = integer_array("n", n, minimum=2, maximum=LARGEST_FACTORED)
    flat = values.ravel()
    factor = flat.copy()
    open_places = np.arange(flat.size)
    for p in primes_below(math.isqrt(int(flat.max(initial=0))) + 1).tolist():
        numbers = flat[open_places]
        divided = numbers % p == 0
        factor[open_places[divided]] = p
        open_places = open_places[~divided & (numbers > p * p)]
        if open_places.size == 0:
            break
    result = factor.reshape(values.shape)
    return int(result) if result.ndim == 0 else result


def factorise(n: int) -> tuple[tuple[int, int], ...]:
    """The factors of n >= 1 as pairs (prime, exponent), primes ascending; () for 1. The product of p^e is n.

    Raises TypeError unless n is an integer, ValueError for one below 1 or above `LARGEST_FACTORED`.
    """
    left = within("n", n, 1, LARGEST_FACTORED)
    candidates = primes_below(math.isqrt(left) + 1)
    factors: list[tuple[int, int]] = []
    for p in candidates[left % candidates == 0].tolist():
        exponent = 0
        while left % p == 0:
            left //= p
            exponent += 1
        factors.append((p, exponent))
    if left > 1:
        factors.append((left, 1))
    return tuple(factors)
