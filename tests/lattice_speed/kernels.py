"""The contenders that are loops: compiled on first use, each number by number, on one thread.

``primes`` (N, T) int32, ``q`` and ``k`` (N, T, D) float32, ``out`` (N, T, T) float32.
"""

from __future__ import annotations

import numba

from cllm_lab.model.parts.jit import FAST_MATH


@numba.njit(error_model="numpy")
def gcd_over_max(primes, out):
    """gcd(p_i, p_j) / max(p_i, p_j) by Euclid's algorithm, whatever the numbers are."""
    for n in range(primes.shape[0]):
        for i in range(primes.shape[1]):
            for j in range(primes.shape[1]):
                a, b = primes[n, i], primes[n, j]
                largest = max(a, b)
                while b:
                    a, b = b, a % b
                out[n, i, j] = a / largest


@numba.njit(error_model="numpy")
def gcd_over_max_of_primes(primes, out):
    """The same for numbers that are known to be prime: 1 where they are equal, 1 / max(p_i, p_j) elsewhere."""
    for n in range(primes.shape[0]):
        for i in range(primes.shape[1]):
            for j in range(primes.shape[1]):
                p, q = primes[n, i], primes[n, j]
                out[n, i, j] = 1.0 if p == q else 1.0 / max(p, q)


def _dots(q, k, out):
    for n in range(q.shape[0]):
        for i in range(q.shape[1]):
            for j in range(q.shape[1]):
                total = q.dtype.type(0.0)
                for d in range(q.shape[2]):
                    total += q[n, i, d] * k[n, j, d]
                out[n, i, j] = total


# q_i · k_j, a sum for each pair: its terms one after the other, as C compiles it, and several at a time.
dots_in_order = numba.njit(error_model="numpy")(_dots)
dots = numba.njit(error_model="numpy", fastmath=FAST_MATH)(_dots)
