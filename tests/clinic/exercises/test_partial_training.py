"""The exercise on Adam's two epsilons: its answer is what the optimizers do, and every mistake is named."""

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.exercises import EXERCISES, check_exercise
from cllm_lab.clinic.exercises.partial_training import ADAM_TWO_EPSILONS, adam_two_epsilons
from cllm_lab.clinic.judging import Mistake
from cllm_lab.training.optimizers import REFERENCE

EACH_MISTAKE = pytest.mark.parametrize(
    "mistake", ADAM_TWO_EPSILONS.mistakes, ids=lambda mistake: mistake.message[:40]
)


def test_it_is_registered() -> None:
    assert EXERCISES["adam-two-epsilons"] is ADAM_TWO_EPSILONS


@pytest.mark.parametrize(("place", "name"), [(0, "adam"), (1, "adam-epsilon-hat")])
def test_the_answer_is_what_the_optimizer_does(place: int, name: str) -> None:
    rng = np.random.default_rng(3)
    optimizer, config = REFERENCE[name], lab.TrainConfig(optimizer=name)
    moments = {moment: np.zeros(6) for moment in optimizer.moments}
    for t in range(1, 6):
        p = np.zeros(6)
        optimizer.update(p, 1e-7 * rng.standard_normal(6), moments, 1.0, t, 1.0, config)
        change = adam_two_epsilons(moments["first"], moments["second"], t)[place]
        np.testing.assert_allclose(change, p, rtol=1e-12)


def test_the_two_differ_most_where_gradients_are_small() -> None:
    g = np.array([1e-8, 1e-3])
    inside, outside = adam_two_epsilons(0.1 * g, 0.001 * g**2, 1)
    # By hand at step 1: g / (g + eps), and g / (g + eps / sqrt(1 - b2)).
    np.testing.assert_allclose(inside, [-0.5, -1.0 / (1.0 + 1e-5)], rtol=1e-12)
    np.testing.assert_allclose(outside, -g / (g + 1e-8 / np.sqrt(0.001)), rtol=1e-12)


def test_the_cases_tell_the_two_forms_apart_everywhere() -> None:
    cases = ADAM_TWO_EPSILONS.cases()
    assert [int(t) for _, _, t in cases] == [1, 2, 7, 40]
    for case in cases:
        inside, outside = adam_two_epsilons(*case)
        assert np.all(np.abs(inside - outside) > 1e-3)
        assert inside.min() < 0.0 < inside.max()


@EACH_MISTAKE
def test_each_mistake_is_named(mistake: Mistake) -> None:
    def mistaken(m: np.ndarray, v: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple({**ADAM_TWO_EPSILONS.answer((m, v, t)), **mistake.outputs(m, v, t)}.values())

    verdict = check_exercise("adam-two-epsilons", mistaken)
    assert verdict.outcome == "FAIL"
    assert mistake.message in verdict.message


def test_nothing_written_is_not_attempted() -> None:
    assert check_exercise("adam-two-epsilons", lambda m, v, t: None).outcome == "NOT ATTEMPTED"
