"""What is drawn is what was given."""

import numpy as np
import pytest

from cllm_lab.views.lines import line_chart

GIVEN = {"one": ([1, 2, 3], [3.0, 2.0, 1.0]), "two": ([1, 2], [0.5, np.nan])}


def chart(series=GIVEN, **settings):
    return line_chart(series, x_label="step", y_label="loss (nats)", words="two lines", **settings)


def test_lines_labels_and_words() -> None:
    picture = chart(levels={"floor": 0.25}, marks={"here": 1.5}, title="A title")
    (axes,) = picture.axes
    drawn = {line.get_label(): line for line in axes.lines}
    assert drawn["one"].get_xydata().tolist() == [[1, 3], [2, 2], [3, 1]]
    assert drawn["two"].get_ydata()[0] == 0.5
    assert drawn["floor"].get_ydata() == [0.25, 0.25]
    assert drawn["here"].get_xdata() == [1.5, 1.5]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss (nats)")
    assert axes.get_title(loc="left") == "A title"
    assert {text.get_text(): text.xy[1] for text in axes.texts} == {
        "one": 1.0,
        "two": 0.5,
        "floor": 0.25,
        "here": 1.0,
    }
    assert picture.words == "two lines"
    picture.png()


def test_everything_lies_inside_the_limits() -> None:
    (axes,) = chart(levels={"far above": 40.0}).axes
    assert axes.get_xlim() == (1, 3)
    low, high = axes.get_ylim()
    assert low < 0.5 < 40.0 < high


def test_whole_numbers_get_whole_ticks() -> None:
    (axes,) = chart().axes
    assert all(tick == round(tick) for tick in axes.get_xticks())
    (axes,) = chart({"halves": ([0.5, 1.0, 1.5], [1, 2, 3])}).axes
    assert any(tick != round(tick) for tick in axes.get_xticks())


def test_one_point_can_be_seen() -> None:
    (axes,) = chart({"alone": ([1], [2.0])}).axes
    assert axes.lines[0].get_marker() == "o"


def test_logarithmic_axes() -> None:
    (axes,) = chart({"one": ([1, 10], [1e-3, 1.0])}, log_x=True, log_y=True).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    with pytest.raises(ValueError, match="'one' has y values at or below 0"):
        chart({"one": ([1, 10], [0.0, 1.0])}, log_y=True)
    with pytest.raises(ValueError, match="'one' has x values at or below 0"):
        chart({"one": ([0, 10], [2.0, 1.0])}, log_x=True)


@pytest.mark.parametrize(
    "series",
    [{"bad": ([1, 2], [1.0])}, {"bad": ([], [])}, {"bad": ([[1]], [[1]])}],
    ids=["uneven", "empty", "2d"],
)
def test_a_series_that_cannot_be_drawn_is_named(series) -> None:
    with pytest.raises(ValueError, match="'bad' needs as many x as y values"):
        chart(series)


def test_no_series_is_refused() -> None:
    with pytest.raises(ValueError, match="series is empty"):
        chart({})
