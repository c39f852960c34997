"""The documents' "LLL reduction (2-4x)" taken at its word: LLL on whole-number blocks of an embedding, and its cost.

A block E of d rows of an embedding (V, d) becomes integers Q ~ E / scale. LLL finds H = U Q with shorter rows, U
unimodular. H is Q in another basis, of the same shape and rank, so that

    E x ~ scale · Q x = scale · U^-1 (H x):     d² multiply-adds for H x, as many as for Q x, and d² more for U^-1.

The expected speed-up is 1 where the answer may stay in the new basis, and 1/2 where it may not. Rows get shorter where
they were alike; the largest number in a block of independent random rows does not (`bits_before`, `bits_after`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cllm_lab.lattice.arguments import FloatArray, finite_array, within
from cllm_lab.lattice.reduction import lll_reduce_with_transform, unimodular_inverse

IntegerArray = NDArray[Any]

MOST_BITS = 32


@dataclass(frozen=True)
class ProductCost:
    """Multiply-adds of one matrix-vector product: ``before`` for Q x, ``reduced`` for H x, ``change_back`` for U^-1.

    Counted over all entries where the matrices are stored dense, over those that are not 0 where zeros are skipped.
    """

    before: int
    reduced: int
    change_back: int

    @property
    def speed_up(self) -> float:
        """before / (reduced + change_back): the product, in the basis of the block."""
        return self.before / (self.reduced + self.change_back)

    @property
    def speed_up_in_new_basis(self) -> float:
        """before / reduced: the product where its result may stay in the basis of H."""
        return self.before / self.reduced


@dataclass(frozen=True)
class ReducedBlock:
    """A quantised block, its LLL-reduced form and the way back.

    ``scale`` Q ~ the block; ``quantised`` Q (m, d); ``reduced`` H = ``transform`` Q (m, d); ``inverse`` = U^-1 (m, m).
    """

    scale: float
    quantised: IntegerArray
    reduced: IntegerArray
    transform: IntegerArray
    inverse: IntegerArray

    @property
    def cost(self) -> ProductCost:
        """Multiply-adds with dense matrices."""
        return ProductCost(self.quantised.size, self.reduced.size, self.inverse.size)

    @property
    def cost_without_zeros(self) -> ProductCost:
        """Multiply-adds where every zero entry is skipped."""
        return ProductCost(*(int(np.count_nonzero(a)) for a in (self.quantised, self.reduced, self.inverse)))

    @property
    def bits_before(self) -> int:
        """Bits of the largest entry of Q, without its sign."""
        return _bits(self.quantised)

    @property
    def bits_after(self) -> int:
        """Bits of the largest entry of H, without its sign."""
        return _bits(self.reduced)

    def product(self, x: ArrayLike) -> FloatArray:
        """scale · Q x for x (d,) or (d, n), in float64.

        Raises TypeError unless x holds real numbers, ValueError for another shape and numbers that are not finite.
        """
        return np.asarray(self.scale * (self.quantised.astype(np.float64) @ self._vectors(x)))

    def product_through_reduced(self, x: ArrayLike) -> FloatArray:
        """scale · U^-1 (H x), the same but for rounding, which U^-1 magnifies. Raises as `product`."""
        inner = self.reduced.astype(np.float64) @ self._vectors(x)
        return np.asarray(self.scale * (self.inverse.astype(np.float64) @ inner))

    def _vectors(self, x: ArrayLike) -> FloatArray:
        vectors = finite_array("x", x)
        d = self.quantised.shape[1]
        if vectors.ndim not in (1, 2) or len(vectors) != d:
            raise ValueError(f"x must have shape ({d},) or ({d}, n), got {vectors.shape}")
        return vectors


def quantise(block: ArrayLike, bits: int = 8) -> tuple[IntegerArray, float]:
    """(Q, scale): Q = round(block / scale), int64, scale = max |block| / (2^(bits - 1) - 1).

    So Q uses the signed integers of ``bits`` bits, symmetric about 0, and |block - scale Q| <= scale / 2 everywhere.
    Raises TypeError unless ``bits`` is an integer and the block holds real numbers, ValueError outside 2 to 32, and for
    a block that is not finite, has not two dimensions, or is all zeros or so small that scale is no normal float64.
    """
    a = finite_array("block", block)
    b = within("bits", bits, 2, MOST_BITS)
    if a.ndim != 2:
        raise ValueError(f"block must have two dimensions, got shape {a.shape}")
    largest = float(np.abs(a).max(initial=0.0))
    if largest == 0.0:
        raise ValueError("block must not be all zeros: there is nothing to quantise")
    scale = largest / (2 ** (b - 1) - 1)
    if scale < np.finfo(np.float64).tiny:
        raise ValueError(
            f"block must have larger entries for {b} bits; {largest} divided into steps underflows"
        )
    return np.rint(a / scale).astype(np.int64), scale


def reduce_block(block: ArrayLike, bits: int = 8, delta: float | Fraction = 0.75) -> ReducedBlock:
    """Quantise a block (m, d), m <= d, and LLL-reduce its rows. About a second for d = 64 at 8 bits.

    Raises as `quantise` and `cllm_lab.lattice.reduction.lll_reduce`: quantised rows must be linearly independent,
    which a row of zeros (a padding row) or two equal ones are not.
    """
    quantised, scale = quantise(block, bits)
    try:
        found = lll_reduce_with_transform(quantised, delta)
    except ValueError as error:
        raise ValueError(f"block, quantised to {bits} bits: {error}") from error
    return ReducedBlock(scale, quantised, found.basis, found.transform, unimodular_inverse(found.transform))


def reduce_embedding(
    embedding: ArrayLike, bits: int = 8, delta: float | Fraction = 0.75
) -> tuple[ReducedBlock, ...]:
    """`reduce_block` of every d rows of an embedding (V, d), the last block having the rows that remain.

    Each block has its own scale. Raises as `reduce_block`, naming the rows.
    """
    table = finite_array("embedding", embedding)
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"embedding must have shape (vocabulary, d), got {table.shape}")
    d = table.shape[1]
    blocks = []
    for first in range(0, len(table), d):
        rows = table[first : first + d]
        try:
            blocks.append(reduce_block(rows, bits, delta))
        except ValueError as error:
            raise ValueError(f"embedding rows {first} to {first + len(rows) - 1}: {error}") from error
    return tuple(blocks)


def _bits(integers: IntegerArray) -> int:
    return max(abs(int(value)).bit_length() for value in integers.flat)
