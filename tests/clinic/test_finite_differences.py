"""A gradient measured from the values of a function."""

import numpy as np
import pytest

from cllm_lab.clinic.finite_differences import central_differences


def test_it_is_the_gradient_of_a_smooth_function() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    gradient = central_differences(lambda moved: np.sin(moved).sum() * moved[0, 0], x)
    expected = np.cos(x) * x[0, 0]
    expected[0, 0] += np.sin(x).sum()
    np.testing.assert_allclose(gradient, expected, rtol=0.0, atol=1e-9)


def test_it_is_central_and_uses_the_step() -> None:
    # Of x^3 the central difference is 3 x^2 + h^2 exactly, a one-sided one 3 x^2 + 3 x h + h^2.
    assert central_differences(lambda x: x**3, 2.0, step=0.5) == pytest.approx(12.25, abs=1e-12)


def test_numbers_and_whole_numbers_are_taken_and_the_input_is_left_alone() -> None:
    x = np.array([1, 2])
    gradient = central_differences(lambda moved: moved @ moved, x)
    np.testing.assert_allclose(gradient, [2.0, 4.0], atol=1e-9)
    assert x.tolist() == [1, 2]
    assert central_differences(np.square, 3.0).shape == ()


def test_a_function_may_keep_what_it_was_given() -> None:
    kept = []

    def function(moved: np.ndarray) -> float:
        kept.append(moved)
        return float(moved.sum())

    central_differences(function, np.zeros(2), step=1.0)
    assert [array.tolist() for array in kept] == [[1, 0], [-1, 0], [0, 1], [0, -1]]


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one number; got an array of shape \(2,\)"):
        central_differences(lambda moved: moved, np.zeros(2))
    for step in (0.0, -1e-5, float("nan")):
        with pytest.raises(ValueError, match="step must be above 0"):
            central_differences(np.sum, np.zeros(2), step=step)
