"""The four similarities on primes and on 1, 2, 3, ...: what is drawn, and the words about it."""

import numpy as np
import pytest

from cllm_lab.lattice.similarity import SIMILARITIES
from cllm_lab.views.similarity_maps import similarity_maps


def maps(picture):
    return [np.asarray(axes.images[0].get_array()) for axes in picture.axes[:8]]


def test_a_map_for_each_similarity_on_primes_and_below_on_numbers():
    picture = similarity_maps(5)
    primes, numbers = np.array([2, 3, 5, 7, 11]), np.arange(1, 6)
    shown = maps(picture)
    for place, similarity in enumerate(SIMILARITIES.values()):
        assert np.array_equal(shown[place], similarity(primes[:, None], primes))
        assert np.array_equal(shown[4 + place], similarity(numbers[:, None], numbers))
    assert shown[0][0, 4] == pytest.approx(1 / 11)
    titles = [axes.get_title(loc="left") for axes in picture.axes[:8]]
    assert titles == [*SIMILARITIES, "", "", "", ""]
    assert [axes.get_ylabel() for axes in picture.axes[:8]] == ["primes", "", "", "", "numbers", "", "", ""]
    picture.png()


def test_all_maps_have_one_scale_of_colours():
    picture = similarity_maps(6)
    images = [axes.images[0] for axes in picture.axes[:8]]
    assert {(image.norm.vmin, image.norm.vmax) for image in images} == {(0.0, 1.0)}


def test_ticks_name_the_numbers_at_their_places():
    first, below = (similarity_maps(30).axes[place] for place in (0, 4))
    assert [text.get_text() for text in first.get_xticklabels()] == ["2", "31", "71", "113"]
    assert first.get_xticks().tolist() == [0, 10, 19, 29]
    assert [text.get_text() for text in below.get_yticklabels()] == ["1", "11", "20", "30"]


def test_the_words_count_values_and_name_what_is_simple():
    assert similarity_maps().words == (
        "The first 30 primes, and the numbers 1 to 30. What pairs of unequal numbers have:\n"
        "gcd-over-max: primes 29 values (each 1 / the larger); numbers 29 values.\n"
        "half-if-coprime: primes 1 value (0.5); numbers 14 values.\n"
        "reciprocal-gcd: primes 1 value (0.5); numbers 14 values.\n"
        "zero-if-coprime: primes 1 value (0); numbers 15 values."
    )


def test_one_pair_with_a_common_factor_is_enough_to_break_the_rule():
    # Of 1, 2, 3, 4 the pair 2, 4 alone: 2 / 4, not 1 / 4.
    assert (
        "gcd-over-max: primes 3 values (each 1 / the larger); numbers 3 values." in similarity_maps(4).words
    )


def test_limits():
    with pytest.raises(ValueError, match="count must be at least 4"):
        similarity_maps(3)
    with pytest.raises(ValueError, match="count must be at most 100"):
        similarity_maps(101)
    with pytest.raises(TypeError, match="count"):
        similarity_maps(30.0)
