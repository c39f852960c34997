"""The table of the lattice report: every arm a row, no control among them, verdicts in words."""

from cllm_lab.views.lattice_summary import lattice_summary
from tests.views.comparisons import comparison, figures, planted, row


def test_a_row_an_arm_with_its_effects_times_and_controls() -> None:
    assert lattice_summary(planted()).splitlines() == [
        "| arm | sea | land | a step's time | better than its controls too |",
        "|---|---|---|---|---|",
        "| tide | **-0.030** better | +0.002 | 1.25 to 1.25 | sea |",
        "| moon | **+0.900** worse | diverged | 1.25 to 1.25 | nowhere |",
        "| twin | identical | identical | 1.25 to 1.25 | no control |",
    ]


def test_every_control_must_be_beaten() -> None:
    found = planted()
    next(pair for pair in found.data["controls"] if pair["control"] == "tide, shuffled")["verdict"] = "worse"
    assert "| tide | **-0.030** better | +0.002 | 1.25 to 1.25 | nowhere |" in lattice_summary(found)


def test_who_beats_controls_alone_has_nothing_of_its_own() -> None:
    found = planted()
    for pair in found.data["controls"]:
        pair["verdict"] = "better"
    rows = lattice_summary(found).splitlines()
    assert [row.split(" | ")[-1] for row in rows[2:]] == ["sea |", "nowhere |", "no control |"]


def test_times_are_the_least_and_the_largest_of_the_corpora() -> None:
    effect = figures(-0.25, "no difference shown")
    found = comparison(
        [row("sea", "tide", effect, cost=2.0), row("land", "tide", effect, cost=1.125)], [], {}
    )
    assert lattice_summary(found).splitlines()[-1] == "| tide | -0.250 | -0.250 | 1.12 to 2.00 | no control |"
