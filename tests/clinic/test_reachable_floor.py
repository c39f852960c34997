"""The floor that reach allows, against the language's own floor and against what the stream itself determines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cllm_lab as lab
from cllm_lab.clinic.reachable_floor import reachable_floor

LANGUAGE = lab.InductionLanguage(n_symbols=5, block_length=3, n_tokens=6 * 40 + 1)


@pytest.mark.parametrize("length", [6, 12, 30])
def test_everything_earlier_in_sight_gives_the_floor_of_the_language(length: int) -> None:
    assert reachable_floor(np.tri(length), LANGUAGE) == pytest.approx(LANGUAGE.floor(length), rel=1e-12)


def test_nothing_but_the_own_token_gives_the_bigram_level() -> None:
    assert reachable_floor(np.eye(12), LANGUAGE) == pytest.approx(LANGUAGE.plateaus().bigram, rel=1e-15)


def test_everything_in_sight_leaves_the_first_token_of_the_next_window() -> None:
    for length in (6, 12):
        assert reachable_floor(np.ones((length, length)), LANGUAGE) == pytest.approx(np.log(5) / length)


def test_a_copy_tells_its_original_as_well() -> None:
    reach = np.eye(6, dtype=bool)
    reach[1, 5] = True  # offset 5 is the copy of offset 2, the target of position 1
    assert reachable_floor(reach, LANGUAGE) == pytest.approx(np.log(5) * 5 / 6)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 1.0))
def test_a_target_is_known_where_equal_tokens_always_stand_in_sight(seed: int, share: float) -> None:
    """Found from the stream alone: a token in sight that equals the target in each of 40 windows is its twin."""
    T = 6
    reach = np.random.default_rng(seed).random((T, T)) < share
    inputs, targets = LANGUAGE.tokens[:-1].reshape(-1, T), LANGUAGE.tokens[1:].reshape(-1, T)
    unknown = sum(
        not any(reach[i, j] and np.array_equal(inputs[:, j], targets[:, i]) for j in range(T))
        for i in range(T)
    )
    assert reachable_floor(reach, LANGUAGE) == pytest.approx(unknown / T * np.log(5), abs=1e-15)


def test_the_stride_of_a_head_leaves_four_copies_of_sixteen() -> None:
    fault = lab.faults.catalogue()["strided-heads"]
    subject = fault.broken()
    matrix = lab.dependency_matrix(subject, subject.corpus.tokens[:32])
    assert reachable_floor(matrix, subject.corpus) == pytest.approx(28 / 32 * np.log(8))


@pytest.mark.parametrize(
    ("matrix", "language", "error", "words"),
    [
        (np.eye(6), lab.MarkovLanguage(), TypeError, "MarkovLanguage"),
        (np.ones((6, 5)), LANGUAGE, ValueError, r"\(6, 5\)"),
        (np.ones((0, 0)), LANGUAGE, ValueError, r"\(0, 0\)"),
        (-np.eye(6), LANGUAGE, ValueError, "at least 0"),
        (np.full((6, 6), np.nan), LANGUAGE, ValueError, "at least 0"),
        (np.full((6, 6), "x"), LANGUAGE, ValueError, "numbers"),
        (np.eye(7), LANGUAGE, ValueError, "multiple of 2 \\* block_length = 6, got 7"),
    ],
)
def test_what_cannot_be_judged_is_refused(matrix, language, error, words) -> None:
    with pytest.raises(error, match=words):
        reachable_floor(matrix, language)
