"""The statistics, against known numbers and against simulations with seeds."""

import math

import numpy as np
import pytest
from scipy import stats

from cllm_lab.trials.statistics import ALPHA, POWER, detectable, holm, paired, power, verdict

# Student (1908), section IX: additional hours of sleep by two drugs, ten patients; t = 4.0621 with 9 degrees.
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]


def test_students_own_example():
    found = paired(SLEEP)
    assert found.mean == pytest.approx(1.58)
    assert found.p == pytest.approx(0.00283, abs=5e-6)
    assert (found.low, found.high) == (pytest.approx(0.7001, abs=5e-5), pytest.approx(2.4599, abs=5e-5))
    assert found.deviation == pytest.approx(1.23, abs=5e-4)
    assert found.pairs == 10


def test_against_an_independent_implementation():
    values = np.random.default_rng(3).normal(0.3, 1.0, size=7)
    found, expected = paired(values), stats.ttest_1samp(values, 0.0)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-12)


def test_differences_that_are_all_equal():
    same = paired([0.0, 0.0, 0.0])
    assert (same.mean, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    shifted = paired([0.25, 0.25, 0.25])
    assert (shifted.mean, shifted.low, shifted.high, shifted.p) == (0.25, 0.25, 0.25, 0.0)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [[1.0, 2.0]]])
def test_what_cannot_be_compared(values):
    with pytest.raises(ValueError, match="at least two finite differences"):
        paired(values)


def test_holm_against_a_computation_by_hand():
    # 0.01 * 4; 0.02 * 3; max(0.06, 0.03 * 2); max(0.06, 0.04 * 1).
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def simulated_families(effects, rounds=600, pairs=10):
    rng = np.random.default_rng(20)
    for _ in range(rounds):
        # Arms of one corpus share a baseline: their differences hang together.
        shared = rng.normal(size=(pairs, 1))
        yield [paired(column) for column in (rng.normal(size=(pairs, len(effects))) + shared + effects).T]


def test_the_whole_family_seldom_raises_a_false_alarm():
    alarms, uncorrected = 0, 0
    for family in simulated_families(np.zeros(12)):
        p_values = [found.p for found in family]
        words = [verdict(found, p) for found, p in zip(family, holm(p_values), strict=True)]
        alarms += any(word != "no difference shown" for word in words)
        uncorrected += min(p_values) < ALPHA
    upper = stats.binom.isf(1e-4, 600, ALPHA)
    assert alarms <= upper < uncorrected


def test_the_interval_covers_as_often_as_it_says():
    covered = [found.low < 0.7 < found.high for [found] in simulated_families(np.array([0.7]), rounds=1500)]
    assert stats.binom.cdf(sum(covered), 1500, 0.95) > 1e-4
    assert stats.binom.sf(sum(covered) - 1, 1500, 0.95) > 1e-4


def test_power_against_a_published_table():
    # Cohen (1988): a t test of one mean, 34 pairs for an effect of half a deviation and 80 %.
    assert power(0.5, 34, 0.05) == pytest.approx(0.8078, abs=1e-3)
    assert power(0.0, 10, 0.05) == pytest.approx(0.05, abs=1e-6)
    assert power(50.0, 5, 0.0004) == pytest.approx(1.0)


@pytest.mark.parametrize(("pairs", "comparisons"), [(10, 1), (10, 8), (5, 2)])
def test_the_detectable_effect_is_found_as_often_as_promised(pairs, comparisons):
    size = detectable(pairs, comparisons, deviation=0.2)
    rng = np.random.default_rng(5)
    draws = rng.normal(size, 0.2, size=(3000, pairs))
    found = stats.ttest_1samp(draws, 0.0, axis=1).pvalue < ALPHA / comparisons
    assert 1e-4 < stats.binom.cdf(found.sum(), 3000, POWER) < 1.0 - 1e-4


def test_more_comparisons_and_fewer_pairs_hide_more():
    assert detectable(10, 1) < detectable(10, 100) < detectable(5, 100) < math.inf
    assert detectable(10, 4, 0.0) == 0.0
    for wrong in ((1, 1, 1.0), (2, 0, 1.0), (2, 1, -1.0), (2, 1, math.nan)):
        with pytest.raises(ValueError, match="two pairs, one comparison"):
            detectable(*wrong)


@pytest.mark.parametrize(
    ("values", "p", "word"),
    [
        ([0.0, 0.0], 1.0, "no difference shown"),
        ([-1.0, -1.1, -0.9], 0.01, "better"),
        ([1.0, 1.1, 0.9], 0.01, "worse"),
        ([1.0, 1.1, 0.9], ALPHA, "no difference shown"),
    ],
)
def test_the_verdict_in_a_word(values, p, word):
    assert verdict(paired(values), p) == word
