"""The forest plot: every effect at its place and in its verdict's look, controls beside their arms."""

import pytest

from cllm_lab.views.forest import (
    BAND_COLOUR,
    CONTROL_COLOUR,
    MARKERS,
    VERDICT_COLOURS,
    control_forest,
    effect_forest,
)
from tests.views.comparisons import comparison, figures, planted, row

ORDER = ["tide", "shuffled", "moon", "shared", "twin"]
SEA = [-0.03, 0.01, 0.9, 0.05, 0.0]


def drawn(axes):
    """row -> (marker, place, colour, face) of what stands there."""
    return {
        int(line.get_ydata()[0]): (
            line.get_marker(),
            float(line.get_xdata()[0]),
            line.get_color(),
            line.get_markerfacecolor(),
        )
        for line in axes.lines
        if len(line.get_xdata()) == 1
    }


def intervals(axes):
    ends = [line for line in axes.lines if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2]
    return {int(line.get_ydata()[0]): tuple(map(float, line.get_xdata())) for line in ends}


def test_a_panel_a_corpus_a_row_an_arm_and_each_control_after_the_last_that_it_controls():
    picture = effect_forest(planted())
    assert [axes.get_title(loc="left") for axes in picture.axes] == ["sea", "land"]
    sea, land = picture.axes
    assert [label.get_text() for label in sea.get_yticklabels()] == ORDER
    assert [label.get_text() for label in land.get_yticklabels()] == [""] * 5
    grey = [label.get_text() for label in sea.get_yticklabels() if label.get_color() == CONTROL_COLOUR]
    assert grey == ["shuffled", "shared"]
    assert sea.yaxis_inverted() and land.yaxis_inverted()


def test_effects_intervals_and_bands_stand_where_they_belong():
    sea, land = effect_forest(planted()).axes
    places = drawn(sea)
    assert {y: places[y][1] for y in (0, 1, 3, 4)} == {0: -0.03, 1: 0.01, 3: 0.05, 4: 0.0}
    ends = intervals(sea)
    for y, effect in enumerate(SEA):
        half = 0.0 if effect == 0.0 else 0.01
        assert ends[y] == pytest.approx((effect - half, effect + half))
    bands = {round(bar.get_y() + 0.5): (bar.get_x(), bar.get_width()) for bar in sea.patches}
    assert bands[0] == (-0.02, 0.04)
    assert all(bar.get_facecolor()[:3] == (float(BAND_COLOUR),) * 3 for bar in sea.patches)
    # What diverged has no figures: no interval, no band, a cross at the edge.
    assert 2 not in intervals(land)
    assert len(land.patches) == 4
    assert drawn(land)[2][0] == "X"
    assert 0.9 * land.get_xlim()[1] < drawn(land)[2][1] < land.get_xlim()[1]


def test_colour_and_marker_say_the_verdict_and_controls_are_grey():
    sea, land = effect_forest(planted()).axes
    marks = drawn(sea)
    assert marks[0] == ("o", -0.03, VERDICT_COLOURS["better"], VERDICT_COLOURS["better"])
    assert marks[1] == ("D", 0.01, CONTROL_COLOUR, "white")
    assert marks[3][0] == "s" and marks[3][2] == CONTROL_COLOUR
    assert marks[4][0] == "|"
    assert drawn(land)[0] == ("D", 0.002, VERDICT_COLOURS["no difference shown"], "white")
    assert len(set(MARKERS.values())) == len(set(map(str, VERDICT_COLOURS.values()))) == len(MARKERS)


def test_an_effect_far_outside_stands_at_the_edge_with_its_number():
    sea, _ = effect_forest(planted()).axes
    limit = sea.get_xlim()[1]
    assert sea.get_xlim()[0] == -limit
    assert 0.06 < limit < 0.2
    marker, place, colour, _ = drawn(sea)[2]
    assert (marker, colour) == (">", VERDICT_COLOURS["worse"])
    assert 0.9 * limit < place < limit
    assert [text.get_text() for text in sea.texts] == ["+0.90"]
    left = comparison([row("sea", "tide", figures(-0.9, "better"))], [], {})
    (axes,) = effect_forest(left).axes
    assert drawn(axes)[0][0] == "<" and drawn(axes)[0][1] < 0.0
    assert [text.get_text() for text in axes.texts] == ["-0.90"]


def test_at_equal_time_the_other_columns_are_drawn():
    steps, time, as_run = (effect_forest(planted(), at) for at in ("steps", "time", "time as run"))
    assert [text.get_text() for text in time.axes[0].texts] == ["+0.95"]
    assert drawn(as_run.axes[0])[0][:2] == ("D", 0.005)
    assert [picture.texts[0].get_text().split(" (")[0] for picture in (steps, time, as_run)] == [
        f"arm - baseline at equal {at}" for at in ("steps", "time", "time as run")
    ]


def test_the_legend_names_what_occurs():
    (legend,) = effect_forest(planted()).legends
    assert [text.get_text() for text in legend.get_texts()] == [
        *MARKERS, "a control", "too small to be found"
    ]  # fmt: skip
    (legend,) = effect_forest(comparison([row("sea", "tide", figures(-0.03, "better"))], [], {})).legends
    assert [text.get_text() for text in legend.get_texts()] == ["better", "too small to be found"]


def test_the_words_count_verdicts_and_name_the_largest():
    assert effect_forest(planted()).words == (
        "sea, at equal steps: 1 better (tide -0.030), 1 worse (moon +0.90), 1 identical; 0.02 nats would have been "
        "found (the median). Of 2 controls: 1 worse, 1 no difference shown.\n"
        "land, at equal steps: 0 better, 0 worse, 1 no difference shown, 1 identical, 1 diverged; 0.004 nats would "
        "have been found (the median). Of 2 controls: 2 no difference shown."
    )
    many = [row("sea", f"arm {n}", figures(0.1 * n, "worse")) for n in range(1, 7)]
    assert (
        "6 worse (arm 6 +0.60, arm 5 +0.50, arm 4 +0.40, arm 3 +0.30, ...)"
        in effect_forest(comparison(many, [], {})).words
    )


def test_arms_against_their_controls():
    picture = control_forest(planted())
    sea, land = picture.axes
    assert [label.get_text() for label in sea.get_yticklabels()] == [
        "tide - shared",
        "moon - shared",
        "tide - shuffled",
    ]
    assert drawn(sea)[0][:3] == ("o", -0.05, VERDICT_COLOURS["better"])
    assert drawn(land)[1][0] == "X"
    assert picture.words.startswith(
        "sea, against controls: 2 better (tide - shared -0.050, tide - shuffled -0.040), "
        "1 worse (moon - shared +0.85)"
    )
    assert picture.texts[0].get_text().startswith("arm - its control at equal steps")


def test_machines_that_are_all_alike_can_be_drawn():
    same = figures(0.0, "identical", half=0.0, detectable=0.0)
    picture = effect_forest(comparison([row("sea", "twin", same)], [], {}))
    assert picture.words == "sea, at equal steps: 0 better, 0 worse, 1 identical."
    picture.png()


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="at must be one of 'steps', 'time', 'time as run'; got 'epochs'"):
        effect_forest(planted(), "epochs")
    with pytest.raises(ValueError, match="at least one arm"):
        effect_forest(comparison([], [], {}))
    with pytest.raises(ValueError, match="no controls; an Arm with control_of is one"):
        control_forest(comparison([row("sea", "tide", figures(0.1, "worse"))], [], {}))
