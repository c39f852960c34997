"""The exercise on size reduction: its answer is short, in the lattice, and the library's; every mistake is named."""

import numpy as np
import pytest

from cllm_lab.clinic.exercises import EXERCISES, check_exercise
from cllm_lab.clinic.exercises.size_reduction import SIZE_REDUCTION, size_reduce
from cllm_lab.clinic.judging import Mistake
from cllm_lab.lattice.reduction import is_size_reduced, lattice_determinant, lll_reduce

EACH_MISTAKE = pytest.mark.parametrize(
    "mistake", SIZE_REDUCTION.mistakes, ids=lambda mistake: mistake.message[:40]
)


def test_it_is_registered() -> None:
    assert EXERCISES["size-reduction"] is SIZE_REDUCTION


def test_the_cases_are_far_from_reduced_and_no_share_is_near_a_tie() -> None:
    for basis, star in SIZE_REDUCTION.cases():
        assert np.array_equal(basis, basis.round())
        gram = star @ star.T
        assert np.allclose(gram, np.diag(np.diag(gram)), atol=1e-9)
        # The same spans: b*_i differs from b_i by what the rows before it hold.
        assert np.linalg.matrix_rank(np.vstack([basis, star])) == len(basis)
        row = basis[-1]
        for j in reversed(range(len(basis) - 1)):
            mu = row @ star[j] / (star[j] @ star[j])
            assert abs(mu - np.floor(mu) - 0.5) > 1e-3
            row = row - np.round(mu) * basis[j]
        mu = basis[-1] @ star[:-1].T / (star[:-1] ** 2).sum(axis=1)
        assert np.abs(mu).max() > 2.0


def test_the_answer_is_short_and_in_the_lattice() -> None:
    for basis, star in SIZE_REDUCTION.cases():
        row = size_reduce(basis, star)
        mu = row @ star[:-1].T / (star[:-1] ** 2).sum(axis=1)
        assert np.abs(mu).max() <= 0.5
        reduced = np.vstack([basis[:-1], row]).astype(np.int64)
        assert lattice_determinant(reduced) == pytest.approx(lattice_determinant(basis.astype(np.int64)))
        assert np.array_equal(lll_reduce(reduced[:-1]), lll_reduce(basis[:-1].astype(np.int64)))
        change = np.linalg.lstsq(basis.T, row, rcond=None)[0]
        assert change == pytest.approx(change.round(), abs=1e-9)
        assert change[-1] == pytest.approx(1.0)


def named(words: str) -> Mistake:
    (mistake,) = [mistake for mistake in SIZE_REDUCTION.mistakes if mistake.message.startswith(words)]
    return mistake


def test_without_rounding_the_row_is_its_gram_schmidt_vector_and_not_in_the_lattice() -> None:
    unrounded = named("the multiple was not rounded")
    for basis, star in SIZE_REDUCTION.cases():
        row = unrounded.outputs(basis, star)["row"]
        assert row == pytest.approx(star[-1])
        assert not np.allclose(row, row.round(), atol=1e-6)


def test_sign_and_last_row_as_they_are_commonly_written() -> None:
    def added(basis: np.ndarray, star: np.ndarray) -> np.ndarray:
        row = basis[-1].copy()
        for j in range(len(basis) - 2, -1, -1):
            row += np.round(row @ star[j] / (star[j] @ star[j])) * basis[j]
        return row

    def stopped(basis: np.ndarray, star: np.ndarray) -> np.ndarray:
        row = basis[-1].copy()
        for j in range(len(basis) - 2, 0, -1):
            row -= np.round(row @ star[j] / (star[j] @ star[j])) * basis[j]
        return row

    assert "the multiples were added" in str(check_exercise("size-reduction", added))
    assert "row 0 was left out" in str(check_exercise("size-reduction", stopped))


def test_rows_that_are_reduced_one_after_another_make_a_size_reduced_basis() -> None:
    basis, star = SIZE_REDUCTION.cases()[1]
    reduced = basis.copy()
    for i in range(1, len(basis)):
        reduced[i] = size_reduce(reduced[: i + 1], star[: i + 1])
    assert not is_size_reduced(basis.astype(np.int64))
    assert is_size_reduced(reduced.astype(np.int64))


@EACH_MISTAKE
def test_each_mistake_is_named(mistake: Mistake) -> None:
    verdict = check_exercise("size-reduction", lambda basis, star: mistake.outputs(basis, star)["row"])
    assert str(verdict) == f"FAIL: row: {mistake.message}"


def test_the_right_answer_passes_and_nothing_written_is_not_attempted() -> None:
    assert check_exercise("size-reduction", size_reduce).passed
    assert check_exercise("size-reduction", lambda basis, star: None).outcome == "NOT ATTEMPTED"
