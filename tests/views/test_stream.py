"""The residual stream's norms, recomputed."""

from itertools import pairwise

import numpy as np
import pytest

from cllm_lab.views.stream import stream_figure, stream_norms
from tests.views.machines import machine


def test_stages_are_those_of_the_stream() -> None:
    acts = machine().forward([[5, 6, 7], [8, 9, 5]])
    norms = stream_norms(acts)
    expected = {
        "embedding": acts["embedding"],
        "+ positions": acts["positions"],
        "layer 0: + attention": acts["layers.0.residual1"],
        "layer 0: + feed-forward": acts["layers.0"],
        "layer 1: + attention": acts["layers.1.residual1"],
        "layer 1: + feed-forward": acts["layers.1"],
    }
    assert list(norms) == list(expected)
    for stage, x in expected.items():
        assert norms[stage] == pytest.approx(np.sqrt((x.astype(float) ** 2).sum(-1)).mean(), rel=1e-6)


def test_what_is_not_there_is_left_out() -> None:
    acts = machine(positions="none", attention="none", n_layers=1).forward([[5, 6, 7]])
    assert list(stream_norms(acts)) == ["embedding", "layer 0: + feed-forward"]


def test_bars_and_words() -> None:
    acts = machine().forward([[5, 6, 7]])
    picture = stream_figure(acts)
    values = list(stream_norms(acts).values())
    (axes,) = picture.axes
    assert [bar.get_width() for bar in axes.patches] == values
    assert [label.get_text() for label in axes.get_yticklabels()] == list(stream_norms(acts))
    grows = sum(later > earlier for earlier, later in pairwise(values))
    assert picture.words == (
        f"The stream starts at a norm of {values[0]:.2f} and ends at {values[-1]:.2f}; it grows at {grows} of 5 stages."
    )


def test_no_stream_is_refused() -> None:
    with pytest.raises(KeyError, match="no stage of a residual stream among logits"):
        stream_norms({"logits": np.zeros(3)})
