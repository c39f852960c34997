"""The bars of the stages of a repair, and their words."""

from typing import Any

import pytest

import cllm_lab as lab
from cllm_lab.faults.repairs import Repaired
from cllm_lab.views.repairs import repair_bars

PLATEAUS = lab.load_corpus("large").plateaus()
LN_V = PLATEAUS.uniform


def stage(made: str, loss: float, moved: int) -> Repaired:
    return Repaired(tuple(made.split()), (loss,), loss, moved, 10, None)


ONE = (
    stage("", LN_V, 0),
    stage("loss", LN_V, 0),
    stage("loss weights", LN_V - 0.001, 4),
    stage("loss gradient weights", 2.0, 9),
)
OTHER = (stage("", LN_V, 0), stage("weights", LN_V, 2))


def test_a_bar_for_every_stage_named_by_what_it_adds() -> None:
    picture = repair_bars({"one": ONE, "other": OTHER}, PLATEAUS)
    left, right = picture.axes
    assert [label.get_text() for label in left.get_yticklabels()] == [
        "nothing repaired",
        "+ loss",
        "+ weights",
        "+ gradient",
    ]
    assert [label.get_text() for label in right.get_yticklabels()] == ["nothing repaired", "+ weights"]
    widths = [bar.get_width() for container in left.containers for bar in container]
    assert widths == pytest.approx([LN_V, LN_V, LN_V - 0.001, 2.0])
    hatches = [bar.get_hatch() for container in left.containers for bar in container]
    assert hatches == ["xxx", "xxx", "///", ""]
    lines = [line.get_xdata()[0] for line in left.lines]
    assert lines == [PLATEAUS.uniform, PLATEAUS.unigram, PLATEAUS.bigram]
    assert left.yaxis_inverted() and left.get_title(loc="left") == "one"
    assert "nats" in left.get_xlabel()
    picture.png()


def test_the_words() -> None:
    assert repair_bars({"one": ONE, "other": OTHER}, PLATEAUS).words.split("\n") == [
        "one: no weight moves in 2 of 4 machines; first below ln V at stage 3 (+ gradient).",
        "other: no weight moves in 1 of 2 machines; none of them learns.",
    ]


def test_a_loss_that_is_not_finite_has_no_bar() -> None:
    (axes,) = repair_bars({"one": (stage("", float("nan"), 3),)}, PLATEAUS).axes
    assert [bar.get_width() for container in axes.containers for bar in container] == [0.0]


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        ({}, "orders is empty"),
        ({"one": ()}, "'one' has no stage"),
        ({"one": (ONE[0], ONE[2])}, r"one repair more; \[\] is followed by \['loss', 'weights'\]"),
        ({"one": (ONE[1], OTHER[1])}, "one repair more"),
    ],
)
def test_what_cannot_be_drawn_is_refused(orders: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        repair_bars(orders, PLATEAUS)


def test_the_facade_leads_here() -> None:
    assert lab.repair_bars is repair_bars
