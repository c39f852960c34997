"""The map of tests against planted faults."""

import numpy as np

from cllm_lab.clinic.mutation import MutationTable
from cllm_lab.views.mutation import mutation_map

TABLE = MutationTable(
    ("weights move", "loss is the model's"),
    ("sound", "wrong-sign", "frozen"),
    np.array([[False, False, True], [False, True, False]]),
)


def test_cells_crosses_labels_and_words() -> None:
    picture = mutation_map(TABLE)
    (axes,) = picture.axes
    np.testing.assert_array_equal(axes.images[0].get_array(), TABLE.red)
    assert {text.get_position() for text in axes.texts} == {(2, 0), (1, 1)}
    assert [label.get_text() for label in axes.get_xticklabels()] == list(TABLE.machines)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(TABLE.tests)
    assert picture.words == repr(TABLE)


def test_it_fits_a_notebook() -> None:
    many = MutationTable(
        tuple(f"test {i}" for i in range(10)),
        ("sound", *(f"fault {i}" for i in range(12))),
        np.zeros((10, 13), bool),
    )
    assert mutation_map(many).get_figwidth() * 100 <= 1000
