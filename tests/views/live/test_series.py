"""Series stay small and lose nothing that matters: steps, means, extremes, the newest value."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.training.history import StepRecord
from cllm_lab.views.live.series import GROUPS, Curves, Point, RunCurves, Series

FINITE = st.floats(min_value=-1e6, max_value=1e6)
ANY = st.floats(allow_nan=True, allow_infinity=True)
MOST = st.integers(min_value=2, max_value=9)


def filled(values: list[float], most: int = 300, steps: list[int] | None = None) -> Series:
    series = Series(most)
    for step, value in zip(steps or range(1, len(values) + 1), values, strict=True):
        series.add(step, value)
    return series


def stretches(points: tuple[Point, ...], values: list[float]) -> list[list[float]]:
    return [values[point.first - 1 : point.last] for point in points]


@given(st.lists(ANY, min_size=1, max_size=200), MOST)
def test_points_cover_every_step_once_and_in_order(values: list[float], most: int) -> None:
    points = filled(values, most).points()
    covered = [step for point in points for step in range(point.first, point.last + 1)]
    assert covered == list(range(1, len(values) + 1))
    assert len(points) <= most


@given(st.lists(FINITE, min_size=1, max_size=200), MOST)
def test_means_and_extremes_are_those_of_the_stretch(values: list[float], most: int) -> None:
    points = filled(values, most).points()
    for point, stretch in zip(points, stretches(points, values), strict=True):
        assert point.mean == pytest.approx(math.fsum(stretch) / len(stretch), rel=1e-12, abs=1e-9)
        assert (point.low, point.high) == (min(stretch), max(stretch))
    weighted = math.fsum(point.mean * (point.last - point.first + 1) for point in points)
    assert weighted == pytest.approx(math.fsum(values), rel=1e-12, abs=1e-6)


@given(st.lists(st.sampled_from([1.0, 2.0, math.nan, math.inf, -math.inf]), min_size=1, max_size=100), MOST)
def test_what_is_not_finite_stays_visible_beside_the_finite_extremes(values: list[float], most: int) -> None:
    points = filled(values, most).points()
    for point, stretch in zip(points, stretches(points, values), strict=True):
        finite = [value for value in stretch if math.isfinite(value)]
        assert math.isfinite(point.mean) == (len(finite) == len(stretch))
        # sum() gives NaN and signed infinities by the same rules of arithmetic.
        expected = sum(stretch)
        if not math.isfinite(expected):
            assert math.isnan(point.mean) if math.isnan(expected) else point.mean == expected
        if finite:
            assert (point.low, point.high) == (min(finite), max(finite))
        else:
            assert math.isnan(point.low) and math.isnan(point.high)


@given(st.lists(FINITE, min_size=2, max_size=100), MOST)
def test_points_change_with_the_newest_value(values: list[float], most: int) -> None:
    before, after = filled(values[:-1], most).points(), filled(values, most).points()
    newest = after[-1]
    assert before[-1].last == len(values) - 1
    assert newest.last == len(values)
    assert newest.low <= values[-1] <= newest.high


@given(st.floats(min_value=-1e300, max_value=1e300), st.integers(1, 70), MOST)
def test_a_constant_stays_exactly_what_it_is(value: float, n: int, most: int) -> None:
    for point in filled([value] * n, most).points():
        assert point.mean == point.low == point.high == value


def test_large_values_do_not_overflow() -> None:
    (point, _) = filled([1.7e308, 1.7e308, 1.7e308, 1.7e308], most=2).points()
    assert point.mean == 1.7e308
    (point, _) = filled([1.7e308, -1.7e308, 0.0], most=2).points()
    assert point.mean == 0.0


def test_a_hundred_thousand_values_stay_few_and_even() -> None:
    series = Series()
    for step in range(1, 100_001):
        series.add(step, float(step))
    points = series.points()
    assert 150 <= len(points) <= 300
    lengths = {point.last - point.first + 1 for point in points[:-1]}
    assert lengths == {512}
    assert points[-1].last == 100_000


def test_steps_may_have_gaps() -> None:
    series = filled([3.0, 2.0, 1.0], most=2, steps=[10, 20, 45])
    assert series.points() == (Point(10, 20, 2.5, 2.0, 3.0), Point(45, 45, 1.0, 1.0, 1.0))


@pytest.mark.parametrize("second", [5, 4])
def test_a_step_that_does_not_ascend_is_refused(second: int) -> None:
    series = filled([1.0], steps=[5])
    with pytest.raises(ValueError, match=f"step must be above the one before, 5; got {second}"):
        series.add(second, 1.0)
    assert series.points() == (Point(5, 5, 1.0, 1.0, 1.0),)


def test_fewer_than_two_points_are_refused() -> None:
    with pytest.raises(ValueError, match="most must be at least 2"):
        Series(1)
    with pytest.raises(ValueError, match="most must be at least 2"):
        RunCurves(1)


def record(step: int, validation_loss: float | None = None) -> StepRecord:
    return StepRecord(
        step=step,
        epoch=1,
        loss=6.0 / step,
        learning_rate=1e-3,
        grad_norm=9.0,
        update_ratio=0.01 * step,
        grad_norm_embedding=1.0 * step,
        grad_norm_attention=2.0 * step,
        grad_norm_ff=3.0 * step,
        grad_norm_ln=4.0 * step,
        tokens=128,
        seconds=0.01,
        validation_loss=validation_loss,
    )


def test_a_run_is_collected_field_by_field() -> None:
    run = RunCurves()
    assert run.curves() == Curves(norms=dict.fromkeys(GROUPS, ()))
    run.add(record(1))
    before = run.curves()
    run.add(record(2, validation_loss=5.0))
    curves = run.curves()
    assert [point.mean for point in curves.loss] == [6.0, 3.0]
    assert [(point.first, point.mean) for point in curves.validation] == [(2, 5.0)]
    assert [point.mean for point in curves.update] == [0.01, 0.02]
    assert {group: [point.mean for point in points] for group, points in curves.norms.items()} == {
        "embedding": [1.0, 2.0],
        "attention": [2.0, 4.0],
        "ff": [3.0, 6.0],
        "ln": [4.0, 8.0],
    }
    assert len(before.loss) == 1
