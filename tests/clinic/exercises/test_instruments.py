"""The exercise on the summary of a gradient: its answer is the probe's, and every mistake is named."""

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic import four_tests
from cllm_lab.clinic.exercises import EXERCISES, check_exercise
from cllm_lab.clinic.exercises.instruments import GRADIENT_SUMMARY, gradient_summary
from cllm_lab.clinic.judging import Mistake
from cllm_lab.faults import instruments

EACH_MISTAKE = pytest.mark.parametrize(
    "mistake", GRADIENT_SUMMARY.mistakes, ids=lambda mistake: mistake.message[:40]
)


def test_it_is_registered() -> None:
    assert EXERCISES["gradient-summary"] is GRADIENT_SUMMARY


def test_the_answer_by_hand() -> None:
    gradient = np.array([[0.0, 0.0], [np.nan, 0.25], [-0.5, np.inf], [1e-30, 0.0], [-0.0, 0.0]])
    assert gradient_summary(gradient) == (0.5, 2, 2)


def test_the_answer_is_that_of_test_1() -> None:
    for (gradient,) in GRADIENT_SUMMARY.cases():
        probe = four_tests._magnitude("w", gradient)
        assert gradient_summary(gradient) == (probe.largest, probe.zero_rows, probe.not_finite)


def test_the_instruments_of_the_catalogue_are_fooled_at_every_case() -> None:
    for (gradient,) in GRADIENT_SUMMARY.cases():
        assert np.isnan(gradient).any() and not np.isnan(instruments.counted(gradient)).any()
        assert np.isfinite(gradient[: instruments.FIRST_ROWS]).all() and not gradient[0].any()


def test_the_answer_on_a_machine_finds_the_rows_of_tokens_that_were_not_read() -> None:
    config = lab.ModelConfig(vocab_size=9, context_length=4, d_model=8, n_heads=2, n_layers=1, tied=False)
    model = lab.Transformer(config, seed=0)
    _, grads = model.gradients([[1, 2, 3, 3]], [[2, 3, 3, 4]])
    assert gradient_summary(grads["token_embedding"])[1:] == (6, 0)


@EACH_MISTAKE
def test_each_mistake_is_named(mistake: Mistake) -> None:
    def mistaken(gradient: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple({**GRADIENT_SUMMARY.answer((gradient,)), **mistake.outputs(gradient)}.values())

    verdict = check_exercise("gradient-summary", mistaken)
    assert verdict.outcome == "FAIL"
    assert mistake.message in verdict.message


def test_no_two_mistakes_look_alike() -> None:
    for case in GRADIENT_SUMMARY.cases():
        for name in GRADIENT_SUMMARY.returns:
            values = [
                float(m.outputs(*case)[name])
                for m in GRADIENT_SUMMARY.mistakes[2:]
                if name in m.outputs(*case)
            ]
            assert len(set(map(str, values))) == len(values)


def test_nothing_written_is_not_attempted() -> None:
    assert check_exercise("gradient-summary", lambda gradient: None).outcome == "NOT ATTEMPTED"
