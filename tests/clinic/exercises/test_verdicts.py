"""The exercise on the worth of a test: the answer against every suspect taken for the truth, each mistake named."""

import numpy as np
import pytest

from cllm_lab.clinic.exercises import EXERCISES, check_exercise
from cllm_lab.clinic.exercises.verdicts import WORTH_OF_TESTS, order_of_tests, worth_of_tests
from cllm_lab.clinic.judging import Mistake


def by_trying(red: np.ndarray, left: np.ndarray, seconds: np.ndarray) -> list[float]:
    """Every suspect left is the truth once: who of the others would have answered otherwise?"""
    suspects = np.flatnonzero(left)
    worth = []
    for test, time in enumerate(seconds):
        ruled_out = [sum(red[other, test] != red[truth, test] for other in suspects) for truth in suspects]
        worth.append(float(np.mean(ruled_out)) / time)
    return worth


def test_it_is_registered() -> None:
    assert EXERCISES["worth-of-tests"] is WORTH_OF_TESTS


@pytest.mark.parametrize("seed", range(4))
def test_the_answer_is_the_mean_over_all_truths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    red = rng.integers(0, 2, (8, 5)).astype(float)
    left = np.array([1.0, 1, 0, 1, 1, 0, 1, 1])
    seconds = rng.uniform(0.1, 3.0, 5)
    np.testing.assert_allclose(worth_of_tests(red, left, seconds), by_trying(red, left, seconds), rtol=1e-14)


def test_the_cases_differ_in_shape_and_leave_some_out() -> None:
    cases = WORTH_OF_TESTS.cases()
    assert len({red.shape for red, _, _ in cases}) == len(cases)
    for (red, left, seconds), again in zip(cases, WORTH_OF_TESTS.cases(), strict=True):
        assert 0 < left.sum() < len(left) == len(red) and red.shape[1] == len(seconds)
        assert (worth_of_tests(red, left, seconds) > 0.0).all()
        for array, same in zip((red, left, seconds), again, strict=True):
            np.testing.assert_array_equal(array, same)


@pytest.mark.parametrize("mistake", WORTH_OF_TESTS.mistakes, ids=lambda mistake: mistake.message[:40])
def test_each_mistake_is_named(mistake: Mistake) -> None:
    verdict = check_exercise("worth-of-tests", lambda *case: mistake.outputs(*case)["worth"])
    assert verdict.outcome == "FAIL"
    assert mistake.message in verdict.message


def test_the_answer_passes_and_nothing_is_not_attempted() -> None:
    assert check_exercise("worth-of-tests", worth_of_tests).passed
    assert check_exercise("worth-of-tests", lambda red, left, seconds: None).outcome == "NOT ATTEMPTED"


def test_the_order_on_paper() -> None:
    # Five suspects, the last of them sound. Test 0 halves them best, but is slow; test 2 repeats test 1.
    red = np.array([[1.0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert order_of_tests(red, np.array([10.0, 1.0, 1.0, 1.0])) == [1, 3, 0]
    # At one price the first rules out 2.4 of five in the mean, the others 1.6; then test 1 and 2 are spent.
    assert order_of_tests(red, np.ones(4)) == [0, 3]


def test_a_test_that_is_red_for_all_or_none_is_never_made() -> None:
    assert order_of_tests(np.array([[1.0, 0.0], [1.0, 0.0]]), np.ones(2)) == []
