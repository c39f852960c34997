"""A basis before and after reduction: both span the points that are drawn, and the words measure them."""

import math

import numpy as np
import pytest
from matplotlib.patches import Polygon

from cllm_lab.views.basis_reduction import basis_reduction

SKEWED = [[7, 4], [10, 7]]


def drawn(axes):
    """The points and the corners of the cell."""
    (cell,) = [patch for patch in axes.patches if isinstance(patch, Polygon)]
    return np.asarray(axes.collections[0].get_offsets()), cell.get_xy()


def test_both_panels_have_the_same_points_and_their_own_cell():
    picture = basis_reduction(SKEWED)
    given, reduced = picture.axes
    assert [axes.get_title(loc="left") for axes in picture.axes] == ["given", "reduced"]
    (points, cell), (same, other) = drawn(given), drawn(reduced)
    assert np.array_equal(points, same)
    assert cell.tolist() == [[0, 0], [7, 4], [17, 11], [10, 7], [0, 0]]
    assert given.get_xlim() == reduced.get_xlim()
    rows = other[[1, 3]]
    assert abs(np.linalg.det(rows)) == pytest.approx(9.0)
    assert np.linalg.norm(rows, axis=1).max() < 5.0
    picture.png()


@pytest.mark.parametrize("basis", [SKEWED, [[20, 1], [21, 2]], [[-30, 1], [-28, -1]]])
def test_the_points_are_all_those_of_the_lattice_in_the_window(basis):
    axes = basis_reduction(basis).axes[0]
    points, cell = drawn(axes)
    low, high = np.array([axes.get_xlim(), axes.get_ylim()]).T
    assert (cell >= low).all() and (cell <= high).all()
    x, y = np.meshgrid(np.arange(-90, 91), np.arange(-90, 91))
    every = np.stack([x.ravel(), y.ravel()], axis=-1)
    shares = every @ np.linalg.inv(basis)
    belongs = np.isclose(shares, shares.round(), atol=1e-9).all(axis=1)
    inside = ((every >= low) & (every <= high)).all(axis=1)
    assert {tuple(point) for point in points.round().astype(int)} == {
        tuple(point) for point in every[belongs & inside]
    }


def test_arrows_are_labelled_with_their_vectors():
    given, reduced = basis_reduction(SKEWED).axes
    assert [text.get_text() for text in given.texts if text.get_text()] == ["(7, 4)", "(10, 7)"]
    ends = [text.xy for text in given.texts if text.arrow_patch is not None]
    assert ends == [(7.0, 4.0), (10.0, 7.0)]
    assert len([text for text in reduced.texts if text.get_text()]) == 2


def test_the_words_measure_both():
    angle = math.degrees(math.atan2(7, 10) - math.atan2(4, 7))
    defect = math.hypot(7, 4) * math.hypot(10, 7) / 9
    words = basis_reduction(SKEWED).words
    assert words.startswith(
        f"given: lengths 8.06 and 12.21, at {angle:.0f} degrees, cell 9, orthogonality defect {defect:.2f}; "
        "reduced: lengths 2.24 and 4.12, at 77 degrees, cell 9, orthogonality defect 1.02; swaps: 2."
    )


def test_obtuse_is_told_as_the_angle_between_the_lines():
    assert "given: lengths 1.00 and 1.41, at 45 degrees" in basis_reduction([[1.0, 0.0], [-1.0, 1.0]]).words


def test_what_cannot_be_drawn():
    with pytest.raises(
        ValueError, match=r"basis must have shape \(2, 2\), to be drawn in the plane; got \(2, 3\)"
    ):
        basis_reduction([[1, 0, 0], [0, 1, 0]])
    with pytest.raises(ValueError, match="too fine a lattice to be drawn"):
        basis_reduction([[1000, 1], [999, 1]])
    with pytest.raises(ValueError, match="linearly independent"):
        basis_reduction([[1, 2], [2, 4]])
