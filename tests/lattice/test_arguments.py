"""What the files of the room accept, and what each refusal says."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.lattice.arguments import (
    finite_array,
    integer_array,
    integers,
    not_negative,
    real_array,
    require_broadcast,
    within,
)


@given(st.integers(-5, 15))
def test_a_number_between_two_bounds(value):
    if 0 <= value <= 10:
        assert within("k", value, 0, 10) == value
    else:
        bound = "least 0" if value < 0 else "most 10"
        with pytest.raises(ValueError, match=f"^k must be at {bound}, got {value}$"):
            within("k", value, 0, 10)


def test_a_number_that_is_plain_afterwards_and_a_bound_that_says_why():
    assert type(within("k", np.int16(3), 0, 3)) is int
    with pytest.raises(ValueError, match=r"^k must be at most 2 of 3 points, got 4$"):
        within("k", 4, 0, 2, " of 3 points")
    for wrong in (2.0, True, "2", None):
        with pytest.raises(TypeError, match=r"^k must be an integer, got"):
            within("k", wrong, 0, 3)


def test_numbers_that_are_not_negative():
    assert not_negative("tolerance", 0) == 0.0 and not_negative("tolerance", Fraction(1, 4)) == 0.25
    for wrong in (-1e-300, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^tolerance must be finite and at least 0, got"):
            not_negative("tolerance", wrong)
    for wrong in ("1", None, True):
        with pytest.raises(TypeError, match=r"^tolerance must be a number, got"):
            not_negative("tolerance", wrong)


@pytest.mark.parametrize(
    "values",
    [
        5,
        [1, 2],
        [[1], [2]],
        np.uint64(2**64 - 1),
        [2**63, 1],
        [2**63, -1],
        [2**64],
        np.array([1, 2], dtype=object),
    ],
)
def test_integers_of_any_size_keep_their_values(values):
    found = integers("n", values)
    assert found.tolist() == (values.tolist() if isinstance(values, (np.ndarray, np.generic)) else values)


@pytest.mark.parametrize(
    "values", [1.0, [1, 2.5], [2**63, 1.5], "1", None, True, [True], [2**64, True], [1j]]
)
def test_what_is_no_integer_is_refused(values):
    for check in (integers, lambda name, x: integer_array(name, x, 0)):
        with pytest.raises(TypeError, match=r"^n must hold integers, got dtype"):
            check("n", values)


def test_floats_in_an_array_are_not_asked_whether_they_are_whole():
    with pytest.raises(TypeError, match=r"^n must hold integers, got dtype float64"):
        integers("n", np.array([1.0]))


@given(st.integers(-(2**70), 2**70), st.integers(-100, 100), st.integers(0, 100))
def test_integer_arrays_within_bounds(value, least, width):
    most = least + width
    inside = np.array([value, least, most], dtype=object)
    if least <= value <= most:
        assert integer_array("n", inside, least, most).tolist() == [value, least, most]
        assert integer_array("n", inside, least, most).dtype == np.int64
    else:
        bound = f"least {least}" if value < least else f"most {most}"
        with pytest.raises(ValueError, match=f"^n must be at {bound}, got {value}$"):
            integer_array("n", inside, least, most)


def test_without_a_bound_int64_is_the_bound():
    assert integer_array("n", [2**63 - 1], 0).tolist() == [2**63 - 1]
    for wrong in (2**63, 2**64):
        with pytest.raises(ValueError, match=f"^n must be at most {2**63 - 1}, got {wrong}$"):
            integer_array("n", [wrong], 0)
    with pytest.raises(ValueError, match=f"^n must be at least -{2**63}, got -{2**63 + 1}$"):
        integer_array("n", [-(2**63) - 1], -(2**70))


def test_nothing_is_an_array_of_integers():
    for values, shape in (([], (0,)), ([[], []], (2, 0)), (np.empty((0, 3)), (0, 3))):
        found = integer_array("n", values, 1, 2)
        assert found.shape == shape and found.dtype == np.int64


def test_real_arrays_keep_single_precision_alone():
    assert real_array("x", np.ones(2, np.float32)).dtype == np.float32
    for values in ([1, 2], np.ones(2, np.float16), np.ones(2, np.uint8), [Fraction(1, 2)], [2**70, 1]):
        assert real_array("x", values).dtype == np.float64
    assert finite_array("x", np.ones(2, np.float32)).dtype == np.float64
    assert real_array("x", [np.nan, -np.inf]).tolist()[1] == -np.inf


@pytest.mark.parametrize("values", ["1", None, True, [1j], [1.0, None], [Fraction(1), True]])
def test_what_is_no_real_number_is_refused(values):
    for check in (real_array, finite_array):
        with pytest.raises(TypeError, match=r"^x must hold real numbers, got dtype"):
            check("x", values)


def test_what_is_not_finite_is_refused():
    for wrong in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match=r"^x must be finite, got NaN or infinity"):
            finite_array("x", [1.0, wrong])


@pytest.mark.parametrize("check", [integers, real_array])
def test_rows_of_unequal_length_are_refused(check):
    with pytest.raises(ValueError, match=r"^x must be an array; its rows have unequal lengths"):
        check("x", [[1, 2], [3]])


def test_shapes_that_broadcast():
    require_broadcast(a=(2, 1), b=(3,), c=())
    with pytest.raises(
        ValueError, match=r"^a, b and c must have shapes that broadcast; got \(2,\), \(1,\), \(3,\)$"
    ):
        require_broadcast(a=(2,), b=(1,), c=(3,))
