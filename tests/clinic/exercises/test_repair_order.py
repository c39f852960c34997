"""The exercise on the effects of repairs: its answer on a table by hand, and every mistake is named."""

import numpy as np
import pytest

from cllm_lab.clinic.exercises import EXERCISES, check_exercise
from cllm_lab.clinic.exercises.repair_order import REPAIR_EFFECTS, repair_effects
from cllm_lab.clinic.judging import Mistake

EACH_MISTAKE = pytest.mark.parametrize(
    "mistake", REPAIR_EFFECTS.mistakes, ids=lambda mistake: mistake.message[:40]
)


def test_it_is_registered() -> None:
    assert EXERCISES["repair-effects"] is REPAIR_EFFECTS


def test_the_answer_by_hand() -> None:
    # Attention (axis 0) does nothing until the weights (axis 1) are real.
    alone, left_out = repair_effects(np.array([[6.0, 5.0], [6.0, 2.0]]))
    np.testing.assert_array_equal(alone, [0.0, 1.0])
    np.testing.assert_array_equal(left_out, [3.0, 4.0])


def test_repairs_whose_effects_add_up_are_worth_the_same_in_both_machines() -> None:
    gains = np.array([0.5, 1.25, -0.25, 2.0])
    losses = 9.0 - np.array([np.dot(gains, place) for place in np.ndindex((2,) * 4)]).reshape((2,) * 4)
    for found in repair_effects(losses):
        np.testing.assert_allclose(found, gains, atol=1e-14)


def test_every_case_is_a_table_of_another_number_of_repairs_with_one_that_does_nothing_alone() -> None:
    cases = REPAIR_EFFECTS.cases()
    assert len({losses.ndim for (losses,) in cases}) == len(cases) >= 2
    for (losses,) in cases:
        assert losses.shape == (2,) * losses.ndim
        alone, left_out = repair_effects(losses)
        assert alone[0] == 0.0 and alone[1:].all() and left_out.all()


@EACH_MISTAKE
def test_each_mistake_is_named(mistake: Mistake) -> None:
    def mistaken(losses: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(mistake.outputs(losses).values())

    verdict = check_exercise("repair-effects", mistaken)
    assert verdict.outcome == "FAIL"
    assert mistake.message in verdict.message


def test_the_right_answer_passes_and_nothing_written_is_not_attempted() -> None:
    assert check_exercise("repair-effects", repair_effects).passed
    assert check_exercise("repair-effects", lambda losses: None).outcome == "NOT ATTEMPTED"
