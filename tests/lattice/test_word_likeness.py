"""Likeness of words that are neighbours on the spiral: by hand, by another way, and on texts with a planted answer."""

import math
from collections import Counter

import numpy as np
import pytest

from cllm_lab.lattice.spirals import spiral_position
from cllm_lab.lattice.word_likeness import NeighbourLikeness, context_likeness, neighbour_likeness

TEXT = np.random.default_rng(3).integers(0, 25, 300) * 2


def cosine(tokens, a, b):
    """Of the contexts of two ids, counted word by word."""
    counts = []
    for word in (a, b):
        places = [place for place, token in enumerate(tokens) if token == word]
        after = [("after", tokens[place + 1]) for place in places if place + 1 < len(tokens)]
        before = [("before", tokens[place - 1]) for place in places if place > 0]
        counts.append(Counter(after + before))
    first, second = counts
    dot = sum(first[key] * second[key] for key in first)
    return dot / math.sqrt(sum(n * n for n in first.values()) * sum(n * n for n in second.values()))


def of_groups(group, start):
    """A text in which the words of a group have one context, the group's marker on both sides."""
    text = []
    for word, marker in enumerate(group):
        text += [start + marker, word, start + marker]
    return text


def test_contexts_by_hand():
    # 4: after it 7, 7; before it 7. 7: after it 4, 9; before it 4, 4. 9: before it 7.
    ids, alike = context_likeness([4, 7, 4, 7, 9])
    assert ids.tolist() == [4, 7, 9]
    assert np.diag(alike) == pytest.approx(1.0)
    assert alike[0, 1] == 0.0
    assert alike[0, 2] == pytest.approx(1 / math.sqrt(5))
    assert alike[1, 2] == 0.0
    assert np.array_equal(alike, alike.T)


def test_what_follows_is_no_likeness_to_what_precedes():
    # 1 follows 0, and precedes 2: the contexts of 0 and 2 have no count in common.
    ids, alike = context_likeness([0, 1, 2])
    assert alike[ids == 0, ids == 2] == 0.0


def test_the_same_word_by_word():
    ids, alike = context_likeness(TEXT)
    assert ids.tolist() == sorted(set(TEXT.tolist()))
    tokens = TEXT.tolist()
    for i, a in enumerate(ids):
        for j, b in enumerate(ids):
            assert alike[i, j] == pytest.approx(cosine(tokens, a, b))


def test_the_golden_mean_is_that_over_the_nearest_on_the_spiral():
    found = neighbour_likeness(TEXT, neighbours=(1, 3, 5), draws=1)
    ids, alike = context_likeness(TEXT)
    places = spiral_position(ids)
    apart = np.linalg.norm(places[:, None] - places, axis=-1) + np.diag(np.full(ids.size, np.inf))
    nearest = np.argsort(apart, axis=1)
    assert found.neighbours == (1, 3, 5)
    expected = [np.mean([alike[i, nearest[i, :k]].mean() for i in range(ids.size)]) for k in (1, 3, 5)]
    assert found.golden == pytest.approx(expected)


def test_whatever_is_dealt_out_or_turned_all_the_others_are_all_the_others():
    others = np.unique(TEXT).size - 1
    found = neighbour_likeness(TEXT, neighbours=(2, others), draws=5)
    for control in (found.shuffled, found.turned):
        assert control.shape == (5, 2)
        assert control[:, 1] == pytest.approx(found.golden[1])
        assert np.unique(control[:, 0].round(12)).size == 5


def test_draws_are_repeated_by_their_seed_and_go_on_with_more():
    first, more, other = (
        neighbour_likeness(TEXT, draws=n, seed=seed) for n, seed in ((3, 0), (6, 0), (3, 1))
    )
    for control in ("shuffled", "turned"):
        assert np.array_equal(getattr(first, control), getattr(more, control)[:3])
        assert not np.array_equal(getattr(first, control), getattr(other, control))


def test_likeness_along_golden_steps_stands_out_against_both():
    # The words of a pair are 13 apart.
    group = np.arange(78)
    group[13:26], group[39:52], group[65:78] = group[0:13], group[26:39], group[52:65]
    found = neighbour_likeness(of_groups(group, 78), neighbours=(3, 4), draws=60)
    assert found.stands_out("shuffled") == [3, 4]
    assert found.stands_out("turned") == [3, 4]


def test_likeness_that_the_order_brings_stands_out_against_shuffled_words_alone():
    found = neighbour_likeness(of_groups(np.arange(200) // 50, 200), neighbours=(4, 8), draws=60)
    assert found.stands_out("shuffled") == [4, 8]
    assert found.stands_out("turned") == []


def test_p_values_count_ties_and_the_golden_spiral_itself():
    draws = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    found = NeighbourLikeness((2, 3), np.array([2.0, 6.0]), shuffled=draws, turned=draws + 4.0)
    assert found.p_values("shuffled").tolist() == [3 / 4, 1 / 4]
    assert found.p_values("turned").tolist() == [1.0, 1.0]
    assert found.stands_out("shuffled", level=0.3) == [3]
    # Below the level, not at it.
    assert found.stands_out("shuffled", level=0.25) == []


def test_what_is_refused():
    with pytest.raises(ValueError, match="control must be 'shuffled' or 'turned'; got 'golden'"):
        neighbour_likeness(TEXT, draws=1).p_values("golden")
    with pytest.raises(ValueError, match="neighbours is empty"):
        neighbour_likeness(TEXT, neighbours=())
    with pytest.raises(ValueError, match="neighbours must be at most 2, the number of other words, got 3"):
        neighbour_likeness([0, 1, 2, 0], neighbours=(2, 3))
    with pytest.raises(ValueError, match="neighbours must be at least 1, got 0"):
        neighbour_likeness(TEXT, neighbours=(0,))
    with pytest.raises(ValueError, match="draws must be at least 1"):
        neighbour_likeness(TEXT, draws=0)
    with pytest.raises(TypeError, match="tokens must hold integers"):
        context_likeness([0.0, 1.0])
    with pytest.raises(ValueError, match="tokens must be at least 0, got -1"):
        context_likeness([0, -1])
    for wrong in ([[0, 1]], [0], []):
        with pytest.raises(ValueError, match=r"tokens must have shape \(N,\), N at least 2"):
            context_likeness(wrong)
