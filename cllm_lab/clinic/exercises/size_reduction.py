"""An exercise on lattices: the step of basis reduction that makes a row short without leaving the lattice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from cllm_lab.clinic.judging import Exercise, Mistake
from cllm_lab.model.parameters import Array


def size_reduce(basis: Array, star: Array) -> Array:
    """The last row of ``basis`` (m, n), size-reduced against those before it; a new array (n,).

    ``star`` (m, n): the Gram-Schmidt vectors b*_j of the rows. For j = m - 2, ..., 0, with the row b as it then is:

        b <- b - round(<b, b*_j> / |b*_j|²) b_j

    Afterwards all |<b, b*_j>| <= |b*_j|² / 2. Source: A. K. Lenstra, H. W. Lenstra, L. Lovász, Math. Ann. 261 (1982),
    (1.18).
    """
    return _reduce(basis, star, reversed(range(len(basis) - 1)))


def _reduce(
    basis: Array,
    star: Array,
    order: Iterable[int],
    to_whole: Callable[[Array], Array] = np.round,
    subtract: Array | None = None,
) -> Array:
    """`size_reduce` with another order, another way to a whole number, or multiples of other rows subtracted."""
    rows = basis if subtract is None else subtract
    row = basis[-1].copy()
    for j in order:
        row = row - to_whole(row @ star[j] / (star[j] @ star[j])) * rows[j]
    return row


def _down(basis: Array) -> Iterable[int]:
    return reversed(range(len(basis) - 1))


def _bases(rng: np.random.Generator) -> Iterator[tuple[Array, ...]]:
    """Whole-number bases whose last row is far from reduced, with their Gram-Schmidt vectors."""
    for m, n in ((4, 5), (5, 5), (6, 8)):
        basis = rng.integers(-9, 10, (m, n)).astype(float)
        basis[-1] = 10.0 * basis[-1] + rng.integers(-9, 10, n)
        star = basis.copy()
        for i in range(m):
            for j in range(i):
                star[i] -= star[i] @ star[j] / (star[j] @ star[j]) * star[j]
        yield basis, star


SIZE_REDUCTION = Exercise(
    name="size-reduction",
    parameters=("basis", "star"),
    returns=("row",),
    asked="The last row of a basis (m, n), made short by whole multiples of the rows before it; star (m, n) holds the "
    "Gram-Schmidt vectors.",
    inputs=_bases,
    solution=size_reduce,
    mistakes=(
        Mistake(
            "the multiples are those of the row as it was at first, as when going from row 0 up; what is subtracted "
            "of a later row changes the shares of the earlier ones, so begin just before the last row, go down to 0, "
            "and take each share from the row as it is by then",
            lambda basis, star: {"row": _reduce(basis, star, range(len(basis) - 1))},
        ),
        Mistake(
            "the multiple was cut off, not rounded: the nearest whole number leaves at most a half",
            lambda basis, star: {"row": _reduce(basis, star, _down(basis), np.trunc)},
        ),
        Mistake(
            "the multiple was rounded down: the nearest whole number leaves at most a half on either side",
            lambda basis, star: {"row": _reduce(basis, star, _down(basis), np.floor)},
        ),
        Mistake(
            "the multiple was not rounded: what remains is b*, the part orthogonal to the rows before, which as a rule "
            "is not in the lattice; whole multiples stay in it",
            lambda basis, star: {"row": _reduce(basis, star, _down(basis), lambda mu: mu)},
        ),
        Mistake(
            "the multiples were measured along the rows of the basis; along star they are what remains when the "
            "rows before are left out",
            lambda basis, star: {"row": _reduce(basis, basis, _down(basis))},
        ),
        Mistake(
            "multiples of star were subtracted: these vectors are not in the lattice, the rows of the basis are",
            lambda basis, star: {"row": _reduce(basis, star, _down(basis), subtract=star)},
        ),
        Mistake(
            "the multiples were added: a share of mu is taken away by subtracting the row round(mu) times",
            lambda basis, star: {"row": _reduce(basis, star, _down(basis), subtract=-basis)},
        ),
        Mistake(
            "row 0 was left out: j goes down to 0, that included, as in range(m - 2, -1, -1)",
            lambda basis, star: {"row": _reduce(basis, star, range(len(basis) - 2, 0, -1))},
        ),
    ),
)

EXERCISES = (SIZE_REDUCTION,)
