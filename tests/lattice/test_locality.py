"""Orders of the vocabulary's rows: permutations, what each follows, and a machine that does not notice."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.lattice import (
    VOCABULARY_ORDERS,
    frequency_order,
    moved_rows,
    renumbered,
    spiral_angle,
    spiral_position,
    ulam_coordinates,
    vocabulary_order,
)
from cllm_lab.lattice.locality import MOST_ROWS, _along_hilbert
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.transformer import Transformer


def order_of(n, by):
    return vocabulary_order(n, by, seed=3 if by == "random" else None)


@pytest.mark.parametrize("by", VOCABULARY_ORDERS)
@pytest.mark.parametrize("n", [1, 2, 13, 611])
def test_every_order_is_a_permutation_and_the_same_every_time(n, by) -> None:
    order = order_of(n, by)
    assert order.dtype == np.int64
    assert sorted(order) == list(range(n))
    assert np.array_equal(order, order_of(n, by))


@given(st.integers(1, 3000))
def test_by_the_distance_from_the_middle_is_by_the_id(n) -> None:
    assert np.array_equal(vocabulary_order(n, "radius"), np.arange(n))


def test_the_distance_rises_with_the_id_up_to_a_million() -> None:
    place = spiral_position(np.arange(1_000_000))
    assert (np.diff(np.hypot(place[:, 0], place[:, 1])) > 0.0).all()


@pytest.mark.parametrize("by", [by for by in VOCABULARY_ORDERS if by != "radius"])
def test_no_other_order_is_the_identity(by) -> None:
    assert (order_of(611, by) != np.arange(611)).mean() > 0.9


def test_angles_and_the_rows_of_the_square_ascend() -> None:
    ids = np.arange(500)
    by_angle, by_square = (
        np.argsort(vocabulary_order(500, "angle")),
        np.argsort(vocabulary_order(500, "square")),
    )
    assert (np.diff(spiral_angle(ids)[by_angle]) > 0.0).all()
    x, y = ulam_coordinates(ids[by_square] + 1)
    assert list(zip(y, x, strict=True)) == sorted(zip(y, x, strict=True))


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_hilberts_curve_passes_every_cell_once_and_goes_to_a_neighbour(bits) -> None:
    x, y = np.array(list(product(range(2**bits), repeat=2))).T
    distance = _along_hilbert(x, y, bits)
    along = np.argsort(distance)
    assert np.array_equal(distance[along], np.arange(4**bits))
    assert (np.abs(np.diff(x[along])) + np.abs(np.diff(y[along])) == 1).all()


def test_the_curve_keeps_neighbours_of_the_plane_together() -> None:
    place = spiral_position(np.arange(5000))[:, :2]
    jump = {
        by: np.linalg.norm(np.diff(moved_rows(place, order_of(5000, by)), axis=0), axis=1).mean()
        for by in VOCABULARY_ORDERS
    }
    assert jump["curve"] < 3.0 < 0.2 * min(jump[by] for by in jump if by != "curve")


def test_a_random_order_follows_its_seed() -> None:
    assert not np.array_equal(vocabulary_order(99, "random", 1), vocabulary_order(99, "random", 2))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_by_frequency_the_counts_fall_and_equal_ones_keep_their_ids(counts) -> None:
    order = frequency_order(counts)
    pairs = [(-counts[i], i) for i in np.argsort(order)]
    assert pairs == sorted(pairs)


def test_a_text_keeps_its_sequence_and_finds_its_rows() -> None:
    tokens, table = np.array([[3, 0], [3, 2]], np.int32), np.arange(8.0).reshape(4, 2)
    order = [2, 0, 3, 1]
    assert renumbered(tokens, order).tolist() == [[1, 2], [1, 3]]
    assert np.array_equal(moved_rows(table, order)[renumbered(tokens, order)], table[tokens])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("by", VOCABULARY_ORDERS)
def test_a_machine_with_moved_rows_on_a_renumbered_text_computes_the_same(by, tied) -> None:
    config = ModelConfig(vocab_size=37, context_length=6, d_model=8, n_heads=2, n_layers=1, tied=tied)
    machine = Transformer(config, 0, "float64")
    moved = machine.copy()
    order = order_of(37, by)
    tables = {name for name in machine.params if name in ("token_embedding", "output_embedding")}
    assert len(tables) == 2 - tied
    for name in tables:
        moved.params[name][:] = moved_rows(machine.params[name], order)
    text = np.random.default_rng(0).integers(37, size=(3, 7))
    tokens, targets = text[:, :-1], text[:, 1:]
    loss, gradient = machine.gradients(tokens, targets)
    moved_loss, moved_gradient = moved.gradients(renumbered(tokens, order), renumbered(targets, order))
    assert abs(moved_loss - loss) < 1e-12
    for name in machine.params:
        expected = moved_rows(gradient[name], order) if name in tables else gradient[name]
        assert np.abs(moved_gradient[name] - expected).max() < 1e-12, name


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "n must be at least 1, got 0"),
        ((2.0,), TypeError, "n must be an integer"),
        ((MOST_ROWS + 1,), ValueError, f"n must be at most {MOST_ROWS}"),
        ((5, "spiral"), ValueError, "by must be one of radius, angle, square, curve, random; got 'spiral'"),
        (
            (5, "random"),
            ValueError,
            "seed belongs to by='random', which needs one; got by='random', seed=None",
        ),
        ((5, "angle", 0), ValueError, "got by='angle', seed=0"),
        ((5, "random", -1), ValueError, "seed must be a non-negative integer"),
    ],
)
def test_an_order_that_cannot_be_made_says_why(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        vocabulary_order(*arguments)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: renumbered([0, 1], [0, 0]), ValueError, "order must be a permutation of 0 to 1"),
        (
            lambda: renumbered([0, 1], [[0, 1]]),
            ValueError,
            r"order must have shape \(vocabulary,\).*\(1, 2\)",
        ),
        (lambda: renumbered([0, 1], []), ValueError, r"not empty; got \(0,\)"),
        (lambda: renumbered([0, 2], [1, 0]), ValueError, "tokens must be at most 1, got 2"),
        (lambda: renumbered([0.0], [0]), TypeError, "tokens must hold integers"),
        (lambda: moved_rows(np.ones((3, 2)), [1, 0]), ValueError, r"got 2 for shape \(3, 2\)"),
        (lambda: moved_rows(1.0, [0]), ValueError, r"got 1 for shape \(\)"),
        (lambda: frequency_order([1, -1]), ValueError, "counts must be at least 0"),
        (lambda: frequency_order([]), ValueError, r"counts must have shape \(vocabulary,\), got \(0,\)"),
        (lambda: frequency_order([[1]]), ValueError, r"got \(1, 1\)"),
        (lambda: frequency_order([0.5]), TypeError, "counts must hold integers"),
    ],
)
def test_what_does_not_fit_an_order_is_refused(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
