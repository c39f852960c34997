"""The exercise on standing still: its counts are those of real machines, and every mistake is named."""

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.exercises import EXERCISES, check_exercise
from cllm_lab.clinic.exercises.fixed_point import FIXED_POINT, fixed_point_test
from cllm_lab.clinic.judging import Mistake
from tests.training.machines import TEXT, a_batch

EACH_MISTAKE = pytest.mark.parametrize(
    "mistake", FIXED_POINT.mistakes, ids=lambda mistake: mistake.message[:40]
)


def test_it_is_registered() -> None:
    assert EXERCISES["fixed-point-test"] is FIXED_POINT


def test_the_answer_by_hand() -> None:
    gradient = np.array([[0.0, -1e-30], [2.0, 0.0]])
    before = np.array([[1.0, 2.0], [3.0, 4.0]])
    after = np.array([[1.0, 2.0], [np.nextafter(3.0, 4.0), -4.0]])
    assert fixed_point_test(gradient, before, after) == (2.0, 2.0)
    assert fixed_point_test(0.0 * gradient, before, before.copy()) == (0.0, 0.0)


@pytest.mark.parametrize(("faults", "still"), [(["zero-init"], True), ([], False)])
def test_the_answer_on_machines(faults: list[str], still: bool) -> None:
    config = lab.ModelConfig(vocab_size=TEXT.vocab_size, context_length=8, d_model=16, n_heads=2)
    trainer = lab.Trainer(
        lab.Transformer(config), TEXT, lab.TrainConfig(batch_size=2, sequence_length=8), faults
    )
    batch = a_batch(trainer)
    _, grads = trainer.gradients(*batch)
    before = trainer.params.flat.copy()
    trainer.step(*batch)
    counts = fixed_point_test(grads.flat, before, trainer.params.flat)
    assert (counts == (0.0, 0.0)) is still
    if not still:
        assert counts == (np.count_nonzero(grads.flat), np.sum(before != trainer.params.flat))


def test_every_case_has_entries_that_are_easily_missed() -> None:
    cases = FIXED_POINT.cases()
    assert len({gradient.shape for gradient, _, _ in cases}) == len(cases) >= 2
    for gradient, before, after in cases:
        assert 0 < np.count_nonzero(gradient) < gradient.size / 2
        assert 0 < np.sum(before != after) < gradient.size / 2


@EACH_MISTAKE
def test_each_mistake_is_named(mistake: Mistake) -> None:
    def mistaken(gradient: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(mistake.outputs(gradient, before, after).values())

    verdict = check_exercise("fixed-point-test", mistaken)
    assert verdict.outcome == "FAIL"
    assert verdict.message == f"nonzero, changed: {mistake.message}"


def test_whole_numbers_pass_and_nothing_written_is_not_attempted() -> None:
    def counted(gradient: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
        return np.count_nonzero(gradient), np.count_nonzero(before - after)

    assert check_exercise("fixed-point-test", counted).passed
    assert check_exercise("fixed-point-test", lambda gradient, before, after: None).outcome == "NOT ATTEMPTED"
