"""The exercise on the squared error: its answer is what differences measure, and every mistake is named."""

import numpy as np
import pytest

from cllm_lab.clinic.exercises import EXERCISES, check_exercise
from cllm_lab.clinic.exercises.other_loss import SQUARED_ERROR, squared_error_backward
from cllm_lab.clinic.finite_differences import central_differences
from cllm_lab.clinic.judging import Mistake

EACH_MISTAKE = pytest.mark.parametrize(
    "mistake", SQUARED_ERROR.mistakes, ids=lambda mistake: mistake.message[:40]
)


def loss(hidden: np.ndarray, embedding: np.ndarray, targets: np.ndarray) -> float:
    return float(np.mean([np.sum((h - embedding[y]) ** 2) for h, y in zip(hidden, targets, strict=True)]))


def test_it_is_registered() -> None:
    assert EXERCISES["squared-error-backward"] is SQUARED_ERROR


@pytest.mark.parametrize("case", SQUARED_ERROR.cases(), ids=lambda case: str(case[0].shape))
def test_the_answer_is_what_differences_measure(case: tuple[np.ndarray, ...]) -> None:
    hidden, embedding, targets = case
    dhidden, dembedding = squared_error_backward(*case)
    np.testing.assert_allclose(
        dhidden, central_differences(lambda h: loss(h, embedding, targets), hidden), atol=1e-8
    )
    np.testing.assert_allclose(
        dembedding, central_differences(lambda E: loss(hidden, E, targets), embedding), atol=1e-8
    )


def test_every_case_has_a_target_twice_and_one_never() -> None:
    for hidden, embedding, targets in SQUARED_ERROR.cases():
        counts = np.bincount(targets, minlength=len(embedding))
        assert counts.max() > 1
        assert counts.min() == 0
        assert len({len(hidden), len(embedding), hidden.shape[1]}) == 3


@EACH_MISTAKE
def test_each_mistake_is_named(mistake: Mistake) -> None:
    def mistaken(*case: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple({**SQUARED_ERROR.answer(case), **mistake.outputs(*case)}.values())

    verdict = check_exercise(
        "squared-error-backward", lambda hidden, embedding, targets: mistaken(hidden, embedding, targets)
    )
    assert verdict.outcome == "FAIL"
    assert mistake.message in verdict.message


def test_nothing_written_is_not_attempted() -> None:
    found = check_exercise("squared-error-backward", lambda hidden, embedding, targets: None)
    assert found.outcome == "NOT ATTEMPTED"
