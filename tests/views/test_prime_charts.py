"""Gaps between primes, and the three maps from token ids to primes: what is drawn, and the words."""

import math

import numpy as np
import pytest

from cllm_lab.views.prime_charts import (
    mean_gaps,
    prime_gaps,
    repeated,
    sieved_gap,
    token_prime_maps,
    wheel_spokes,
)

SPOKES = {1, 7, 11, 13, 17, 19, 23, 29}
ADMITTED = SPOKES - {13} | {59}


def test_gaps_are_counted_and_the_odd_one_left_out():
    picture = prime_gaps(1000)
    counts, along = picture.axes
    lines = {line.get_label(): line.get_data() for line in counts.lines}
    sizes, times = lines["primes"]
    assert sizes.tolist() == [2, 4, 6, 8, 10, 12, 14, 18, 20]
    # Of the 168 primes below 1000 two neighbours, 2 and 3, are 1 apart; 35 pairs of twins.
    assert times.sum() == 166
    assert times[0] == 35
    assert counts.get_yscale() == "log"
    assert lines["mean of primes"][0] == pytest.approx([(997 - 2) / 167] * 2)
    shown = {line.get_label(): line.get_data() for line in along.lines}
    assert shown["ln n"][1] == pytest.approx(np.log(shown["ln n"][0]))
    assert shown["primes"][0] == pytest.approx(np.arange(20.0, 1000.0, 40.0))
    # 2, ..., 37 in the first stretch of 40.
    assert shown["primes"][1][0] == pytest.approx(40.0 / 12.0)
    assert shown["to 61, without spoke 13"][1] == [sieved_gap(ADMITTED)] * 2
    picture.png()


def test_the_words_hold_the_primes_against_the_list():
    assert prime_gaps(200_000).words == (
        "Up to 200000: 17984 primes with a mean gap of 11.12, 23094 entries of the list with 8.66. Commonest gap: 6 "
        "between primes, 6 in the list.\n"
        "In the last of 25 stretches the primes' mean gap is 12.2, ln n 12.2; the list's is 8.7. What no prime to 61 "
        "divides is 7.6 apart, without spoke 13 8.7."
    )


def test_what_the_sieve_leaves_is_the_share_of_a_whole_period():
    q = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61)
    kept = math.prod(p - 1 for p in q)
    assert sieved_gap(SPOKES) == pytest.approx(math.prod(q) / kept, rel=1e-12)
    # 59 is no remainder mod 30, and adds nothing to the seven others.
    assert sieved_gap(ADMITTED) == pytest.approx(math.prod(q) / kept * 8 / 7, rel=1e-12)


def test_primes_above_5_are_on_eight_spokes():
    assert wheel_spokes() == sorted(SPOKES)


def test_mean_gaps_by_hand():
    numbers = np.array([1, 2, 5, 10, 20])
    assert mean_gaps(numbers, np.array([0.0, 10.0, 20.0])).tolist() == [2.5, 10.0]


def test_what_stood_earlier_is_repeated():
    assert repeated(np.array([5, 2, 5, 5, 7, 2])).tolist() == [False, False, True, True, False, True]


def test_the_maps_and_their_collisions():
    picture = token_prime_maps(2_500)
    close, whole = picture.axes
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in whole.lines}
    assert lines["nth"][:5].tolist() == [2, 3, 5, 7, 11]
    assert np.array_equal(lines["cached"][:1000], lines["nth"][:1000])
    assert np.array_equal(lines["cached"][2000:], lines["nth"][:500])
    rings = [line.get_data() for line in close.lines if line.get_marker() == "o"]
    # Growth: 2, 2, 5, 7, 11, 11, ...: ids 1 and 5 have what an earlier one has.
    (ids, values), nth, cached = rings
    assert ids[:2].tolist() == [1, 5]
    assert values[:2].tolist() == [2, 11]
    assert len(nth[0]) == len(cached[0]) == 0
    picture.png()


def test_the_words_of_the_maps():
    assert token_prime_maps().words == (
        "growth: 6458 primes for 10000 ids, the largest 99991; 3542 ids have a prime that an earlier one has.\n"
        "nth: 10000 primes for 10000 ids, the largest 104729; 0 ids have a prime that an earlier one has.\n"
        "cached: 1000 primes for 10000 ids, the largest 7919; 9000 ids have a prime that an earlier one has."
    )


def test_limits_of_the_charts():
    with pytest.raises(ValueError, match="limit must be at least 1000"):
        prime_gaps(999)
    with pytest.raises(ValueError, match="limit must be at most 10000000"):
        prime_gaps(10**7 + 1)
    with pytest.raises(ValueError, match="n_ids must be at least 30"):
        token_prime_maps(29)
    with pytest.raises(TypeError, match="n_ids"):
        token_prime_maps(100.0)
