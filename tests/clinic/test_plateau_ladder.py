"""Every place on the ladder has its series of losses, and the words that belong to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.clinic.plateau_ladder import plateau_ladder
from cllm_lab.corpus.corpora import load_corpus
from cllm_lab.corpus.entropies import Plateaus

LEVELS = Plateaus(uniform=math.log(10_000), unigram=5.7, bigram=1.2, positional=0.2)


def ending_at(value, n=40):
    """Falls from 10 towards a value, on which it stands in the last half."""
    return [*np.linspace(10.0, value, n // 2), *(value + 1e-4 * np.sin(np.arange(n // 2)))]


@pytest.mark.parametrize(
    ("losses", "state", "level", "place"),
    [
        ([9.210331] * 26, "constant", "uniform", "on uniform"),
        ([4.185519] * 3, "constant", None, "between unigram and bigram"),
        ([9.210342, 9.210349, 9.210335], "nearly constant", "uniform", "on uniform"),
        ([9.21], "single", "uniform", "on uniform"),
        (ending_at(5.705), "standing", "unigram", "on unigram"),
        (ending_at(1.21), "standing", "bigram", "on bigram"),
        (ending_at(0.19), "standing", "positional", "on positional"),
        (ending_at(0.05), "standing", None, "below positional"),
        (ending_at(3.0), "standing", None, "between unigram and bigram"),
        (ending_at(11.0), "standing", None, "above uniform"),
        (list(np.linspace(9.2, 7.9, 26)), "falling", None, "between uniform and unigram"),
        (list(np.linspace(9.2, 12.0, 26)), "rising", None, "above uniform"),
        ([9.2, 8.0], "falling", None, "between uniform and unigram"),
        ([9.2, 8.9, math.nan, 8.0], "not finite", None, "nowhere"),
        ([math.inf], "not finite", None, "nowhere"),
    ],
)
def test_the_places_of_the_ladder(losses, state, level, place):
    found = plateau_ladder(losses, LEVELS)
    assert (found.state, found.level, found.place) == (state, level, place)
    assert found.ignores_the_model == (losses[0] == 4.185519)


def test_words():
    assert "constant to the last digit (26 values)" in repr(plateau_ladder([9.210331] * 26, LEVELS))
    assert "ln V, no knowledge" in repr(plateau_ladder([9.210331] * 26, LEVELS))
    assert "no level" in repr(plateau_ladder([4.185519] * 3, LEVELS))
    assert "no level" not in repr(plateau_ladder([4.18, 4.181, 4.18], LEVELS))
    assert "from value 3 of 4 on" in repr(plateau_ladder([9.2, 8.9, math.nan, 8.0], LEVELS))
    assert "still falling" in repr(plateau_ladder(np.linspace(9, 7, 9), LEVELS))


def test_one_last_bit_is_not_constant():
    value = math.log(10_000)
    assert plateau_ladder([value, value], LEVELS).state == "constant"
    assert plateau_ladder([value, math.nextafter(value, 0.0)], LEVELS).state == "nearly constant"


def test_noise_is_no_trend():
    rng = np.random.default_rng(0)
    noisy = 5.7 + rng.normal(0.0, 0.3, 400)
    assert plateau_ladder(noisy, LEVELS).state == "standing"
    assert plateau_ladder(noisy - np.linspace(0.0, 2.0, 400), LEVELS).state == "falling"
    assert plateau_ladder(noisy + np.linspace(0.0, 2.0, 400), LEVELS).state == "rising"


def test_the_tolerance_decides_what_is_near():
    assert plateau_ladder([5.75] * 2, LEVELS).level is None
    assert plateau_ladder([5.75] * 2, LEVELS, tolerance=0.1).level == "unigram"


def test_the_last_good_losses_count_where_the_rest_is_not_finite():
    found = plateau_ladder([9.0, 8.0, 7.0, 6.0, math.nan], LEVELS)
    assert (found.value, found.first_bad) == (6.0, 4)


def test_levels_of_a_corpus_without_windows():
    found = plateau_ladder([1.0], load_corpus("large").plateaus())
    assert list(found.levels) == ["uniform", "unigram", "bigram"]
    assert found.place == "below bigram"


@given(st.floats(0.0, 12.0), st.integers(1, 9))
def test_a_constant_is_placed_where_it_is(value, n):
    found = plateau_ladder([value] * n, LEVELS)
    assert found.value == value
    assert (found.level is not None) == any(abs(value - level) <= 0.02 for level in found.levels.values())


@pytest.mark.parametrize(
    ("losses", "plateaus", "tolerance", "error", "words"),
    [
        ([], LEVELS, 0.02, ValueError, "at least one loss"),
        (["9.2"], LEVELS, 0.02, TypeError, "losses must be numbers"),
        ([None], LEVELS, 0.02, TypeError, "losses must be numbers"),
        ([True], LEVELS, 0.02, TypeError, "losses must be numbers"),
        ([9.2], {"uniform": 9.2}, 0.02, TypeError, "corpus.plateaus"),
        ([9.2], LEVELS, 0.0, ValueError, "tolerance"),
        ([9.2], LEVELS, math.inf, ValueError, "tolerance"),
    ],
)
def test_what_cannot_be_placed(losses, plateaus, tolerance, error, words):
    with pytest.raises(error, match=words):
        plateau_ladder(losses, plateaus, tolerance)
