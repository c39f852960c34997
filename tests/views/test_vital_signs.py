"""The panel: three charts of one run, and what it says where nothing moves."""

import numpy as np
import pytest

from cllm_lab.corpus.entropies import Plateaus
from cllm_lab.training.history import History
from cllm_lab.views.vital_signs import UPDATE_BAND, describe_ratio, vital_signs
from tests.views.machines import history, machine, record, trainer

PLATEAUS = Plateaus(uniform=6.0, unigram=5.0, bigram=1.0)


def drawn(axes):
    return {line.get_label(): line.get_ydata() for line in axes.lines}


def test_the_columns_of_a_real_run_are_drawn() -> None:
    run = trainer().run(steps=6)
    top, middle, bottom = vital_signs(run, PLATEAUS, title="mine").axes
    frame = run.steps
    losses = drawn(top)
    assert losses[f"loss: {run.losses[-1]:.2f}"].tolist() == run.losses
    assert losses["unigram entropy 5.00"] == [5.0, 5.0]
    assert top.get_title(loc="left") == "mine"
    for group in ("embedding", "attention", "ff", "ln"):
        assert drawn(middle)[group].tolist() == frame[f"grad_norm_{group}"].tolist()
    assert drawn(bottom)["update ratio"].tolist() == frame["update_ratio"].tolist()
    assert (middle.get_yscale(), bottom.get_yscale()) == ("log", "log")
    (band,) = bottom.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx(UPDATE_BAND)
    low, high = bottom.get_ylim()
    assert low <= UPDATE_BAND[0] and UPDATE_BAND[1] <= high


def test_a_pinned_run_says_that_everything_is_exactly_0() -> None:
    picture = vital_signs(trainer(machine(init="zeros")).run(steps=3))
    _, middle, bottom = picture.axes
    assert "exactly 0 throughout: embedding, attention, ff, ln" in [text.get_text() for text in middle.texts]
    assert "exactly 0 throughout: update ratio" in [text.get_text() for text in bottom.texts]
    assert picture.words.split("\n")[1:] == [
        "gradient norm: exactly 0 throughout for embedding, attention, ff, ln.",
        "update ratio: median 0, nothing moves.",
    ]
    picture.png()


def test_zeros_at_some_steps_are_told_apart_and_leave_a_gap() -> None:
    records = [record(1, 2.0, grad_norm_ff=0.0), record(2, 1.5), record(3, 1.0, update_ratio=np.inf)]
    picture = vital_signs(History(records, []))
    _, middle, bottom = picture.axes
    assert np.isnan(drawn(middle)["ff"][0])
    assert np.isnan(drawn(bottom)["update ratio"][2])
    assert "exactly 0 at some steps: ff" in [text.get_text() for text in middle.texts]
    assert picture.words.split("\n")[1] == (
        "gradient norm: above 0 at every step for embedding, attention, ln; exactly 0 at some steps for ff."
    )


@pytest.mark.parametrize(
    ("values", "word"), [([1e-5, 1e-5], "under"), ([1e-3, 5e-2, 1e-3], "inside"), ([0.5, 0.5], "above")]
)
def test_the_ratio_is_placed_by_its_median(values: list[float], word: str) -> None:
    assert describe_ratio(np.array(values)) == (
        f"update ratio: the median lies {word} the usual band of 1e-04 to 1e-02."
    )


def test_what_is_not_finite_is_said() -> None:
    records = [record(1, 2.0, grad_norm_ff=np.inf), record(2, 1.5, update_ratio=np.nan)]
    picture = vital_signs(History(records, []))
    assert picture.words.split("\n")[1:] == [
        "gradient norm: above 0 at every step for embedding, attention, ln; not finite at some steps for ff.",
        "update ratio: not finite at some steps.",
    ]


def test_an_empty_history_is_refused() -> None:
    with pytest.raises(ValueError, match="no steps yet"):
        vital_signs(history([]))
