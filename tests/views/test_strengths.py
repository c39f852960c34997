"""Learnt strengths: a row an arm, a line a corpus, from the least to the largest, beside 0 and the start."""

import pytest

from cllm_lab.views.strengths import strength_ranges
from tests.views.comparisons import comparison, figures, planted, row

EFFECT = figures(0.0, "no difference shown")


def learnt(corpus, arm, mean, least, largest, start=1.0):
    ends = {"strength_mean": mean, "strength_min": least, "strength_max": largest}
    return row(corpus, arm, EFFECT, strength_start=start, **ends)


FOUND = comparison(
    [
        learnt("sea", "phase", 0.75, 0.5, 1.5),
        row("sea", "fixed", EFFECT),
        learnt("sea", "gcd", 0.0, -0.25, 0.125),
        learnt("land", "phase", 2.0, 1.75, 2.5),
        row("land", "fixed", EFFECT),
        learnt("land", "gcd", 0.5, 0.25, 0.75),
    ],
    [],
    {},
)


def test_a_line_from_the_least_to_the_largest_with_its_mean_in_the_arm_s_row():
    (axes,) = strength_ranges(FOUND).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["phase", "gcd"]
    shown = [
        (round(float(line.get_ydata()[0])), line.get_marker(), [float(x) for x in line.get_xdata()])
        for line in axes.lines
        if line.get_linestyle() in ("-", "None")
    ]
    assert shown == [
        (0, "None", [0.5, 1.5]), (0, "o", [0.75]),
        (1, "None", [-0.25, 0.125]), (1, "o", [0.0]),
        (0, "None", [1.75, 2.5]), (0, "s", [2.0]),
        (1, "None", [0.25, 0.75]), (1, "s", [0.5]),
    ]  # fmt: skip
    heights = [float(line.get_ydata()[0]) for line in axes.lines if line.get_marker() in "os"]
    assert len(set(heights)) == 4


def test_reference_lines_at_the_baseline_and_at_the_start():
    def references(found):
        (axes,) = strength_ranges(found).axes
        return [float(line.get_xdata()[0]) for line in axes.lines if line.get_linestyle() == "--"]

    assert references(FOUND) == [0.0, 1.0]
    assert references(comparison([learnt("sea", "phase", 0.5, 0.5, 0.5, start=0.25)], [], {})) == [0.0, 0.25]


def test_each_corpus_has_a_colour_and_a_marker_of_its_own():
    (legend,) = strength_ranges(FOUND).legends
    assert [text.get_text() for text in legend.get_texts()] == ["sea", "land"]
    looks = {(handle.get_color(), handle.get_marker()) for handle in legend.legend_handles}
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == 2


def test_the_words_hold_the_means_and_the_extremes():
    assert strength_ranges(FOUND).words == (
        "phase: from 1 to sea 0.75, land 2.00; single heads 0.50 to 2.50.\n"
        "gcd: from 1 to sea 0.00, land 0.50; single heads -0.25 to 0.75."
    )


def test_without_strengths_there_is_nothing_to_draw():
    with pytest.raises(
        ValueError, match="no arm with strengths to learn; attention_bias with bias_learnable"
    ):
        strength_ranges(planted())
