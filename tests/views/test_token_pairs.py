"""What the lattice says of the pairs of a sentence: what is drawn, and the words about it."""

import numpy as np
import pytest

from cllm_lab.lattice.token_features import PAIR_FEATURES, TokenLattice
from cllm_lab.views.token_pairs import token_pair_maps

IDS = [3, 9, 3, 20, 14]
NAMES = ["and", "round", "and", "lighthouse-keeper", " "]
LATTICES = {
    "the lattice": TokenLattice(30),
    "shuffled": TokenLattice(30, "shuffled", "shuffled"),
    "random places": TokenLattice(30, "nth", "random"),
}


@pytest.fixture(scope="module")
def picture():
    return token_pair_maps(IDS, NAMES, LATTICES)


def maps(picture):
    """(feature, lattice) of every map: a column a feature, in the column a row a lattice, then its bar."""
    shown = [axes for axes in picture.axes if axes.images]
    columns: dict[float, list] = {}
    for axes in shown:
        columns.setdefault(round(axes.get_position().x0, 6), []).append(axes)
    return dict(zip(PAIR_FEATURES, columns.values(), strict=True))


def test_each_map_is_the_feature_of_the_visible_pairs(picture):
    visible = np.tri(5, dtype=bool)
    for feature, drawn in maps(picture).items():
        for axes, lattice in zip(drawn, LATTICES.values(), strict=False):
            shown = axes.images[0].get_array()
            assert np.array_equal(~np.ma.getmaskarray(shown), visible)
            assert np.array_equal(shown.data[visible], lattice.pairs(feature, IDS)[visible])
    picture.png()


def test_a_map_like_the_first_of_its_column_is_left_out(picture):
    drawn = {feature: len(axes) for feature, axes in maps(picture).items()}
    assert drawn == {
        "lattice-distance": 3, "prime-distance": 2, "phase": 2, "similarity": 2, "resonance": 3
    }  # fmt: skip
    alone = token_pair_maps(IDS, NAMES, {"one": TokenLattice(30), "again": TokenLattice(30)})
    assert all(len(axes) == 1 for axes in maps(alone).values())


def test_a_column_has_one_scale_of_colours_over_what_can_be_seen(picture):
    for feature, drawn in maps(picture).items():
        limits = {(axes.images[0].norm.vmin, axes.images[0].norm.vmax) for axes in drawn}
        seen = np.concatenate([each.pairs(feature, IDS)[np.tri(5, dtype=bool)] for each in LATTICES.values()])
        assert limits == {(seen.min(), seen.max())}


def test_rows_name_the_lattice_and_the_tokens_stand_at_the_edges(picture):
    drawn = maps(picture)
    first = drawn["lattice-distance"]
    assert [axes.get_ylabel() for axes in first] == list(LATTICES)
    rows = [text.get_text() for text in first[0].get_yticklabels()]
    assert rows == ["and", "round", "and", "lighthouse-…", "' '"]
    for feature, column in drawn.items():
        assert column[0].get_title(loc="left") == feature
        below = [[text.get_text() for text in axes.get_xticklabels()] for axes in column]
        assert below[-1] == rows and all(labels == [""] * 5 for labels in below[:-1])
        assert feature == "lattice-distance" or column[0].get_yticklabels()[0].get_text() == ""


def test_the_words_tell_same_from_different_tokens_and_compare_with_the_first(picture):
    words = picture.words.splitlines()
    place, primes = LATTICES["the lattice"].places, LATTICES["the lattice"].primes
    pairs = [(1, 0), (2, 1), (3, 0), (3, 1), (3, 2), (4, 0), (4, 1), (4, 2), (4, 3)]
    a, b = (np.array([IDS[pair[side]] for pair in pairs]) for side in (0, 1))
    d = -np.linalg.norm(place[a] - place[b], axis=1) / np.sqrt(30)
    other = [
        -np.linalg.norm(LATTICES[name].places[a] - LATTICES[name].places[b], axis=1)
        for name in ("shuffled", "random places")
    ]
    assert words[0] == (
        f"lattice-distance: 0 for a token and itself, {d.min():.2g} to {d.max():.2g} for different ones; "
        f"correlation of the lattice and shuffled: {np.corrcoef(d, other[0])[0, 1]:.2f}; "
        f"correlation of the lattice and random places: {np.corrcoef(d, other[1])[0, 1]:.2f}."
    )
    similar = 1 / np.maximum(primes[a], primes[b])
    assert words[3].startswith(
        f"similarity: 1 for a token and itself, {similar.min():.2g} to {similar.max():.2g} for different ones; "
        "correlation of the lattice and shuffled:"
    )


def test_where_nothing_varies_there_is_no_correlation():
    two = token_pair_maps([3, 9], ["and", "round"], LATTICES)
    assert "correlation of the lattice and shuffled: none, one is constant." in two.words
    back = token_pair_maps([3, 9, 3], ["and", "round", "and"], LATTICES)
    assert "correlation of the lattice and shuffled: none, one is constant." in back.words
    same = token_pair_maps([3, 3], ["and", "and"], LATTICES).words
    assert same.splitlines()[3] == "similarity: 1 for a token and itself."


@pytest.mark.parametrize(
    ("ids", "names", "lattices", "message"),
    [
        ([1], ["a"], LATTICES, r"2 to 16 ids, shape \(T,\); got shape \(1,\)"),
        (list(range(17)), ["a"] * 17, LATTICES, r"got shape \(17,\)"),
        ([[1, 2]], ["a", "b"], LATTICES, r"got shape \(1, 2\)"),
        ([1, 2], ["a"], LATTICES, "names must be the 2 tokens as text; got 1"),
        ([1, 2], ["a", "b"], {}, "lattices must be 1 to 4, a row each; got 0"),
        ([1, 30], ["a", "b"], LATTICES, "tokens"),
    ],
)
def test_what_cannot_be_shown(ids, names, lattices, message):
    with pytest.raises(ValueError, match=message):
        token_pair_maps(ids, names, lattices)
