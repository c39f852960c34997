"""The exercise on the recomputed loss: its answer is that of the reference part, and every mistake is named."""

import math

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.exercises import EXERCISES, check_exercise
from cllm_lab.clinic.exercises.ignored_model import RECOMPUTED_LOSS, loss_of_logits
from cllm_lab.clinic.judging import Mistake
from cllm_lab.model.config import ModelConfig

EACH_MISTAKE = pytest.mark.parametrize(
    "mistake", RECOMPUTED_LOSS.mistakes, ids=lambda mistake: mistake.message[:40]
)


def test_it_is_registered() -> None:
    assert EXERCISES["recomputed-loss"] is RECOMPUTED_LOSS


def test_the_answer_is_that_of_plain_logarithms() -> None:
    for logits, targets in RECOMPUTED_LOSS.cases():
        expected = np.mean(np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(logits)), targets])
        assert loss_of_logits(logits, targets) == pytest.approx(expected, rel=1e-12)


def test_the_answer_is_that_of_the_machine() -> None:
    config = ModelConfig(vocab_size=11, context_length=8, d_model=8, n_heads=2, n_layers=1, d_ff=12)
    model = lab.Transformer(config, seed=1, dtype="float64")
    tokens, targets = np.random.default_rng(0).integers(0, 11, (2, 3, 8))
    logits = model.forward(tokens).logits.reshape(-1, 11)
    assert loss_of_logits(logits, targets.ravel()) == pytest.approx(model.loss(tokens, targets), rel=1e-12)


def test_equal_logits_give_ln_v() -> None:
    assert loss_of_logits(np.full((3, 10), 7.0), np.array([0, 4, 9])) == pytest.approx(
        math.log(10), rel=1e-15
    )


def test_one_case_has_logits_whose_exponentials_overflow() -> None:
    cases = RECOMPUTED_LOSS.cases()
    assert len({logits.shape for logits, _ in cases}) == len(cases) == 3
    assert max(logits.max() for logits, _ in cases) > math.log(np.finfo(np.float64).max)
    for (logits, targets), (again, _) in zip(cases, RECOMPUTED_LOSS.cases(), strict=True):
        np.testing.assert_array_equal(logits, again)
        assert logits.dtype == np.float64 and len(np.unique(logits)) == logits.size
        assert targets.shape == logits.shape[:1]


@EACH_MISTAKE
def test_each_mistake_is_named(mistake: Mistake) -> None:
    verdict = check_exercise(
        "recomputed-loss", lambda logits, targets: mistake.outputs(logits, targets)["loss"]
    )
    assert str(verdict) == f"FAIL: loss: {mistake.message}"


def test_nothing_written_is_not_attempted() -> None:
    assert check_exercise("recomputed-loss", lambda logits, targets: None).outcome == "NOT ATTEMPTED"
