"""The curves of the gradient's size by depth."""

import numpy as np
import pytest

from cllm_lab.clinic.gradient_flow import GradientFlow, Passage
from cllm_lab.views.gradient_flow import gradient_flow_curves

GROWS = GradientFlow((Passage("layers.0", 2e-2, 8e-2), Passage("layers.1", 5e-3, 2e-2)), "block")
SHRINKS = GradientFlow((Passage("layers.0", 1e-2, 0.0), Passage("layers.1", 1.0, 1e-2)), "block")
NONE = GradientFlow((Passage("layers.0", 0.0, 0.0),), "block")


def test_lines_levels_and_words() -> None:
    picture = gradient_flow_curves({"grows": GROWS, "shrinks": SHRINKS, "none": NONE}, {"a level": 1e-3})
    (axes,) = picture.axes
    assert axes.get_yscale() == "log"
    drawn = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(drawn["grows"].get_xdata(), [0, 1, 2])
    np.testing.assert_array_equal(drawn["grows"].get_ydata(), GROWS.norms)
    np.testing.assert_array_equal(drawn["shrinks"].get_ydata(), [np.nan, 1e-2, 1.0])
    assert list(drawn["a level"].get_ydata()) == [1e-3, 1e-3]
    assert picture.words.splitlines() == [
        "grows: from the last output back to the first input the gradient grows, times 4 a place.",
        "shrinks: from the last output back to the first input the gradient shrinks, times 0 a place.",
        "none: no gradient arrives.",
    ]


def test_flows_of_two_slots_or_none_are_refused() -> None:
    other = GradientFlow(GROWS.passages, "norm")
    with pytest.raises(ValueError, match="flows must be of one slot; got block, norm"):
        gradient_flow_curves({"a": GROWS, "b": other})
    with pytest.raises(ValueError, match="flows must be of one slot; got no flow"):
        gradient_flow_curves({})
