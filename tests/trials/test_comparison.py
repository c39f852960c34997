"""From results to figures, on runs written by hand."""

import pytest

from cllm_lab.trials.comparison import (
    are_identical,
    at_any_cost,
    at_equal_steps,
    at_equal_time,
    family,
    level,
    likely_ratios,
    lowest_or_none,
    steps_ratio,
    strengths,
)


def a_run(*losses, strengths=None):
    return {
        "validation": [[10 * place, loss] for place, loss in enumerate(losses)],
        "strengths": strengths or {},
        "diverged": None,
    }


BASELINE = [a_run(4.0, 3.0, 2.0), a_run(4.0, 2.0, 2.2)]
ARM = [a_run(4.0, 2.5, 1.0), a_run(4.0, 3.0, 2.0)]


def test_at_equal_steps():
    assert at_equal_steps(ARM, BASELINE) == pytest.approx([-1.0, 0.0])
    assert at_equal_steps([ARM[0], a_run()], BASELINE) is None
    assert lowest_or_none(a_run()) is None


def test_at_equal_time_a_slower_machine_makes_fewer_steps():
    assert at_equal_time(ARM, BASELINE, 20, 1.0) == at_equal_steps(ARM, BASELINE)
    assert at_equal_time(ARM, BASELINE, 20, 2.0) == pytest.approx([2.5 - 2.0, 3.0 - 2.0])
    assert at_equal_time(ARM, BASELINE, 20, 4.0) == pytest.approx([3.25 - 2.0, 3.5 - 2.0])
    assert at_equal_time(ARM, BASELINE, 20, 0.5) == pytest.approx([1.0 - 3.0, 2.0 - 2.0])


def test_the_level_and_the_steps_to_it():
    assert level(BASELINE) == pytest.approx(2.0 + 0.02 * 2.0)
    found = steps_ratio(ARM, BASELINE)
    baseline = [10 + 10 * (3.0 - 2.04) / 1.0, 10 * (4.0 - 2.04) / 2.0]
    arm = [10 + 10 * (2.5 - 2.04) / 1.5, 10 + 10 * (3.0 - 2.04) / 1.0]
    assert found["steps_ratio"] == pytest.approx((arm[0] / baseline[0] + arm[1] / baseline[1]) / 2)
    assert (found["reached"], found["baseline_reached"]) == (2, 2)


def test_a_level_that_is_not_reached_is_counted():
    never = a_run(4.0, 3.9, 3.8)
    assert steps_ratio([ARM[0], never], BASELINE) == {
        "steps_ratio": None,
        "reached": 1,
        "baseline_reached": 2,
    }
    three = steps_ratio([ARM[0], ARM[0], never], [BASELINE[0], BASELINE[0], BASELINE[0]])
    assert three["steps_ratio"] < 1.0
    assert three["reached"] == 2
    assert steps_ratio([a_run(1.0)], [a_run(1.0)])["steps_ratio"] == 1.0


def test_strengths_over_runs_and_layers():
    def tensor(start, mean, low, high):
        return {"start": {"mean": start}, "end": {"mean": mean, "min": low, "max": high}}

    runs = [a_run(1.0, strengths={"a": tensor(1.0, 0.5, -1.0, 2.0), "b": tensor(1.0, 1.5, 1.0, 3.0)})]
    assert strengths(runs) == {
        "strength_start": 1.0,
        "strength_mean": 1.0,
        "strength_min": -1.0,
        "strength_max": 3.0,
    }
    runs[0]["strengths"]["c"] = {"start": {"mean": 1.0}, "end": None}
    assert strengths(runs)["strength_max"] == 3.0
    assert set(strengths([a_run(1.0)]).values()) == {None}


def test_a_family_is_corrected_together():
    values = {
        "better": [-1.0, -1.01, -0.99, -1.0],
        "null": [0.1, -0.1, 0.1, -0.09],
        "same": [0.0] * 4,
        "gone": None,
    }
    found = family(values)
    assert {key: row["verdict"] for key, row in found.items()} == {
        "better": "better",
        "null": "no difference shown",
        "same": "no difference shown",
        "gone": "diverged",
    }
    assert found["better"]["p_corrected"] == pytest.approx(3 * found["better"]["p"])
    assert found["same"]["p"] == found["same"]["p_corrected"] == 1.0
    assert found["gone"]["effect"] is None
    assert found["null"]["detectable"] > 100 * found["better"]["detectable"] / 12
    assert family(values, {"same"})["same"]["verdict"] == "identical"
    assert family({}) == {}


def test_equal_lowest_losses_alone_make_no_machine_identical():
    """Neither comes under its loss at step 0, and only one of them ceased to be finite."""
    stuck, lost = a_run(4.0, 5.0), {**a_run(4.0), "diverged": {"step": 3, "what": "loss"}}
    assert at_equal_steps([stuck], [lost]) == [0.0]
    assert not are_identical([stuck], [lost])
    assert not are_identical([stuck], [a_run(4.0, 6.0)])
    assert not are_identical([a_run(4.0)], [lost])
    assert are_identical([stuck, lost], [stuck, lost])


def test_a_cost_whose_quartiles_hold_one_is_one():
    assert likely_ratios({"low": 0.99, "ratio": 1.02, "high": 1.04}) == (1.0, 1.0, 1.0)
    assert likely_ratios({"low": 1.01, "ratio": 1.02, "high": 1.04}) == (1.01, 1.02, 1.04)


def test_what_is_shown_at_a_cost_holds_at_all_likely_costs():
    sure, faint = [-1.0, -1.01, -0.99, -1.0], [0.1, -0.1, 0.09, -0.1]
    opposite = [-value for value in sure]
    found = at_any_cost(
        [
            {"holds": sure, "turns": sure, "fades": faint, "gone": None},
            {"holds": sure, "turns": sure, "fades": sure, "gone": None},
            {"holds": sure, "turns": opposite, "fades": sure, "gone": sure},
        ]
    )
    assert {key: row["verdict"] for key, row in found.items()} == {
        "holds": "better",
        "turns": "no difference shown",
        "fades": "no difference shown",
        "gone": "diverged",
    }
    assert found["fades"]["p_corrected"] > 0.05 > family({"a": sure})["a"]["p_corrected"]
    same = [{"same": [0.0, 0.0]}] * 3
    assert at_any_cost(same, {"same"})["same"]["verdict"] == "identical"
