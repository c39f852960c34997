"""Neighbours through the tree against all distances, sorted."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm_lab.lattice.neighbours import nearest_neighbours
from cllm_lab.lattice.spirals import spiral_position, ulam_coordinates


def by_brute_force(points, k, queries=None):
    points = np.asarray(points, np.float64)
    asked = points if queries is None else np.asarray(queries, np.float64)
    rows = []
    for i, q in enumerate(asked):
        distances = np.sqrt(((points - q) ** 2).sum(axis=1)).tolist()
        away = [(d, j) for j, d in enumerate(distances) if queries is not None or i != j]
        rows.append(sorted(away)[:k])
    return [[j for _, j in row] for row in rows], [[d for d, _ in row] for row in rows]


def agree(points, k, queries=None):
    indices, distances = nearest_neighbours(points, k, queries)
    wanted_indices, wanted_distances = by_brute_force(points, k, queries)
    assert indices.dtype == np.int64 and distances.dtype == np.float64
    assert indices.tolist() == wanted_indices
    np.testing.assert_allclose(distances, wanted_distances, rtol=1e-15)


@st.composite
def crowded_points(draw):
    """Points of a small grid: many distances are equal, and many points the same."""
    width = draw(st.integers(1, 3))
    number = draw(st.integers(2, 25))
    values = draw(st.lists(st.integers(-2, 2), min_size=number * width, max_size=number * width))
    return np.array(values, np.float64).reshape(number, width)


@given(crowded_points(), st.data())
@settings(max_examples=80)
def test_ties_go_by_index(points, data):
    agree(points, data.draw(st.integers(1, len(points) - 1)))


@given(crowded_points(), st.data())
@settings(max_examples=60)
def test_queries_of_their_own(points, data):
    queries = np.array(
        data.draw(st.lists(st.tuples(*[st.integers(-3, 3)] * points.shape[1]), min_size=1, max_size=6))
    )
    agree(points, data.draw(st.integers(1, len(points))), queries)


@pytest.mark.parametrize("k", [1, 4, 8, 299])
def test_places_on_the_golden_spiral(k):
    agree(spiral_position(np.arange(1, 301)), k)


def test_places_on_the_square_spiral_have_four_neighbours_each():
    x, y = ulam_coordinates(np.arange(1, 26))
    indices, distances = nearest_neighbours(np.stack([x, y], axis=1), 4)
    assert (indices[0] + 1).tolist() == [2, 4, 6, 8]
    assert distances[0].tolist() == [1.0, 1.0, 1.0, 1.0]
    agree(np.stack([x, y], axis=1), 6)


def test_rotated_grids_tie_up_to_rounding():
    # Distances that are equal on paper differ in their last bits, and the tree rounds otherwise than the sum does.
    n = np.arange(36)
    x, y = n % 6 + 0.1, n // 6 + 0.7
    for turn in (0.3, 1.1, 2.0):
        points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=1)
        for k in (1, 3, 6):
            agree(points, k)


def test_points_that_are_all_the_same():
    indices, distances = nearest_neighbours(np.ones((6, 2)), 3)
    assert indices.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2], [0, 1, 2]]
    assert not distances.any()


def test_the_arguments_stay_as_they_are():
    points = spiral_position(np.arange(30))
    before = points.copy()
    nearest_neighbours(points, 3, points)
    np.testing.assert_array_equal(points, before)


PROGRAM = """
import sys
from cllm_lab.lattice.neighbours import nearest_neighbours
print("scipy" in sys.modules)
nearest_neighbours([[0.0], [1.0]], 1)
print("scipy" in sys.modules)
"""


def test_scipy_is_loaded_when_it_is_used():
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "True"]


@pytest.mark.parametrize(
    ("points", "k", "queries", "message"),
    [
        ([1.0, 2.0], 1, None, r"points must have shape \(number, dimensions\), got \(2,\)"),
        (np.empty((3, 0)), 1, None, "points must have shape"),
        ([[0.0], [np.nan]], 1, None, "points must be finite"),
        ([[0.0], [1.0]], 2, None, "k must be at most 1"),
        ([[0.0], [1.0]], 3, [[0.5]], "k must be at most 2"),
        ([[0.0], [1.0]], 0, None, "k must be at least 1"),
        ([[0.0], [1.0]], 1, [[0.5, 0.5]], "queries must have 1 columns"),
        ([[0.0], [1.0]], 1, [[np.inf]], "queries must be finite"),
        ([[0.0]], 1, None, "k must be at most 0"),
    ],
)
def test_wrong_arguments_are_refused(points, k, queries, message):
    with pytest.raises(ValueError, match=message):
        nearest_neighbours(points, k, queries)


def test_wrong_types_are_refused():
    with pytest.raises(TypeError, match="k must be an integer"):
        nearest_neighbours([[0.0], [1.0]], 1.0)
    for wrong in ([["a"], ["b"]], [[1j], [2j]]):
        with pytest.raises(TypeError, match="points must hold real numbers"):
            nearest_neighbours(wrong, 1)
    with pytest.raises(TypeError, match="queries must hold real numbers"):
        nearest_neighbours([[0.0], [1.0]], 1, [[True]])
