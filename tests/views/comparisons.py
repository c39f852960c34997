"""Small comparisons of machines with planted figures, which the tests of the views share."""

from __future__ import annotations

from typing import Any

from cllm_lab.trials.result import Ablation

NOTHING = {"effect": None, "low": None, "high": None, "detectable": None, "verdict": "diverged"}
LEARNT = ("strength_start", "strength_mean", "strength_min", "strength_max")


def figures(effect: float, verdict: str, half: float = 0.01, detectable: float = 0.02) -> dict[str, Any]:
    return {
        "effect": effect,
        "low": effect - half,
        "high": effect + half,
        "detectable": detectable,
        "verdict": verdict,
    }


def row(corpus: str, arm: str, steps: dict[str, Any], **others: Any) -> dict[str, Any]:
    """The arm's row, with the same figures at equal time unless ``time`` or ``as_run`` are given."""
    alike = {"time": others.pop("time", steps), "as_run": others.pop("as_run", steps)}
    return {
        "corpus": corpus,
        "arm": arm,
        **steps,
        **{f"{prefix}_{name}": value for prefix, found in alike.items() for name, value in found.items()},
        "cost": 1.25,
        **dict.fromkeys(LEARNT),
        **others,
    }


def comparison(
    rows: list[dict[str, Any]], controls: list[dict[str, Any]], control_of: dict[str, tuple[str, ...]]
) -> Ablation:
    """The comparison with these rows; ``control_of``: control -> the arms that it controls."""
    names = ["baseline", *dict.fromkeys(one["arm"] for one in rows)]
    arms = [{"name": name, "control_of": list(control_of.get(name, ()))} for name in names]
    return Ablation({"settings": {"arms": arms}, "rows": rows, "controls": controls})


def planted() -> Ablation:
    """Two corpora, every verdict, two arms with one control, an effect far outside, a machine that diverged."""
    rows = [
        row("sea", "tide", figures(-0.03, "better"), as_run=figures(0.005, "no difference shown")),
        row("sea", "shared", figures(0.05, "worse")),
        row("sea", "moon", figures(0.9, "worse"), time=figures(0.95, "worse")),
        row("sea", "twin", figures(0.0, "identical", half=0.0, detectable=0.0)),
        row("sea", "tide, shuffled", figures(0.01, "no difference shown")),
        row("land", "tide", figures(0.002, "no difference shown", 0.001, 0.004)),
        row("land", "shared", figures(0.001, "no difference shown", 0.001, 0.004)),
        row("land", "moon", NOTHING),
        row("land", "twin", figures(0.0, "identical", half=0.0, detectable=0.0)),
        row("land", "tide, shuffled", figures(0.003, "no difference shown", 0.001, 0.004)),
    ]
    pairs = [("tide", "shared"), ("moon", "shared"), ("tide", "tide, shuffled")]
    found = {
        "sea": (figures(-0.05, "better"), figures(0.85, "worse"), figures(-0.04, "better")),
        "land": (figures(0.001, "no difference shown"), NOTHING, figures(-0.001, "no difference shown")),
    }
    controls = [
        {"corpus": corpus, "arm": arm, "control": control, **one}
        for corpus, several in found.items()
        for (arm, control), one in zip(pairs, several, strict=True)
    ]
    return comparison(rows, controls, {"shared": ("tide", "moon"), "tide, shuffled": ("tide",)})
