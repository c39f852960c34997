"""The exercise on a text's pairs: its answer is that of plain counters, and every mistake is named."""

from collections import Counter

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.exercises import EXERCISES, check_exercise
from cllm_lab.clinic.exercises.data_checks import PAIRS_COVERED, pairs_covered
from cllm_lab.clinic.judging import Mistake
from cllm_lab.corpus.batches import epoch_batches

EACH_MISTAKE = pytest.mark.parametrize(
    "mistake", PAIRS_COVERED.mistakes, ids=lambda mistake: mistake.message[:40]
)


def with_counters(text, inputs, targets):
    mine = Counter(zip(text[:-1].tolist(), text[1:].tolist(), strict=True))
    theirs = Counter(zip(inputs.ravel().tolist(), targets.ravel().tolist(), strict=True))
    return (mine & theirs).total() / mine.total(), (theirs - mine).total() / theirs.total()


def test_it_is_registered() -> None:
    assert EXERCISES["pairs-covered"] is PAIRS_COVERED


def test_the_answer_is_that_of_counters() -> None:
    for case in PAIRS_COVERED.cases():
        assert pairs_covered(*case) == pytest.approx(with_counters(*case), rel=1e-14)
    assert check_exercise("pairs-covered", with_counters).passed


def test_no_case_is_trivial() -> None:
    for text, inputs, targets in PAIRS_COVERED.cases():
        covered, foreign = pairs_covered(text, inputs, targets)
        assert 0.2 < covered < 0.9 and 0.05 < foreign < 0.8
        assert inputs.shape == targets.shape and inputs.size != len(text) - 1
        assert max(inputs.max(), text.max(), targets.max()) < 1000


@pytest.mark.parametrize(
    ("fault", "expected"),
    ((None, (1.0, 0.0)), ("dropped-remainder", (1152 / 1240, 0.0)), ("unshuffled-batches", (1.0, 0.0))),
)
def test_on_the_shipped_text(fault, expected) -> None:
    corpus = lab.load_corpus("large")
    cut = lab.faults.catalogue()[fault].swaps["batches"] if fault else epoch_batches
    batches = cut(corpus.tokens, 4, 32, True, 0, 0)
    inputs, targets = (
        np.concatenate([side.ravel() for side in sides]) for sides in zip(*batches, strict=True)
    )
    assert pairs_covered(corpus.tokens, inputs, targets) == pytest.approx(expected, rel=1e-14)


@EACH_MISTAKE
def test_each_mistake_is_named(mistake: Mistake) -> None:
    def answer(text, inputs, targets):
        spoilt = mistake.outputs(text, inputs, targets)
        return spoilt["covered"], spoilt["foreign"]

    verdict = check_exercise("pairs-covered", answer)
    assert str(verdict) == f"FAIL: covered, foreign: {mistake.message}"


def test_nothing_written_is_not_attempted() -> None:
    assert check_exercise("pairs-covered", lambda *_: (None, None)).outcome == "NOT ATTEMPTED"
