"""The lattice distance against the difference of ids: what is drawn, and the words about it."""

import numpy as np
import pytest

from cllm_lab.lattice.spirals import spiral_position
from cllm_lab.views.lattice_distances import distance_by_ids


def table(n):
    place = spiral_position(np.arange(n))
    return np.linalg.norm(place[:, None] - place, axis=-1)


def test_the_mean_at_each_difference_is_that_of_a_diagonal():
    picture = distance_by_ids(150)
    along = picture.axes[2]
    steps, mean = along.lines[0].get_data()
    assert steps.tolist() == list(range(1, 101))
    d = table(150)
    assert mean == pytest.approx([np.diagonal(d, k).mean() for k in range(1, 101)])
    level = along.lines[1].get_ydata()
    assert level == pytest.approx([d[np.triu_indices(150, 1)].mean()] * 2)
    picture.png()


def test_fibonacci_numbers_are_marked_and_named():
    along = distance_by_ids(150).axes[2]
    mean = along.lines[0].get_ydata()
    dots = {int(x): float(y) for line in along.lines[2:] for x, y in zip(*line.get_data(), strict=True)}
    assert sorted(dots) == [1, 2, 3, 5, 8, 13, 21, 34, 55, 89]
    assert all(mean[step - 1] == y for step, y in dots.items())
    assert [text.get_text() for text in along.texts] == ["8", "13", "21", "34", "55", "89", "all pairs"]


def test_every_pair_is_counted_once():
    picture = distance_by_ids(150)
    mesh = picture.axes[0].collections[0]
    assert np.nansum(np.ma.filled(mesh.get_array(), 0)) == 150 * 149 / 2


def test_no_tick_stands_below_0():
    along = distance_by_ids(150).axes[2]
    assert along.get_ylim()[0] < 0.0
    assert min(along.get_yticks()) == 0.0


def test_the_words():
    assert distance_by_ids().words == (
        "611 ids, 186355 pairs. Correlation of distance and difference of ids: 0.09. Pairs whose primes have a common "
        "factor: 0. Mean distance of all pairs: 22.5; of ids next to each other, 137.5 degrees apart: 30.7.\n"
        "The sum of the two ids explains 25% of the variance of the squared distance; the sum and the angle between "
        "the two, 100%. Of the differences to 100, those with the least mean distance: 13, 21, 34, 55, 89."
    )


def test_next_to_each_other_and_all_pairs_by_hand():
    d = table(150)
    beside, every = np.diagonal(d, 1).mean(), d[np.triu_indices(150, 1)].mean()
    assert beside > every + 1.0
    assert (
        f"Mean distance of all pairs: {every:.1f}; of ids next to each other, 137.5 degrees apart: {beside:.1f}."
        in distance_by_ids(150).words
    )


def test_what_is_explained_is_r_squared_by_least_squares():
    n = 120
    i, j = np.triu_indices(n, 1)
    squared = table(n)[i, j] ** 2
    design = np.stack([np.ones(i.size), i + j], axis=-1).astype(float)
    rest = squared - design @ np.linalg.lstsq(design, squared, rcond=None)[0]
    share = 1.0 - rest.var() / squared.var()
    assert 0.05 < share < 0.5
    assert f"The sum of the two ids explains {share:.0%} of the variance" in distance_by_ids(n).words


def test_limits():
    with pytest.raises(ValueError, match="n_ids must be at least 100"):
        distance_by_ids(99)
    with pytest.raises(ValueError, match="n_ids must be at most 2000"):
        distance_by_ids(2001)
    with pytest.raises(TypeError, match="n_ids"):
        distance_by_ids(611.0)
