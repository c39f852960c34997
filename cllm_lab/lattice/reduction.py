"""Lattice basis reduction after Lenstra, Lenstra and Lovász: exact on integers, guarded float64 on floats.

Rows are basis vectors throughout. With the Gram-Schmidt vectors b*_i and coefficients mu_ij = <b_i, b*_j> / |b*_j|²,
a basis is LLL-reduced with parameter delta when it is

    size-reduced:            |mu_ij| <= 1/2                           for j < i
    and satisfies Lovász:    |b*_i|² >= (delta - mu_i,i-1²) |b*_i-1|²   for i >= 1.

Every finite float64 is an integer over a power of two, so a basis of floats is a lattice of integers but for one scale.
Its vectors and its change of basis are kept as those integers; only the decisions (which multiple to subtract, whether
to swap) are taken in float64. The checks below are exact for both kinds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cllm_lab.corpus.arguments import real_number
from cllm_lab.lattice.arguments import FloatArray, not_negative

IntegerArray = NDArray[Any]  # int64 where the numbers fit, Python ints in an object array where they do not

_LARGEST_EXACT = 2.0**52  # whole numbers up to here are exact in float64
# Far above the rounding of Gram-Schmidt at the sizes meant here, so that no decision is taken twice.
_SLACK = 1e-9
_SWAPS_PER_ROUND = 1000
_MOST_ROUNDS = 100


@dataclass(frozen=True)
class Reduction:
    """A reduced basis, with the change of basis that leads to it.

    ``basis``: H (m, n); ``transform``: U (m, m), integers, determinant 1 or -1, H = U B exactly (for a basis of floats:
    U B in exact arithmetic, each entry then rounded once). ``swaps``: exchanges of neighbouring rows.
    """

    basis: NDArray[Any]
    transform: IntegerArray
    swaps: int


def lll_reduce(basis: ArrayLike, delta: float | Fraction = 0.75) -> NDArray[Any]:
    """The LLL-reduced basis of the lattice that the rows of ``basis`` (m, n), m <= n, span.

    Integers of any size give integers (int64, or Python ints in an object array where int64 is too small), and both
    conditions hold exactly. Floats are taken at their exact value and give float64, each entry rounded once; the
    conditions hold to 1e-9, as found by a Gram-Schmidt taken afresh from the result, and where float64 cannot
    resolve the rows the exact algorithm takes over. ``delta``: in (1/4, 1]; larger is more strictly reduced and
    slower. `most_swaps` bounds the number of swaps.

    Raises ValueError for another shape, for rows that are linearly dependent (floats: dependent to working
    precision), for NaN and infinities, for another ``delta``; TypeError for entries that are neither integers nor
    floats.

    Source: A. K. Lenstra, H. W. Lenstra, L. Lovász, "Factoring polynomials with rational coefficients",
    Math. Ann. 261 (1982), section 1. Integers: B. M. M. de Weger, "Solving exponential Diophantine equations using
    lattice basis reduction algorithms", J. Number Theory 26 (1987), as in H. Cohen, "A Course in Computational
    Algebraic Number Theory" (1993), algorithm 2.6.7. Floats ahead of integers: C. P. Schnorr, M. Euchner, "Lattice
    basis reduction: improved practical algorithms and solving subset sum problems", Math. Programming 66 (1994).
    """
    return lll_reduce_with_transform(basis, delta).basis


def lll_reduce_with_transform(basis: ArrayLike, delta: float | Fraction = 0.75) -> Reduction:
    """As `lll_reduce`, with the unimodular transform U of H = U B and the number of swaps. Raises as `lll_reduce`."""
    threshold = _checked_delta(delta)
    integers, scale, is_float = _as_integers("basis", basis)
    m, n = integers.shape
    rows = np.concatenate([integers, _identity(m)], axis=1)
    swaps, settled = 0, False
    if is_float:
        rows, swaps, settled = _reduce_in_floats(rows, n, float(threshold))
    if not settled:
        swaps += _reduce_exactly(rows, n, threshold)
    reduced = rows[:, :n]
    return Reduction(
        basis=(reduced / scale).astype(np.float64) if is_float else _narrowed(reduced),
        transform=_narrowed(rows[:, n:]),
        swaps=swaps,
    )


def is_size_reduced(basis: ArrayLike, tolerance: float = 0.0) -> bool:
    """Whether |mu_ij| <= 1/2 + tolerance for all j < i, in exact arithmetic. Raises as `lll_reduce`."""
    bound = Fraction(1, 2) + Fraction(not_negative("tolerance", tolerance))
    integers, _, _ = _as_integers("basis", basis)
    d, scaled_mu = _integral_gram_schmidt(integers)
    p, q = bound.numerator, bound.denominator
    return all(q * abs(scaled_mu[i, j]) <= p * d[j + 1] for i in range(len(integers)) for j in range(i))


def satisfies_lovasz(basis: ArrayLike, delta: float | Fraction = 0.75, tolerance: float = 0.0) -> bool:
    """Whether |b*_i|² >= (delta - tolerance - mu_i,i-1²) |b*_i-1|² for all i >= 1, in exact arithmetic.

    Raises as `lll_reduce`.
    """
    bound = _checked_delta(delta) - Fraction(not_negative("tolerance", tolerance))
    integers, _, _ = _as_integers("basis", basis)
    d, scaled_mu = _integral_gram_schmidt(integers)
    return not any(_lovasz_fails(d, scaled_mu, k, bound) for k in range(1, len(integers)))


def lattice_determinant(basis: ArrayLike) -> int | float:
    """The volume of a cell of the lattice, sqrt(det(B B^T)); |det B| where B is square.

    An exact int for a square basis of integers, otherwise a float, correct to a few units in the last place.
    Raises as `lll_reduce`, and OverflowError where a float cannot hold the value.
    """
    integers, scale, is_float = _as_integers("basis", basis)
    m, n = integers.shape
    gram = _integral_gram_schmidt(integers)[0][-1]
    if m == n and not is_float:
        return math.isqrt(gram)
    # 2 ** -bits sqrt(gram 4 ** bits): the integer root has at least 64 leading bits, whatever the size of gram.
    bits = max(0, 64 - gram.bit_length() // 2)
    volume = Fraction(math.isqrt(gram << (2 * bits)), scale**m << bits)
    value = float(volume)
    if value == 0.0:
        raise OverflowError("basis: the determinant of its lattice is below the smallest float64")
    return value


def log_orthogonality_defect(basis: ArrayLike) -> float:
    """ln( prod_i |b_i| / det ), natural logarithm: 0 for orthogonal rows, positive otherwise (Hadamard).

    An LLL-reduced basis with delta = 3/4 has at most m (m - 1) / 4 · ln 2 (Lenstra, Lenstra and Lovász 1982, 1.8).
    Raises as `lll_reduce`.
    """
    integers, _, _ = _as_integers("basis", basis)
    gram = _integral_gram_schmidt(integers)[0][-1]
    lengths = sum(math.log(int(np.dot(row, row))) for row in integers)
    return 0.5 * (lengths - math.log(gram))


def most_swaps(basis: ArrayLike, delta: float | Fraction = 0.75) -> float:
    """The bound on the swaps of `lll_reduce` on integers: ln(prod_{i<m} d_i) / ln(1/delta).

    d_i = det of the Gram matrix of the first i rows, a positive integer; a swap multiplies one of them by less than
    delta and leaves the others (Lenstra, Lenstra and Lovász 1982, (1.20)-(1.25)). A basis of floats is taken in
    units of their last common binary place. Infinity for delta = 1. Raises as `lll_reduce`.
    """
    threshold = _checked_delta(delta)
    integers, _, _ = _as_integers("basis", basis)
    if threshold == 1:
        return math.inf
    d, _ = _integral_gram_schmidt(integers)
    return sum(math.log(value) for value in d[1:-1]) / -math.log(threshold)


def unimodular_inverse(transform: ArrayLike) -> IntegerArray:
    """The inverse of a unimodular matrix U (m, m), exact integers: Gauss-Jordan without fractions (Bareiss 1968).

    Raises ValueError where U is not square or its determinant is neither 1 nor -1, TypeError unless it holds integers.
    """
    integers, _, is_float = _as_integers("transform", transform)
    m, n = integers.shape
    if is_float:
        raise TypeError("transform must hold integers, got floats")
    if m != n:
        raise ValueError(f"transform must be square, got shape {integers.shape}")
    work = np.concatenate([integers, _identity(m)], axis=1)
    previous = 1
    for i in range(m):
        candidates = np.flatnonzero(work[i:, i])
        if len(candidates) == 0:
            raise ValueError("transform must have determinant 1 or -1, got 0")
        pivot_row = i + int(candidates[0])
        work[[i, pivot_row]] = work[[pivot_row, i]]
        pivot, pivots = work[i, i], work[:, i].copy()
        others = np.arange(m) != i
        work[others] = (pivot * work[others] - np.outer(pivots[others], work[i])) // previous
        previous = pivot
    if abs(previous) != 1:
        raise ValueError(f"transform must have determinant 1 or -1, got {abs(previous)} but for the sign")
    return _narrowed(work[:, m:] * previous)


def _reduce_exactly(rows: IntegerArray, n: int, delta: Fraction) -> int:
    """Make the first n columns of rows LLL-reduced, in place, carrying the others along; the number of swaps."""
    d, scaled_mu = _integral_gram_schmidt(rows[:, :n])

    def size_reduce(k: int, j: int) -> None:
        if 2 * abs(scaled_mu[k, j]) > d[j + 1]:
            q = (2 * scaled_mu[k, j] + d[j + 1]) // (2 * d[j + 1])
            rows[k] -= q * rows[j]
            scaled_mu[k, j] -= q * d[j + 1]
            scaled_mu[k, :j] -= q * scaled_mu[j, :j]

    def swap(k: int) -> None:
        rows[[k - 1, k]] = rows[[k, k - 1]]
        scaled_mu[[k - 1, k], : k - 1] = scaled_mu[[k, k - 1], : k - 1]
        crossing = scaled_mu[k, k - 1]
        between = (d[k - 1] * d[k + 1] + crossing**2) // d[k]
        below = scaled_mu[k + 1 :, k].copy()
        scaled_mu[k + 1 :, k] = (d[k + 1] * scaled_mu[k + 1 :, k - 1] - crossing * below) // d[k]
        scaled_mu[k + 1 :, k - 1] = (between * below + crossing * scaled_mu[k + 1 :, k]) // d[k + 1]
        d[k] = between

    swaps, k = 0, 1
    while k < len(rows):
        size_reduce(k, k - 1)
        if _lovasz_fails(d, scaled_mu, k, delta):
            swap(k)
            swaps += 1
            k = max(1, k - 1)
        else:
            for j in range(k - 2, -1, -1):
                size_reduce(k, j)
            k += 1
    return swaps


def _lovasz_fails(d: list[int], scaled_mu: IntegerArray, k: int, delta: Fraction) -> bool:
    """|b*_k|² < (delta - mu_k,k-1²) |b*_k-1|², multiplied by d_k² and the denominator of delta."""
    left = d[k + 1] * d[k - 1] + scaled_mu[k, k - 1] ** 2
    return bool(delta.denominator * left < delta.numerator * d[k] ** 2)


def _integral_gram_schmidt(rows: IntegerArray) -> tuple[list[int], IntegerArray]:
    """Gram determinants d_0 = 1, ..., d_m and the integers d_{j+1} mu_ij below the diagonal (Cohen, 2.6.7).

    They are what Bareiss's elimination of the Gram matrix meets on its way. |b*_i|² = d_{i+1} / d_i.
    """
    m = len(rows)
    remaining = rows @ rows.T
    scaled_mu = np.zeros((m, m), dtype=object)
    d = [1]
    for i in range(m):
        column = remaining[i:, i].copy()
        pivot = int(column[0])
        if pivot == 0:
            raise ValueError(
                f"basis must have linearly independent rows; got {m} rows, of which row {i} is a combination of "
                "those before it"
            )
        scaled_mu[i + 1 :, i] = column[1:]
        remaining[i + 1 :, i + 1 :] = (
            pivot * remaining[i + 1 :, i + 1 :] - np.outer(column[1:], column[1:])
        ) // d[i]
        d.append(pivot)
    return d, scaled_mu


def _reduce_in_floats(rows: IntegerArray, n: int, delta: float) -> tuple[IntegerArray, int, bool]:
    """rows with their first n columns LLL-reduced, the number of swaps, and whether float64 could settle it.

    Each round takes Gram-Schmidt afresh from the exact rows, and applies the whole-number transform that it finds
    exactly, so that rounding can cost quality, never the lattice. A round that finds nothing to do is the guard: it
    has verified both conditions.
    """
    swaps = 0
    for _ in range(_MOST_ROUNDS):
        found = _float_round(_as_floats(rows[:, :n]), delta)
        if found.transform is None:
            return rows, swaps, found.settled
        rows = found.transform @ rows
        swaps += found.swaps
    return rows, swaps, False


@dataclass(frozen=True)
class _Round:
    transform: IntegerArray | None = None
    swaps: int = 0
    settled: bool = False


def _float_round(vectors: FloatArray, delta: float) -> _Round:
    """LLL on the Gram-Schmidt coefficients of ``vectors`` in float64, until done or until they have to be renewed."""
    m = len(vectors)
    r = np.linalg.qr(vectors.T, mode="r")
    diagonal = np.diag(r).copy()
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.all(np.abs(diagonal) > np.finfo(np.float64).eps * lengths):
        return _Round()
    mu = np.tril((r / diagonal[:, None]).T, -1)
    squares = diagonal**2
    transform = np.eye(m)
    swaps, k = 0, 1

    def size_reduce(k: int, j: int) -> bool:
        """False where the transform would leave the whole numbers that float64 holds exactly."""
        if abs(mu[k, j]) <= 0.5 + _SLACK:
            return True
        q = np.rint(mu[k, j])
        if abs(q) * np.abs(transform[j]).max() + np.abs(transform[k]).max() > _LARGEST_EXACT:
            return False
        transform[k] -= q * transform[j]
        mu[k, j] -= q
        mu[k, :j] -= q * mu[j, :j]
        return True

    def swap(k: int, between: float) -> None:
        transform[[k - 1, k]] = transform[[k, k - 1]]
        mu[[k - 1, k], : k - 1] = mu[[k, k - 1], : k - 1]
        crossing = mu[k, k - 1]
        mu[k, k - 1] = crossing * squares[k - 1] / between
        squares[k] *= squares[k - 1] / between
        squares[k - 1] = between
        below = mu[k + 1 :, k].copy()
        mu[k + 1 :, k] = mu[k + 1 :, k - 1] - crossing * below
        mu[k + 1 :, k - 1] = below + mu[k, k - 1] * mu[k + 1 :, k]

    while k < m and swaps < _SWAPS_PER_ROUND:
        if not size_reduce(k, k - 1):
            break
        between = squares[k] + mu[k, k - 1] ** 2 * squares[k - 1]
        if between < (delta - _SLACK) * squares[k - 1]:
            swap(k, between)
            swaps, k = swaps + 1, max(1, k - 1)
        elif all(size_reduce(k, j) for j in range(k - 2, -1, -1)):
            k += 1
        else:
            break
    if np.array_equal(transform, np.eye(m)):
        return _Round(settled=k == m)
    return _Round(transform.astype(np.int64).astype(object), swaps)


def _as_integers(name: str, values: ArrayLike) -> tuple[IntegerArray, int, bool]:
    """(integers as an object array, the power of two to divide them by, whether they came as floats)."""
    # A list goes through dtype object, since NumPy would make floats of some lists of large integers.
    array = values if isinstance(values, np.ndarray) else np.array(values, dtype=object)
    if array.ndim != 2 or 0 in array.shape or array.shape[0] > array.shape[1]:
        raise ValueError(
            f"{name} must have shape (m, n) with 1 <= m <= n, its rows the basis vectors; got shape {array.shape}"
        )
    entries = [value for row in array.tolist() for value in row]
    if all(isinstance(value, Integral) and not isinstance(value, bool) for value in entries):
        integers = np.array([int(value) for value in entries], dtype=object).reshape(array.shape)
        return integers, 1, False
    if any(isinstance(value, bool) or not isinstance(value, (Integral, float)) for value in entries):
        raise TypeError(f"{name} must hold integers or floats, got dtype {array.dtype} with other entries")
    if not all(math.isfinite(value) for value in entries):
        raise ValueError(f"{name} must be finite, got NaN or infinity among its entries")
    ratios = [value.as_integer_ratio() for value in entries]
    scale = max(denominator for _, denominator in ratios)
    integers = np.array([p * (scale // q) for p, q in ratios], dtype=object).reshape(array.shape)
    _refuse_dependent_to_working_precision(name, integers)
    return integers, scale, True


def _refuse_dependent_to_working_precision(name: str, rows: IntegerArray) -> None:
    vectors = np.concatenate([_as_floats(row[None]) for row in rows])
    rank = 0
    if np.all(lengths := np.linalg.norm(vectors, axis=1)):
        rank = int(np.linalg.matrix_rank(vectors / lengths[:, None]))
    if rank < len(rows):
        raise ValueError(
            f"{name} must have linearly independent rows; these floats are dependent to working precision "
            "(integers are taken exactly)"
        )


def _as_floats(rows: IntegerArray) -> FloatArray:
    """rows times a power of two that brings the largest entry near 1: integers too large for a float64 fit."""
    bits = max(int(value).bit_length() for value in rows.flat)
    return (rows / (1 << bits)).astype(np.float64)


def _identity(m: int) -> IntegerArray:
    return np.eye(m, dtype=np.int64).astype(object)


def _narrowed(integers: IntegerArray) -> IntegerArray:
    """int64 where every number fits, the Python ints themselves otherwise."""
    limits = np.iinfo(np.int64)
    fits = all(limits.min <= value <= limits.max for value in integers.flat)
    return integers.astype(np.int64) if fits else integers.copy()


def _checked_delta(delta: object) -> Fraction:
    number = real_number("delta", delta)
    value = (
        delta if isinstance(delta, Fraction) else Fraction(number) if math.isfinite(number) else Fraction(0)
    )
    if not Fraction(1, 4) < value <= 1:
        raise ValueError(f"delta must lie in (1/4, 1], got {delta!r}")
    return value
