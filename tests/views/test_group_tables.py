"""Multiplication tables: every product is where it belongs, and the words say whether it is a group."""

import numpy as np
import pytest

from cllm_lab.lattice.symmetry import cyclic_group, dihedral_group, historical_symmetries
from cllm_lab.views.group_tables import multiplication_tables


def cells(axes):
    """The table's text by (row, column)."""
    return {
        (int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts
    }


def test_the_product_of_row_and_column_stands_in_the_cell():
    (axes,) = multiplication_tables({"D3": dihedral_group(2, 3)}).axes
    shown, matrices = cells(axes), dihedral_group(2, 3)
    assert len(shown) == 36
    for (i, j), text in shown.items():
        assert matrices[int(text)] == pytest.approx(matrices[i] @ matrices[j])
    # Not the same the other way round, so that rows and columns cannot be exchanged.
    assert shown[1, 3] != shown[3, 1]


def test_products_outside_are_crosses_on_white():
    picture = multiplication_tables({"C12": cyclic_group(4), "twelve": historical_symmetries(4)})
    turns, twelve = picture.axes
    assert [axes.get_title(loc="left") for axes in picture.axes] == ["C12", "twelve"]
    assert {text: list(cells(turns).values()).count(text) for text in ("0", "11", "×")} == {
        "0": 12,
        "11": 12,
        "×": 0,
    }
    shown = cells(twelve)
    assert shown[1, 1] == "×"
    assert shown[0, 7] == shown[7, 0] == "7"
    assert list(shown.values()).count("×") == 144 - 28
    colours = np.asarray(twelve.images[0].get_array())
    assert (colours[1, 1] == 1.0).all()
    assert (colours[0, 7, :3] < 1.0).any()
    assert np.array_equal(colours[0, 7], np.asarray(turns.images[0].get_array())[0, 7])
    picture.png()


def test_the_words():
    words = multiplication_tables({"C12": cyclic_group(4), "twelve": historical_symmetries(4)}).words
    assert words == (
        "C12: 144 of 144 products are in the set; without an inverse: none; a group.\n"
        "twelve: 28 of 144 products are in the set, the first that is not: 1 times 1; without an inverse: 2, 3, 4, 8, "
        "9, 10; no group."
    )


def test_numbers_can_be_read_on_dark_and_on_bright():
    (axes,) = multiplication_tables({"C12": cyclic_group(2)}).axes
    colours = np.asarray(axes.images[0].get_array())
    for text in axes.texts:
        j, i = (int(at) for at in text.get_position())
        bright = colours[i, j, :3].mean()
        if bright < 0.4:
            assert text.get_color() == "white"
        if bright > 0.6:
            assert text.get_color() == "black"


def test_operations_have_colours_that_can_be_told_apart():
    (axes,) = multiplication_tables({"C12": cyclic_group(2)}).axes
    colours = np.asarray(axes.images[0].get_array())[0, :, :3]
    apart = np.linalg.norm(colours[:, None] - colours, axis=-1) + np.eye(12)
    assert apart.min() > 0.1


def test_what_cannot_be_shown():
    with pytest.raises(ValueError, match="sets must be 1 to 3, a table each; got 0"):
        multiplication_tables({})
    with pytest.raises(ValueError, match="sets must be 1 to 3, a table each; got 4"):
        multiplication_tables(dict.fromkeys("abcd", cyclic_group(2)))
    with pytest.raises(ValueError, match="sets may have 24 operations each; 'C25' has 25"):
        multiplication_tables({"C25": cyclic_group(2, 25)})
    with pytest.raises(ValueError, match="operations 0 and 1 are equal"):
        multiplication_tables({"same": np.stack([np.eye(2), np.eye(2)])})
