"""The exercise on causal weights: its answer is that of the engine's softmax, and every mistake is named."""

import numpy as np
import pytest
from scipy.special import softmax

import cllm_lab as lab
from cllm_lab.clinic.exercises import EXERCISES, check_exercise
from cllm_lab.clinic.exercises.attention_weights import CAUSAL_WEIGHTS, causal_weights
from cllm_lab.clinic.judging import Mistake
from tests.clinic.subjects import batch_for, trainer

EACH_MISTAKE = pytest.mark.parametrize(
    "mistake", CAUSAL_WEIGHTS.mistakes, ids=lambda mistake: mistake.message[:40]
)


def test_it_is_registered() -> None:
    assert EXERCISES["causal-weights"] is CAUSAL_WEIGHTS


def test_the_answer_is_a_softmax_of_each_row_cut_off() -> None:
    for (scores,) in CAUSAL_WEIGHTS.cases():
        weights = causal_weights(scores)
        for i, row in enumerate(scores):
            np.testing.assert_allclose(weights[i, : i + 1], softmax(row[: i + 1]), rtol=1e-12)
            assert not weights[i, i + 1 :].any()


def test_the_answer_is_that_of_the_engine() -> None:
    subject = trainer()
    acts = subject.forward(batch_for(subject)[0])
    scores, weights = (acts[f"layers.0.attention.{name}"][0, 1] for name in ("scores", "weights"))
    np.testing.assert_allclose(causal_weights(scores), weights, rtol=1e-12, atol=0.0)


def test_the_mistaken_exponential_is_that_of_the_catalogue() -> None:
    (mistake,) = [each for each in CAUSAL_WEIGHTS.mistakes if "1 + x" in each.message]
    model = trainer().model.swapped(**lab.faults.catalogue()["signed-exp-softmax"].swaps)
    acts = model.forward(batch_for(trainer())[0])
    scores, weights = (acts[f"layers.0.attention.{name}"][0, 1] for name in ("scores", "weights"))
    np.testing.assert_allclose(mistake.outputs(scores)["weights"], weights, rtol=1e-9)


def test_the_cases_tell_the_mistakes_from_the_answer() -> None:
    spread, far, hidden = (scores for (scores,) in CAUSAL_WEIGHTS.cases())
    assert np.ptp(spread, axis=-1).min() > 1.0
    assert np.abs(far.mean(axis=-1)).max() > 900.0
    assert hidden[0, 1:].min() > hidden[0, 0] + 1000.0


@EACH_MISTAKE
def test_each_mistake_is_named(mistake: Mistake) -> None:
    verdict = check_exercise("causal-weights", lambda scores: mistake.outputs(scores)["weights"])
    assert verdict.outcome == "FAIL"
    assert mistake.message in verdict.message


def test_the_answer_passes_and_nothing_written_is_not_attempted() -> None:
    assert check_exercise("causal-weights", causal_weights).passed
    assert check_exercise("causal-weights", lambda scores: None).outcome == "NOT ATTEMPTED"
