"""The exercise on the levels of a loss: its answer is that of the corpus, and every mistake is named."""

from dataclasses import dataclass

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.exercises import EXERCISES, check_exercise
from cllm_lab.clinic.exercises.constant_loss import LOSS_LEVELS, loss_levels
from cllm_lab.clinic.judging import Mistake
from cllm_lab.corpus.entropies import bigram_entropy, unigram_entropy

EACH_MISTAKE = pytest.mark.parametrize(
    "mistake", LOSS_LEVELS.mistakes, ids=lambda mistake: mistake.message[:40]
)


def counts_of(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    counts = np.zeros((vocab_size, vocab_size))
    np.add.at(counts, (tokens[:-1], tokens[1:]), 1.0)
    return counts


def test_it_is_registered() -> None:
    assert EXERCISES["loss-levels"] is LOSS_LEVELS


@pytest.mark.parametrize("seed", range(3))
def test_the_answer_is_that_of_the_corpus_room(seed: int) -> None:
    tokens = np.random.default_rng(seed).integers(0, 12, 400)
    uniform, unigram, bigram = loss_levels(counts_of(tokens, 20))
    assert uniform == pytest.approx(np.log(20), rel=1e-15)
    assert unigram == pytest.approx(unigram_entropy(tokens[1:]), rel=1e-12)
    assert bigram == pytest.approx(bigram_entropy(tokens), rel=1e-12)


def test_the_answer_on_the_shipped_text_is_its_plateaus() -> None:
    corpus = lab.load_corpus("large")
    plateaus = corpus.plateaus()
    levels = loss_levels(counts_of(corpus.tokens, corpus.vocab_size))
    assert levels == pytest.approx((plateaus.uniform, plateaus.unigram, plateaus.bigram), rel=1e-12)


@dataclass(frozen=True)
class Hand:
    counts: list[list[float]]
    levels: tuple[float, float, float]


# Worked out on paper: certain successors; independent ones; a token that never occurs.
BY_HAND = (
    Hand([[0, 3], [3, 0]], (np.log(2), np.log(2), 0.0)),
    Hand([[2, 2], [2, 2]], (np.log(2), np.log(2), np.log(2))),
    Hand([[1, 1, 0], [2, 0, 0], [0, 0, 0]], (np.log(3), np.log(4) - 0.75 * np.log(3), np.log(2) / 2)),
)


@pytest.mark.parametrize("hand", BY_HAND)
def test_the_answer_by_hand(hand: Hand) -> None:
    assert loss_levels(np.array(hand.counts, float)) == pytest.approx(hand.levels, abs=1e-15)


def test_every_case_has_a_token_that_does_not_occur_and_no_two_shapes_alike() -> None:
    cases = LOSS_LEVELS.cases()
    assert len({counts.shape for (counts,) in cases}) == len(cases) >= 2
    for (counts,), (again,) in zip(cases, LOSS_LEVELS.cases(), strict=True):
        np.testing.assert_array_equal(counts, again)
        assert counts.dtype == np.float64
        assert not counts[-1].any() and not counts[:, -1].any()
        assert np.count_nonzero(counts) > len(counts)


@EACH_MISTAKE
def test_each_mistake_is_named(mistake: Mistake) -> None:
    def mistaken(counts: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple({**LOSS_LEVELS.answer((counts,)), **mistake.outputs(counts)}.values())

    verdict = check_exercise("loss-levels", mistaken)
    assert verdict.outcome == "FAIL"
    assert mistake.message in verdict.message


def test_plain_floats_pass() -> None:
    assert check_exercise("loss-levels", lambda counts: tuple(map(float, loss_levels(counts)))).passed


def test_nothing_written_is_not_attempted() -> None:
    assert check_exercise("loss-levels", lambda counts: None).outcome == "NOT ATTEMPTED"
