"""Symmetry operations of order 12: the original's twelve, which are no group, and the groups C12 and D12 beside them.

A set of operations on vectors of d_model numbers is an array (operations, d_model, d_model); operation g maps x to
matrices[g] @ x. "Pairs" are dimensions (0, 1), (2, 3), ...
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.corpus.arguments import whole_number
from cllm_lab.lattice.arguments import FloatArray, IntArray, finite_array, integer_array
from cllm_lab.lattice.spirals import LARGEST_NUMBER, SYMMETRY_ORDER

HISTORICAL_SCALE = 1.1
ROUNDING = 1e-9
_MOST_ORDER = 1000


def symmetry_class(primes: ArrayLike) -> IntArray:
    """g = p mod 12, int64 of the shape of ``primes``. Every prime above 3 has g in {1, 5, 7, 11}.

    Raises TypeError unless ``primes`` holds integers, ValueError below 1.
    """
    return integer_array("primes", primes, 1, LARGEST_NUMBER) % SYMMETRY_ORDER


def historical_symmetries(d_model: int) -> FloatArray:
    """The original's operations g = 0, ..., 11 on embeddings, (12, d_model, d_model), d_model at least 2.

    - g = 0: nothing.
    - g = 1, 5, 7, 11: every pair turned by 2 pi g / 12; a last dimension without a partner stays.
    - g = 2, 4, 8, 10: the same turn, then dimension 0 negated.
    - g = 3, 9: the same turn, then everything times 1.1.
    - g = 6: dimensions 0 and 1 negated, no turn: half a turn of the first pair alone.

    No group: the turn by 30 degrees done twice is no member, since g = 2 reflects as well, and 3 and 9 have neither an
    inverse in the set nor a finite order. All but 3 and 9 are orthogonal. Primes above 3 meet the four pure turns
    only: of all primes 2 alone is reflected, and 3 alone is scaled.

    Raises TypeError unless ``d_model`` is an integer, ValueError below 2.
    """
    d = whole_number("d_model", d_model, 2)
    matrices = np.stack([_turn_pairs(d, g, SYMMETRY_ORDER) for g in range(SYMMETRY_ORDER)])
    matrices[[2, 4, 8, 10], 0] *= -1.0
    matrices[[3, 9]] *= HISTORICAL_SCALE
    matrices[6] = np.diag([-1.0, -1.0] + [1.0] * (d - 2))
    return matrices


def cyclic_group(d_model: int, order: int = SYMMETRY_ORDER) -> FloatArray:
    """C_n, the rotations: matrices[k] turns every pair by 2 pi k / n; (order, d_model, d_model), d_model even.

    matrices[j] @ matrices[k] = matrices[(j + k) mod n].
    Raises TypeError unless both are integers, ValueError for an odd ``d_model`` or one below 2, or ``order`` below 1.
    """
    d = _even("d_model", d_model)
    n = whole_number("order", order, 1)
    return np.stack([_turn_pairs(d, k, n) for k in range(n)])


def dihedral_group(d_model: int, order: int = SYMMETRY_ORDER) -> FloatArray:
    """D_n, the rotations R_k and then the reflections R_k S, (2 n, d_model, d_model), d_model even.

    n = ``order``; S negates the second of each pair; S R_k = R_-k S. The symmetries of a regular polygon with n
    corners for n >= 3.
    Raises as `cyclic_group`.
    """
    rotations = cyclic_group(d_model, order)
    mirror = np.tile([1.0, -1.0], rotations.shape[-1] // 2)
    return np.concatenate([rotations, rotations * mirror])


def apply_symmetries(matrices: ArrayLike, operations: ArrayLike, x: ArrayLike) -> FloatArray:
    """matrices[g] @ x for each vector of ``x`` (..., d), g its entry in ``operations``, which broadcasts to (...).

    float64. The adjoint (backward) is the same with ``matrices.swapaxes(1, 2)``.
    Raises TypeError unless ``operations`` holds integers, ValueError outside the set or for shapes that do not agree.
    """
    a, vectors = _operations_and_vectors(matrices, x)
    g = integer_array("operations", operations, 0, len(a) - 1)
    try:
        g = np.broadcast_to(g, vectors.shape[:-1])
    except ValueError:
        raise ValueError(f"operations must broadcast to {vectors.shape[:-1]}, got shape {g.shape}") from None
    moved = np.empty_like(vectors)
    for k in np.unique(g):
        moved[g == k] = vectors[g == k] @ a[k].T
    return moved


@dataclass(frozen=True)
class OperationProperties:
    """What one matrix M is. ``order``: the least k >= 1 with M^k = 1, None where there is none up to 1,000."""

    orthogonal: bool
    invertible: bool
    determinant: float
    order: int | None


def operation_properties(matrix: ArrayLike) -> OperationProperties:
    """Orthogonal (|M^T M - 1| <= 1e-9 in every entry)? Invertible? Of what order?

    Invertible is meant numerically: the smallest singular value counts as 0 below d times the rounding of the largest.

    Raises ValueError unless ``matrix`` is square and finite.
    """
    m = finite_array("matrix", matrix)
    if m.ndim != 2 or m.shape[0] != m.shape[1] or m.shape[0] == 0:
        raise ValueError(f"matrix must be square, got shape {m.shape}")
    identity = np.eye(len(m))
    with np.errstate(over="ignore", invalid="ignore"):
        orthogonal = bool(np.abs(m.T @ m - identity).max() <= ROUNDING)
    return OperationProperties(
        orthogonal=orthogonal,
        invertible=int(np.linalg.matrix_rank(m)) == len(m),
        determinant=float(np.linalg.det(m)),
        order=_order(m, identity),
    )


@dataclass(frozen=True)
class GroupProperties:
    """Whether a set of operations is a group under composition, and what is in the way.

    ``products``: (n, n), the number of the operation that matrices[i] @ matrices[j] is, -1 where it is none of them.
    ``identity``: its number, or None. ``without_inverse``: the operations whose inverse is not in the set.
    ``not_closed``: the first pair i, j whose product is not in the set, or None. Matrix products are associative.
    """

    products: IntArray
    identity: int | None
    without_inverse: tuple[int, ...]
    not_closed: tuple[int, int] | None

    @property
    def is_group(self) -> bool:
        """Closed, with an identity and every inverse."""
        return self.not_closed is None and self.identity is not None and not self.without_inverse


def group_properties(matrices: ArrayLike) -> GroupProperties:
    """The multiplication table of a set of n different operations and the group axioms, entries compared to 1e-9.

    Raises ValueError for another shape than (n, d, d), entries that are not finite, or two operations that are equal.
    """
    a = _operations(matrices)
    n = len(a)
    for j in range(n):
        if (i := _place(a[j], a)) < j:
            raise ValueError(f"matrices must all differ; operations {i} and {j} are equal")
    products = np.array([[_place(a[i] @ a[j], a) for j in range(n)] for i in range(n)], dtype=np.int64)
    one = _place(np.eye(a.shape[1]), a)
    identity = None if one < 0 else one
    has_inverse = (products == one).any(axis=1) if identity is not None else np.zeros(n, dtype=bool)
    outside = np.argwhere(products < 0)
    return GroupProperties(
        products=products,
        identity=identity,
        without_inverse=tuple(int(g) for g in np.flatnonzero(~has_inverse)),
        not_closed=(int(outside[0][0]), int(outside[0][1])) if len(outside) else None,
    )


def equivariance_error(
    function: Callable[[FloatArray], ArrayLike],
    group: ArrayLike,
    x: ArrayLike,
    output_group: ArrayLike | None = None,
) -> float:
    """max_g |f(g x) - g f(x)|, relative to the largest |f| met: 0, but for rounding, where f is equivariant.

    ``function`` maps vectors (..., d) to vectors (..., e); |·| is Euclid's norm over all of its output. ``group``
    (n, d, d) acts on x (..., d), ``output_group`` (n, e, e) on the output, by default the same matrices; identity
    matrices there make this a test of invariance. One x can only refute equivariance: draw it at random.

    Raises ValueError for shapes that do not agree, and for values of x or f that are not finite.
    """
    a, vectors = _operations_and_vectors(group, x)
    b = a if output_group is None else _operations(output_group)
    if len(b) != len(a):
        raise ValueError(f"output_group must have as many operations as group, {len(a)}; got {len(b)}")
    there = _values(function, vectors, b.shape[-1])
    largest, error = float(np.linalg.norm(there)), 0.0
    for g, h in zip(a, b, strict=True):
        moved = _values(function, vectors @ g.T, b.shape[-1])
        largest = max(largest, float(np.linalg.norm(moved)))
        error = max(error, float(np.linalg.norm(moved - there @ h.T)))
    return error / largest if largest > 0.0 else 0.0


def _values(function: Callable[[FloatArray], ArrayLike], x: FloatArray, width: int) -> FloatArray:
    y = finite_array("what function returns", function(x.copy()))
    if y.ndim == 0 or y.shape[-1] != width:
        raise ValueError(
            f"function must return shape (..., {width}) for the output's group to act on; got {y.shape}"
        )
    return y


def _turn_pairs(d: int, k: int, order: int) -> FloatArray:
    """Every pair turned by k / order of a whole turn; a last dimension without a partner stays."""
    angle = 2.0 * math.pi * (k % order) / order
    matrix = np.eye(d)
    first = np.arange(0, d - 1, 2)
    matrix[first, first] = matrix[first + 1, first + 1] = math.cos(angle)
    matrix[first, first + 1], matrix[first + 1, first] = -math.sin(angle), math.sin(angle)
    return matrix


def _place(matrix: FloatArray, among: FloatArray) -> int:
    """The number of the first operation that ``matrix`` is, -1 where it is none."""
    same = np.flatnonzero(np.abs(among - matrix).max(axis=(1, 2)) <= ROUNDING)
    return int(same[0]) if len(same) else -1


def _order(m: FloatArray, identity: FloatArray) -> int | None:
    power = m
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(1, _MOST_ORDER + 1):
            if np.abs(power - identity).max() <= ROUNDING:
                return k
            power = power @ m
            if not np.isfinite(power).all():
                return None
    return None


def _even(name: str, value: int) -> int:
    number = whole_number(name, value, 2)
    if number % 2:
        raise ValueError(f"{name} must be even, to be turned in pairs; got {number}")
    return number


def _operations(matrices: ArrayLike) -> FloatArray:
    a = finite_array("a set of operations", matrices)
    if a.ndim != 3 or a.shape[1] != a.shape[2] or 0 in a.shape:
        raise ValueError(f"a set of operations must have shape (operations, d, d), got {a.shape}")
    return a


def _operations_and_vectors(matrices: ArrayLike, x: ArrayLike) -> tuple[FloatArray, FloatArray]:
    a = _operations(matrices)
    vectors = finite_array("x", x)
    if vectors.ndim == 0 or vectors.shape[-1] != a.shape[-1]:
        raise ValueError(f"x must have shape (..., {a.shape[-1]}), got {vectors.shape}")
    return a, vectors
