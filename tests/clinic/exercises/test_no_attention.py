"""The exercise on levels without attention: its answer is that of the corpus room, and every mistake is named."""

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.exercises import EXERCISES, check_exercise
from cllm_lab.clinic.exercises.no_attention import ONE_TOKEN_FLOORS, one_token_floors
from cllm_lab.clinic.judging import Mistake
from cllm_lab.corpus.entropies import bigram_entropy, positional_entropy

EACH_MISTAKE = pytest.mark.parametrize(
    "mistake", ONE_TOKEN_FLOORS.mistakes, ids=lambda mistake: mistake.message[:40]
)


def counts_of(tokens: np.ndarray, vocab_size: int, length: int) -> np.ndarray:
    counts = np.zeros((length, vocab_size, vocab_size))
    np.add.at(counts, (np.arange(len(tokens) - 1) % length, tokens[:-1], tokens[1:]), 1.0)
    return counts


def test_it_is_registered() -> None:
    assert EXERCISES["one-token-floors"] is ONE_TOKEN_FLOORS


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("length", [1, 4, 7])
def test_the_answer_is_that_of_the_corpus_room(seed: int, length: int) -> None:
    tokens = np.random.default_rng(seed).integers(0, 5, 101)
    bigram, positional = one_token_floors(counts_of(tokens, 6, length))
    assert bigram == pytest.approx(bigram_entropy(tokens), rel=1e-12)
    assert positional == pytest.approx(positional_entropy(tokens, length), rel=1e-12)


def test_the_answer_on_the_shipped_text_is_its_plateaus() -> None:
    corpus = lab.load_corpus("large")
    plateaus = corpus.plateaus(sequence_length=31)
    answer = one_token_floors(counts_of(corpus.tokens, corpus.vocab_size, 31))
    assert answer == pytest.approx((plateaus.bigram, plateaus.positional), rel=1e-12)


def test_the_answer_by_hand() -> None:
    """Position 0: b follows a for sure, position 1: a follows a, three times as often. Then only position tells."""
    counts = np.array([[[0.0, 1.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 0.0]]])
    assert one_token_floors(counts) == pytest.approx((np.log(4) - 0.75 * np.log(3), 0.0), abs=1e-15)


def test_every_case_has_pairs_that_never_occur_and_positions_of_unequal_weight() -> None:
    cases = ONE_TOKEN_FLOORS.cases()
    assert len({counts.shape for (counts,) in cases}) == len(cases) >= 2
    for (counts,) in cases:
        assert counts.dtype == np.float64
        assert np.any(counts == 0.0)
        assert len(set(counts.sum(axis=(1, 2)))) > 1


@EACH_MISTAKE
def test_each_mistake_is_named(mistake: Mistake) -> None:
    def mistaken(counts: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple({**ONE_TOKEN_FLOORS.answer((counts,)), **mistake.outputs(counts)}.values())

    verdict = check_exercise("one-token-floors", mistaken)
    assert verdict.outcome == "FAIL"
    assert mistake.message in verdict.message


def test_plain_floats_pass() -> None:
    assert check_exercise("one-token-floors", lambda counts: one_token_floors(counts)).passed


def test_nothing_written_is_not_attempted() -> None:
    assert check_exercise("one-token-floors", lambda counts: None).outcome == "NOT ATTEMPTED"
