"""The spiral's angles, patches and neighbours: what is drawn, and the words about it."""

import numpy as np
import pytest

from cllm_lab.lattice.spirals import spiral_position
from cllm_lab.views.spirals import (
    PATCH,
    directions,
    is_fibonacci,
    nearest_two,
    patch,
    spiral_neighbours,
    spiral_patches,
    spiral_variants,
)


def test_each_angle_has_its_panel_and_the_primes_among_them():
    picture = spiral_variants(30)
    assert [axes.get_title(loc="left") for axes in picture.axes] == [
        "golden",
        "golden-complement",
        "golden-float32",
        "twelfth",
    ]
    for axes in picture.axes:
        others, primes = (np.asarray(points.get_offsets()) for points in axes.collections)
        assert len(primes) == 10
        assert len(others) == 20
    first = np.asarray(picture.axes[0].collections[1].get_offsets())[0]
    angle = 2.0 * 2.399963229728653
    assert first == pytest.approx(np.sqrt(2.0) * np.array([np.cos(angle), np.sin(angle)]))
    picture.png()


def test_the_words_tell_rays_mirror_images_and_the_nearest():
    lines = spiral_variants(500).words.split("\n")
    assert lines[0] == "The numbers 1 to 500, the 95 primes larger."
    assert lines[1] == "golden: 500 directions, the nearest two 1.60 apart."
    assert lines[2] == "golden-complement: 500 directions, the nearest two 1.60 apart; golden mirrored."
    # On one of 12 rays, 488 and 500 are the nearest: sqrt(500) - sqrt(488).
    assert lines[4] == f"twelfth: 12 directions, the nearest two {500**0.5 - 488**0.5:.2f} apart."


def test_an_image_is_called_mirrored_only_beside_what_it_mirrors():
    assert "mirrored" not in spiral_variants(50, ["golden-complement", "twelfth"]).words
    assert "golden: 50 directions, the nearest two 1.60 apart; golden-complement mirrored." in (
        spiral_variants(50, ["golden-complement", "golden"]).words
    )


def test_directions_and_distances_of_a_few_places():
    square = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [-4.0, 0.0]])
    assert directions(square) == 3
    assert directions(np.array([[2.0, 2.0], [1.0, 1.0]])) == 1
    # The same direction, told once from above and once from below the negative axis.
    assert directions(np.array([[-1.0, 1e-14], [-1.0, -1e-14]])) == 1
    assert nearest_two(square) == 1.0


def test_a_patch_holds_what_lies_in_it_and_nothing_else():
    everything = spiral_position(np.arange(1000), "golden")[:, :2]
    inside = (np.abs(everything - (20.0, 0.0)) <= PATCH).all(axis=1)
    assert 70 < inside.sum() < 90
    assert np.array_equal(patch(400, "golden"), everything[inside])


def test_single_precision_falls_apart_at_large_numbers():
    picture = spiral_patches((10_000, 10_000_000))
    titles = [axes.get_title(loc="left") for axes in picture.axes]
    assert titles == [
        "exact, near 10,000",
        "single precision, near 10,000",
        "exact, near 10,000,000",
        "single precision, near 10,000,000",
    ]
    exact_small, single_small, exact_large, single_large = (
        np.asarray(axes.collections[0].get_offsets()) for axes in picture.axes
    )
    assert np.array_equal(exact_large, patch(10_000_000, "golden"))
    assert np.array_equal(single_large, patch(10_000_000, "golden-float32"))
    assert nearest_two(exact_large) > 1.6 > 0.5 > nearest_two(single_large)
    assert len(exact_small) == len(single_small)
    assert picture.words == (
        "Squares of side 16 cut out of the spiral.\n"
        "Near 10,000: exact 81 numbers, the nearest two 1.68 apart; single precision 81 numbers, the nearest two 1.68 "
        "apart.\n"
        "Near 10,000,000: exact 80 numbers, the nearest two 1.69 apart; single precision 70 numbers, the nearest two "
        "0.20 apart."
    )
    picture.png()


def test_the_neighbours_are_the_nearest_by_brute_force():
    picture = spiral_neighbours(300, k=6, count=700)
    place = spiral_position(np.arange(700))
    distance = np.linalg.norm(place - place[300], axis=1)
    distance[300] = np.inf
    nearest = sorted(np.argsort(distance)[:6].tolist())
    assert nearest == [245, 266, 279, 321, 334, 355]
    axes = picture.axes[0]
    assert np.array_equal(np.asarray(axes.collections[2].get_offsets()), place[nearest, :2])
    assert np.array_equal(np.asarray(axes.collections[1].get_offsets()), place[[300], :2])
    assert [text.get_text() for text in axes.texts] == [
        "300",
        "245 (-55)",
        "266 (-34)",
        "279 (-21)",
        "321 (+21)",
        "334 (+34)",
        "355 (+55)",
    ]
    assert picture.words == (
        "The 6 nearest to 300: 245, 266, 279, 321, 334, 355. They are -55, -34, -21, +21, +34, +55 away in the order "
        "of numbers; 6 of 6 of these steps are Fibonacci numbers."
    )
    picture.png()


def test_neighbours_can_have_names():
    names = [f"${n}$" for n in range(40)]
    picture = spiral_neighbours(0, k=3, count=40, names=names)
    assert picture.words.startswith(
        "The 3 nearest to 0 '$0$': 1 '$1$', 2 '$2$', 3 '$3$'. They are +1, +2, +3 away"
    )
    assert not any(text.get_parse_math() for text in picture.axes[0].texts)


def test_steps_that_are_no_fibonacci_numbers_are_not_counted():
    assert (
        "+1, +2, +3, +4, +5 away in the order of numbers; 4 of 5" in spiral_neighbours(0, k=5, count=6).words
    )
    assert [n for n in range(100) if is_fibonacci(n)] == [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"number": 1000}, "number must be at most 999"),
        ({"number": 3, "k": 13}, "k must be at most 12"),
        ({"number": 3, "k": 5, "count": 5}, "k must be at most 4"),
        ({"number": 3, "count": 20_001}, "count must be at most 20000"),
        ({"number": 3, "names": ["a"]}, "names must be those of the 1000 numbers; got 1"),
    ],
)
def test_neighbours_that_cannot_be_drawn(arguments, what):
    with pytest.raises(ValueError, match=what):
        spiral_neighbours(**arguments)


def test_spirals_that_cannot_be_drawn():
    with pytest.raises(ValueError, match="angles must be 1 to 4"):
        spiral_variants(10, [])
    with pytest.raises(ValueError, match="angle must be one of"):
        spiral_variants(10, ["silver"])
    with pytest.raises(ValueError, match="count must be at least 2"):
        spiral_variants(1)
    with pytest.raises(ValueError, match="centres must be 1 to 4"):
        spiral_patches([])
    with pytest.raises(ValueError, match="centres must be at least 100"):
        spiral_patches([99])
