"""What is read off validation curves, against curves whose answer is plain."""

import pytest

from cllm_lab.trials.curves import lowest, lowest_at, mean_curve, steps_to

CURVE = [[0, 4.0], [10, 2.0], [20, 3.0], [30, 1.0]]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(0, 4.0), (5, 3.0), (10, 2.0), (20, 2.0), (25, 1.5), (30, 1.0), (1000, 1.0), (float("inf"), 1.0)],
)
def test_lowest_within_so_many_steps(steps, expected):
    assert lowest(CURVE, steps) == pytest.approx(expected)


def test_the_step_of_the_lowest_is_the_first_of_several():
    assert lowest_at(CURVE) == 30
    assert lowest_at([[0, 4.0], [10, 1.0], [20, 1.0]]) == 10
    with pytest.raises(ValueError, match="an empty curve"):
        lowest_at([])


def test_lowest_needs_a_validation():
    for curve in ([], [[10, 2.0]]):
        with pytest.raises(ValueError, match="no validation within 5 steps"):
            lowest(curve, 5)


@pytest.mark.parametrize(
    ("level", "expected"), [(5.0, 0.0), (4.0, 0.0), (3.0, 5.0), (2.0, 10.0), (1.5, 27.5), (0.5, None)]
)
def test_steps_to_a_level(level, expected):
    assert steps_to(CURVE, level) == expected


def test_the_mean_of_curves_is_thinned_with_both_ends():
    curves = [[[step, float(step)] for step in range(0, 101, 10)], [[step, 0.0] for step in range(0, 91, 10)]]
    assert mean_curve(curves, 100) == [[step, step / 2] for step in range(0, 91, 10)]
    assert mean_curve(curves, 4) == [[0, 0.0], [30, 15.0], [60, 30.0], [90, 45.0]]
    assert mean_curve(curves[:1], 3) == [[0, 0.0], [50, 50.0], [100, 100.0]]
