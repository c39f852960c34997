"""The bars of the parts' times."""

import pytest

from cllm_lab.clinic.part_times import PartTime
from cllm_lab.views.part_times import part_time_bars

TIMES = (
    PartTime("norm", "forward", 5, 0.001, 0),
    PartTime("norm", "backward", 5, 0.003, 0),
    PartTime("mask", "forward", 2, 0.001, 0),
    PartTime("qkv", "forward", 2, 0.005, 100),
    PartTime("qkv", "backward", 2, 0.010, 200),
)


def test_bars_are_stacked_longest_first_and_said_in_words():
    picture = part_time_bars(TIMES)
    (axes,) = picture.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["qkv (products)", "norm", "mask"]
    forward, backward = ([bar for bar in container] for container in axes.containers)
    assert [bar.get_width() for bar in forward] == pytest.approx([5.0, 1.0, 1.0])
    assert [bar.get_width() for bar in backward] == pytest.approx([10.0, 3.0, 0.0])
    assert [bar.get_x() for bar in backward] == pytest.approx([5.0, 1.0, 1.0])
    assert axes.yaxis_inverted()
    assert picture.words == (
        "A pass forward and back takes 20 ms; qkv is the longest part. Parts that make matrix products take 75% of it."
    )


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="at least one part"):
        part_time_bars(())
