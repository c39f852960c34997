"""Dimension reduction that saves multiply-adds, and says what it loses: the truncated singular value decomposition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.corpus.arguments import real_number
from cllm_lab.lattice.arguments import FloatArray, finite_array, within


@dataclass(frozen=True)
class LowRankFactors:
    """A (m, n) ~ ``left`` @ ``right``, (m, r) @ (r, n): U_r diag(sigma_1..r) and V_r^T.

    ``singular_values``: all min(m, n) of them, descending.
    """

    left: FloatArray
    right: FloatArray
    singular_values: FloatArray

    @property
    def rank(self) -> int:
        """r, the common dimension of the factors."""
        return len(self.right)

    @property
    def error(self) -> float:
        """|A - left right|_F = sqrt(sum_{i > r} sigma_i²), the least of any matrix of rank r (Eckart and Young)."""
        largest = float(self.singular_values[0])
        # Relative to the largest, so that no square overflows.
        return (
            largest * float(np.linalg.norm(self.singular_values[self.rank :] / largest)) if largest else 0.0
        )

    @property
    def retained_energy(self) -> float:
        """sum_{i <= r} sigma_i² / sum_i sigma_i², in [0, 1]; 1 for a matrix of zeros, of which nothing is lost."""
        return float(_cumulative_energy(self.singular_values)[self.rank - 1])

    @property
    def multiply_adds_before(self) -> int:
        """m n: A times one vector."""
        return self.left.shape[0] * self.right.shape[1]

    @property
    def multiply_adds_after(self) -> int:
        """r (m + n): right, then left, times one vector."""
        return self.rank * (self.left.shape[0] + self.right.shape[1])

    @property
    def speed_up(self) -> float:
        """multiply_adds_before / multiply_adds_after; above 1 for r < m n / (m + n) only."""
        return self.multiply_adds_before / self.multiply_adds_after


def truncated_svd(matrix: ArrayLike, rank: int) -> LowRankFactors:
    """The best approximation of ``matrix`` (m, n) by one of rank ``rank``, in factors, float64.

    Raises TypeError unless ``rank`` is an integer and ``matrix`` holds real numbers, ValueError unless
    1 <= rank <= min(m, n), for another number of dimensions and for entries that are not finite.

    Source: C. Eckart, G. Young, "The approximation of one matrix by another of lower rank", Psychometrika 1 (1936).
    """
    a = _finite_matrix(matrix)
    r = within("rank", rank, 1, min(a.shape), f" for shape {a.shape}")
    u, sigma, vt = np.linalg.svd(a, full_matrices=False)
    return LowRankFactors(left=u[:, :r] * sigma[:r], right=vt[:r].copy(), singular_values=sigma)


def rank_for_energy(matrix: ArrayLike, energy: float) -> int:
    """The smallest rank whose `LowRankFactors.retained_energy` is at least ``energy``.

    Raises TypeError unless ``energy`` is a number, ValueError unless 0 < energy <= 1, and as `truncated_svd`.
    """
    wanted = real_number("energy", energy)
    if not 0.0 < wanted <= 1.0:
        raise ValueError(f"energy must lie in (0, 1], got {energy!r}")
    # With the vectors too, since LAPACK's values alone may differ in the last bit from those of truncated_svd.
    sigma = np.linalg.svd(_finite_matrix(matrix), full_matrices=False)[1]
    cumulative = _cumulative_energy(sigma)
    return int(np.argmax(cumulative >= wanted)) + 1


def _cumulative_energy(singular_values: FloatArray) -> FloatArray:
    largest = singular_values[0]
    if largest == 0.0:
        return np.ones(len(singular_values))
    sums = np.cumsum((singular_values / largest) ** 2)
    return np.asarray(sums / sums[-1])


def _finite_matrix(matrix: ArrayLike) -> FloatArray:
    a = finite_array("matrix", matrix)
    if a.ndim != 2 or 0 in a.shape:
        raise ValueError(f"matrix must have two dimensions, none of them 0; got shape {a.shape}")
    return a
