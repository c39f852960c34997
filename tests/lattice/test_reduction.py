"""LLL by its definition, by its theorems, and against FLINT, an implementation of its own."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from flint import fmpz_mat
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cllm_lab.lattice import reduction
from cllm_lab.lattice.reduction import (
    is_size_reduced,
    lattice_determinant,
    lll_reduce,
    lll_reduce_with_transform,
    log_orthogonality_defect,
    most_swaps,
    satisfies_lovasz,
    unimodular_inverse,
)

FLOAT_TOLERANCE = 2e-9  # promised 1e-9, and each entry is rounded once more

few = settings(max_examples=40)  # exact arithmetic in Python, several times over for each example
seeds = st.integers(0, 2**32 - 1)
deltas = st.sampled_from([Fraction(13, 50), 0.5, 0.75, 0.99, 1.0])


def flint_matrix(rows):
    return fmpz_mat([[int(value) for value in row] for row in rows])


def exact_product(a, b):
    return np.array(a, dtype=object) @ np.array(b, dtype=object)


def gram_schmidt(rows):
    """(squared lengths, mu) of the orthogonalised rows in fractions, as the textbook defines them."""
    vectors = [[Fraction(value) for value in row] for row in np.asarray(rows).tolist()]
    orthogonal, squares, mu = [], [], {}
    for i, vector in enumerate(vectors):
        rest = list(vector)
        for j in range(i):
            mu[i, j] = sum(a * b for a, b in zip(vector, orthogonal[j], strict=True)) / squares[j]
            rest = [a - mu[i, j] * b for a, b in zip(rest, orthogonal[j], strict=True)]
        orthogonal.append(rest)
        squares.append(sum(a * a for a in rest))
    return squares, mu


def reduced_by_definition(rows, delta, tolerance=0):
    squares, mu = gram_schmidt(rows)
    sized = all(abs(value) <= Fraction(1, 2) + Fraction(tolerance) for value in mu.values())
    bound = Fraction(delta) - Fraction(tolerance)
    return sized, all(
        squares[k] >= (bound - mu[k, k - 1] ** 2) * squares[k - 1] for k in range(1, len(squares))
    )


def random_basis(seed, m, n, size):
    rng = np.random.default_rng(seed)
    return [[int(value) for value in row] for row in rng.integers(-size, size, (m, n), endpoint=True)]


def knapsack(seed, n, bits):
    """The basis of a subset-sum problem: a unit matrix with a column of large numbers."""
    rng = np.random.default_rng(seed)
    weights = [int.from_bytes(rng.bytes(bits // 8)) + 1 for _ in range(n)]
    return [[int(i == j) for j in range(n)] + [weights[i]] for i in range(n)]


def dual(seed, n, modulus):
    """Rows (modulus, 0), (a_i, 1): the lattices of linear congruences, far from reduced."""
    rng = np.random.default_rng(seed)
    rows = np.eye(n, dtype=object)
    half = n // 2
    rows[:half] *= modulus
    rows[half:, :half] = rng.integers(0, modulus, (n - half, half)).astype(object)
    return rows.tolist()


def same_lattice(a, b):
    """Whether two bases span one lattice: equal Hermite normal forms, computed by FLINT."""
    return flint_matrix(a).hnf() == flint_matrix(b).hnf()


@few
@given(seeds, st.integers(1, 7), st.integers(0, 3), st.sampled_from([2, 50, 10**9, 10**30]), deltas)
def test_integers_are_reduced_exactly_and_span_the_same_lattice(seed, m, more, size, delta):
    basis = random_basis(seed, m, m + more, 1000) if size > 1000 else random_basis(seed, m, m + more, size)
    basis[0] = [value * (size // 2) for value in basis[0]]
    assume(flint_matrix(basis).rank() == m)
    found = lll_reduce_with_transform(basis, delta)
    assert reduced_by_definition(found.basis, delta) == (True, True)
    assert abs(flint_matrix(found.transform).det()) == 1
    np.testing.assert_array_equal(exact_product(found.transform, basis), found.basis)
    assert same_lattice(basis, found.basis)
    assert found.swaps <= most_swaps(basis, delta) + 1e-6


@pytest.mark.parametrize(
    "basis",
    [
        random_basis(1, 20, 20, 1000),
        random_basis(2, 12, 18, 2**40),
        dual(3, 20, 2**20),
        knapsack(4, 15, 120),
        np.eye(9, dtype=int)[::-1].tolist(),
    ],
    ids=["square", "wide", "congruences", "knapsack", "permutation"],
)
def test_against_flint(basis):
    ours = lll_reduce_with_transform(basis)
    theirs = flint_matrix(basis).lll(delta=0.75, eta=0.500001)
    assert flint_matrix(ours.basis).hnf() == theirs.hnf() == flint_matrix(basis).hnf()
    assert flint_matrix(ours.transform) * flint_matrix(basis) == flint_matrix(ours.basis)
    assert is_size_reduced(ours.basis) and satisfies_lovasz(ours.basis)
    their_rows = [[int(value) for value in row] for row in theirs.tolist()]
    assert is_size_reduced(their_rows, 1e-5) and satisfies_lovasz(their_rows, 0.75, 1e-5)
    # Both are reduced bases of one lattice, so that their defects agree to within what delta leaves open: far less
    # than the bound of the theorem, and far less than what was removed.
    m = len(basis)
    ours_defect, their_defect = log_orthogonality_defect(ours.basis), log_orthogonality_defect(their_rows)
    before = log_orthogonality_defect(basis)
    assert abs(ours_defect - their_defect) <= 0.15 * m
    assert max(ours_defect, their_defect) <= min(before + 0.2 * m, m * (m - 1) / 4 * math.log(2))


@few
@given(seeds, st.integers(1, 8), st.integers(0, 3), deltas)
def test_floats_are_reduced_within_the_promise(seed, m, more, delta):
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((m, m + more)) * 10.0 ** rng.integers(-3, 4, (m, 1))
    found = lll_reduce_with_transform(basis, delta)
    assert found.basis.dtype == np.float64
    assert reduced_by_definition(found.basis, delta, FLOAT_TOLERANCE) == (True, True)
    assert abs(flint_matrix(found.transform).det()) == 1
    exact = exact_product(found.transform, [[Fraction(value) for value in row] for row in basis.tolist()])
    np.testing.assert_array_equal(found.basis, exact.astype(np.float64))


def test_whole_floats_give_what_integers_give_as_a_lattice():
    basis = random_basis(5, 10, 10, 100)
    floats = lll_reduce(np.array(basis, dtype=float))
    assert floats.dtype == np.float64
    assert same_lattice(floats.astype(int), basis)
    np.testing.assert_array_equal(lll_reduce(np.array(basis, dtype=float) / 8), floats / 8)


def test_floats_in_dimension_thirty():
    basis = np.random.default_rng(6).standard_normal((30, 30))
    found = lll_reduce_with_transform(basis)
    assert is_size_reduced(found.basis, FLOAT_TOLERANCE)
    assert satisfies_lovasz(found.basis, 0.75, FLOAT_TOLERANCE)
    assert abs(flint_matrix(found.transform).det()) == 1
    # Embeddings as they are initialised have rows that are nearly orthogonal already.
    assert log_orthogonality_defect(found.basis) < 30 * 29 / 4 * math.log(2)


@pytest.fixture
def rounds(monkeypatch):
    """The rounds in float64, as they are done."""
    done = []
    one = reduction._float_round
    monkeypatch.setattr(reduction, "_float_round", lambda *args: done.append(one(*args)) or done[-1])
    return done


def test_one_round_does_the_work_and_another_finds_nothing_to_do(rounds):
    found = lll_reduce_with_transform(np.random.default_rng(8).standard_normal((15, 15)))
    # More rounds would mean that the coefficients kept beside the rows had gone astray.
    assert [(done.transform is None, done.settled) for done in rounds] == [(False, False), (True, True)]
    assert found.swaps == rounds[0].swaps > 15


def test_rows_that_float64_cannot_resolve_go_to_the_exact_algorithm(monkeypatch):
    called = []
    exact = reduction._reduce_exactly
    monkeypatch.setattr(reduction, "_reduce_exactly", lambda *args: called.append(1) or exact(*args))
    lll_reduce(np.random.default_rng(7).standard_normal((5, 5)))
    assert not called
    scales = np.array([[1e-200, 0.0, 0.0], [1e150, 1e151, 3.0], [0.0, 0.0, 1e-300]])
    found = lll_reduce_with_transform(scales)
    assert called
    assert reduced_by_definition(found.basis, 0.75, 1e-15) == (True, True)


def test_multiples_beyond_the_whole_numbers_of_float64_go_there_too():
    found = lll_reduce_with_transform([[1e-20, 0.0], [1e5, 1e-3]])
    assert max(abs(int(value)) for value in found.transform.flat) > 2**80
    assert abs(flint_matrix(found.transform).det()) == 1
    assert reduced_by_definition(found.basis, 0.75, 1e-15) == (True, True)


def test_swaps_are_counted():
    for basis, swaps in (
        ([[1, 0], [0, 2]], 0),
        ([[2, 0], [0, 1]], 1),
        ([[3, 0, 0], [0, 2, 0], [0, 0, 1]], 3),
    ):
        assert lll_reduce_with_transform(basis).swaps == swaps
        assert lll_reduce_with_transform(np.array(basis, dtype=float)).swaps == swaps


def test_floats_far_from_reduced_take_several_rounds(rounds):
    # mu is 2^49 at first, so that its fraction has no bits left: what is to do is seen when it is taken afresh.
    basis = np.array([[1.0, 0.0, 2.0**-20], [2.0**49 + 1.0, 1.0, 0.0], [3.0 * 2.0**44, 5.0, 1.0]])
    found = lll_reduce_with_transform(basis)
    assert reduced_by_definition(found.basis, 0.75, FLOAT_TOLERANCE) == (True, True)
    assert [(done.transform is None, done.settled) for done in rounds] == [
        (False, False),
        (False, False),
        (True, True),
    ]
    both = exact_product(rounds[1].transform, rounds[0].transform)
    np.testing.assert_array_equal(found.transform, both)


@pytest.mark.parametrize(
    "basis",
    [
        [[1, 0], [0, 1]],
        [[0, 1], [1, 0]],
        [[1, 10**9], [0, 1]],
        [[10**100, 1], [10**100 + 1, 1]],
        [[1, 1], [1, 2]],
        [[2**63, 1], [-(2**63), 1]],
        [[47, 215], [95, 460]],
        [[1, 2**200], [2**200, -1]],
        [[317811, 196418], [196418, 121393]],
        [[-1, 0], [10**18, -1]],
    ],
)
def test_nasty_bases_of_two_rows_return(basis):
    found = lll_reduce_with_transform(basis)
    assert reduced_by_definition(found.basis, 0.75) == (True, True)
    assert same_lattice(basis, found.basis)
    assert found.swaps <= most_swaps(basis) + 1e-9


@few
@given(st.lists(st.integers(-(10**40), 10**40), min_size=4, max_size=4))
def test_any_basis_of_two_rows_returns_and_strict_delta_finds_the_shortest_vectors(entries):
    a, b, c, d = entries
    assume(a * d != b * c)
    basis = [[a, b], [c, d]]
    loose = lll_reduce_with_transform(basis)
    assert reduced_by_definition(loose.basis, 0.75) == (True, True)
    assert loose.swaps <= most_swaps(basis) + 1e-6
    u, v = (np.array(row, dtype=object) for row in lll_reduce(basis, 1.0).tolist())
    # Lagrange's criterion: |u| <= |v| <= |v + u|, |v - u| says that u and v are the two successive minima.
    assert u @ u <= v @ v <= min((v + u) @ (v + u), (v - u) @ (v - u))


@few
@given(seeds, st.integers(2, 3))
def test_the_first_vector_is_as_short_as_the_theorem_says(seed, m):
    basis = random_basis(seed, m, m, 30)
    assume(flint_matrix(basis).rank() == m)
    reduced = lll_reduce(basis)
    shortest = min(
        sum(value**2 for value in np.array(weights) @ reduced)
        for weights in itertools.product(range(-3, 4), repeat=m)
        if any(weights)
    )
    assert reduced[0] @ reduced[0] <= 2 ** (m - 1) * shortest


@few
@given(seeds, st.integers(2, 6))
def test_the_bound_on_swaps_is_the_product_of_gram_determinants(seed, m):
    basis = random_basis(seed, m, m + 1, 100)
    assume(flint_matrix(basis).rank() == m)
    rows = flint_matrix(basis)
    gram = rows * rows.transpose()
    minors = [fmpz_mat([[gram[i, j] for j in range(k)] for i in range(k)]).det() for k in range(1, m)]
    assert most_swaps(basis) == pytest.approx(
        sum(math.log(int(value)) for value in minors) / math.log(4 / 3), abs=1e-9
    )
    assert most_swaps(basis, 1) == math.inf


@few
@given(seeds, st.integers(1, 6))
def test_the_checks_say_what_the_definition_says(seed, m):
    basis = random_basis(seed, m, m, 3)
    assume(flint_matrix(basis).rank() == m)
    assert (is_size_reduced(basis), satisfies_lovasz(basis)) == reduced_by_definition(basis, Fraction(3, 4))


def test_the_checks_at_the_boundary_and_their_tolerance():
    assert is_size_reduced([[2, 0], [1, 5]])
    assert not is_size_reduced([[200, 0], [101, 500]])
    assert is_size_reduced([[200, 0], [101, 500]], 0.005)
    assert not is_size_reduced([[200, 0], [101, 500]], 0.0049)
    # |b*_1|² = 3 and (3/4 - 0) 4 = 3.
    assert satisfies_lovasz([[2, 0, 0, 0], [0, 1, 1, 1]], 0.75)
    assert not satisfies_lovasz([[2, 0, 0, 0], [0, 1, 1, 1]], 0.76)
    assert satisfies_lovasz([[2, 0, 0, 0], [0, 1, 1, 1]], 0.76, 0.02)


@few
@given(seeds, st.integers(1, 6), st.integers(0, 2))
def test_the_determinant_is_that_of_flint_and_an_invariant(seed, m, more):
    basis = random_basis(seed, m, m + more, 1000)
    rows = flint_matrix(basis)
    assume(rows.rank() == m)
    gram = int((rows * rows.transpose()).det())
    value = lattice_determinant(basis)
    if more == 0:
        assert isinstance(value, int) and value == abs(int(rows.det()))
    else:
        assert value == pytest.approx(math.sqrt(gram), rel=1e-14)
    assert lattice_determinant(lll_reduce(basis)) == pytest.approx(value, rel=1e-14)
    in_eighths = lattice_determinant(np.array(basis) / 8)
    assert in_eighths == pytest.approx(math.sqrt(gram) / 8**m, rel=1e-14)


def test_determinants_at_the_ends_of_float64():
    assert lattice_determinant([[10**200, 0], [0, 10**200]]) == 10**400
    assert lattice_determinant([[1e-100, 0.0], [0.0, 1e-100]]) == pytest.approx(1e-200, rel=1e-14)
    with pytest.raises(OverflowError):
        lattice_determinant([[1e200, 0.0], [0.0, 1e200]])
    with pytest.raises(OverflowError, match="below the smallest float64"):
        lattice_determinant([[1e-200, 0.0], [0.0, 1e-200]])


def test_the_defect_is_zero_for_orthogonal_rows_and_positive_otherwise():
    assert log_orthogonality_defect([[3, 0, 0], [0, 0, 7]]) == pytest.approx(0.0, abs=1e-14)
    # Lengths 1 and sqrt 2, determinant 1.
    assert log_orthogonality_defect([[1, 0], [1, 1]]) == pytest.approx(0.5 * math.log(2))


@few
@given(seeds, st.integers(1, 8))
def test_the_inverse_of_a_unimodular_matrix(seed, m):
    rng = np.random.default_rng(seed)
    lower = np.tril(rng.integers(-5, 6, (m, m)), -1) + np.diag(rng.choice([-1, 1], m))
    upper = np.triu(rng.integers(-5, 6, (m, m)), 1) + np.eye(m, dtype=int)
    u = rng.permutation(lower @ upper)
    np.testing.assert_array_equal(exact_product(unimodular_inverse(u), u), np.eye(m))


def test_types_of_numbers_in_and_out():
    assert lll_reduce([[1, 0], [0, 1]]).dtype == np.int64
    large = lll_reduce([[2**70, 0], [0, 2**70]])
    assert large.dtype == object and large[0, 0] == 2**70
    assert lll_reduce(np.array([[2**63, 0], [0, 1]], dtype=np.uint64)).tolist() == [[0, 1], [2**63, 0]]
    assert lll_reduce(np.eye(2, dtype=np.float32)).dtype == np.float64
    assert lll_reduce([[1, 0.5], [0, 1]]).dtype == np.float64
    # NumPy would make floats of this list, which lose the 1.
    assert lattice_determinant([[2**63 + 1, 0], [0, -1]]) == 2**63 + 1


def test_the_basis_is_left_as_it_was():
    for basis in (np.array([[5, 3], [8, 5]]), np.array([[5.5, 3.0], [8.0, 5.0]])):
        before = basis.copy()
        reduced = lll_reduce(basis)
        reduced += 1
        np.testing.assert_array_equal(basis, before)


@pytest.mark.parametrize(
    "function",
    [
        lll_reduce,
        is_size_reduced,
        satisfies_lovasz,
        lattice_determinant,
        log_orthogonality_defect,
        most_swaps,
    ],
)
def test_bad_bases_are_refused(function):
    for bad in ([1, 2], [[1, 2], [3, 4], [5, 6]], [], [[]], [[1, 2], [3]], 5):
        with pytest.raises(ValueError, match=r"basis must have shape \(m, n\) with 1 <= m <= n"):
            function(bad)
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="basis must be finite"):
            function([[1.0, bad], [0.0, 1.0]])
    for bad in ([["1", 2], [3, 4]], [[True, False], [False, True]], [[1j, 0], [0, 1]], [[None, 1], [1, 1]]):
        with pytest.raises(TypeError, match="basis must hold integers or floats"):
            function(bad)
    with pytest.raises(ValueError, match=r"got 3 rows, of which row 2 is a combination of those before it"):
        function([[1, 2, 3], [4, 5, 6], [5, 7, 9]])
    with pytest.raises(ValueError, match="of which row 0"):
        function([[0, 0], [1, 1]])
    # 0.3 is not three times 0.1 in binary, yet nobody means a lattice with so short a vector.
    for dependent in ([[0.1, 0.2], [0.3, 0.6]], [[0.0, 0.0], [1.0, 2.0]], [[1.0, 1e17], [0.0, 1.0]]):
        with pytest.raises(ValueError, match="these floats are dependent to working precision"):
            function(dependent)


@pytest.mark.parametrize("function", [lll_reduce, lll_reduce_with_transform, satisfies_lovasz, most_swaps])
def test_bad_deltas_are_refused(function):
    for bad in (0.25, 0.0, -1.0, 1.0001, math.nan, math.inf, Fraction(1, 4)):
        with pytest.raises(ValueError, match=r"delta must lie in \(1/4, 1\], got"):
            function([[1, 0], [0, 1]], bad)
    for bad in ("0.75", True, None):
        with pytest.raises(TypeError, match="delta must be a number"):
            function([[1, 0], [0, 1]], bad)


def test_bad_tolerances_and_transforms_are_refused():
    for bad in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="tolerance must be finite and at least 0"):
            is_size_reduced([[1]], bad)
    with pytest.raises(TypeError, match="tolerance must be a number"):
        satisfies_lovasz([[1]], 0.75, "small")
    with pytest.raises(ValueError, match="transform must be square"):
        unimodular_inverse([[1, 0]])
    with pytest.raises(TypeError, match="transform must hold integers, got floats"):
        unimodular_inverse([[1.0]])
    with pytest.raises(ValueError, match="determinant 1 or -1, got 2 but for the sign"):
        unimodular_inverse([[0, 1], [2, 0]])
    with pytest.raises(ValueError, match="determinant 1 or -1, got 0"):
        unimodular_inverse([[1, 2], [2, 4]])
