"""The original's list on Ulam's square and on the wheel of remainders: what is drawn where, and the words."""

import numpy as np
import pytest

from cllm_lab.views.number_kinds import listed, number_wheel, ulam_square

IN_LIST, COMPOSITE, LACKING = "prime in the list", "composite in the list", "prime that it lacks"


def drawn(picture):
    """The scattered places by the name of their kind."""
    return {points.get_label(): np.asarray(points.get_offsets()) for points in picture.axes[0].collections}


def test_the_square_has_one_in_the_middle_and_each_kind_in_its_place():
    picture = ulam_square(11)
    places = drawn(picture)
    assert set(places) == {IN_LIST, LACKING}
    # By hand: 2 right of the middle, 3 above that, 5 left of 4, and 73 three rings further down.
    for corner in ((1, 0), (1, 1), (-1, 1), (-1, -1)):
        assert list(corner) in places[IN_LIST].tolist()
    assert [0, 0] not in places[IN_LIST].tolist()
    assert len(places[IN_LIST]) + len(places[LACKING]) == 30
    assert len(places[LACKING]) == 2
    picture.png()


def test_the_words_of_the_square():
    assert ulam_square(71).words == (
        "The numbers 1 to 5041 on a square of side 71. The list has 589 primes and 4 composites, the first 4489; it "
        "lacks 86 primes, whose remainders mod 30 are: 13. On the diagonal of the odd squares there is no prime, and "
        "2 of the composites are there."
    )
    words = ulam_square(5).words
    assert "9 primes and 0 composites; it lacks 0 primes, whose remainders mod 30 are: none" in words


def test_the_diagonal_goes_through_the_odd_squares():
    picture = ulam_square(71)
    (line,) = picture.axes[0].lines
    (x, y), falses = line.get_data(), drawn(picture)[COMPOSITE]
    assert np.array_equal(x, -y)
    assert [33, -33] in falses.tolist()
    assert [35, -35] in falses.tolist()


@pytest.mark.parametrize(("side", "what"), [(4, "odd"), (1, "at least 3"), (303, "at most 301")])
def test_sides_that_have_no_square(side, what):
    with pytest.raises(ValueError, match=f"side must be {what}"):
        ulam_square(side)
    with pytest.raises(TypeError, match="side"):
        ulam_square(11.0)


def test_the_wheel_puts_each_prime_on_its_spoke():
    picture = number_wheel(16)
    places = drawn(picture)
    assert set(places) == {IN_LIST, LACKING}
    for name, count in ((IN_LIST, 82), (LACKING, 10)):
        assert len(places[name]) == count
    turns = np.arctan2(places[LACKING][:, 0], places[LACKING][:, 1]) / (2.0 * np.pi) * 30.0
    assert np.allclose(turns % 30.0, 13.0)
    # 2, clockwise from the top on the innermost ring; 61 = 2 * 30 + 1 two rings further out.
    angle = 2.0 * np.pi * 2 / 30.0
    assert np.isclose(places[IN_LIST], 4.0 * np.array([np.sin(angle), np.cos(angle)])).all(axis=1).any()
    angle = 2.0 * np.pi / 30.0
    assert np.isclose(places[IN_LIST], 6.0 * np.array([np.sin(angle), np.cos(angle)])).all(axis=1).any()
    picture.png()


def test_solid_spokes_are_the_remainders_that_are_asked_for():
    axes = number_wheel().axes[0]
    solid = [r for r, line in enumerate(axes.lines) if line.get_linestyle() == "-"]
    assert solid == [1, 7, 11, 17, 19, 23, 29]
    texts = [text.get_text() for text in axes.texts]
    assert texts[:30] == [str(r) for r in range(30)]
    assert texts[30].startswith("59 is asked for")


def test_the_words_of_the_wheel():
    assert number_wheel(16).words == (
        "The numbers below 480 by their remainder mod 30. All primes above 5 lie on the 8 spokes 1, 7, 11, 13, 17, "
        "19, 23, 29. The list asks for 1, 7, 11, 17, 19, 23, 29, 59: 59 is no remainder, 13 is not asked for. Of the "
        "12 primes on that spoke the list lacks 10."
    )


@pytest.mark.parametrize(("rings", "what"), [(2, "at least 3"), (61, "at most 60")])
def test_wheels_with_too_few_or_too_many_rings(rings, what):
    with pytest.raises(ValueError, match=f"rings must be {what}"):
        number_wheel(rings)


def test_numbers_in_words():
    assert listed([]) == "none"
    assert listed(np.array([3, 5])) == "3, 5"
